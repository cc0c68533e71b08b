//! Decides how a running daemon is told to stop.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Asks [`crate::run`] to stop. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    token: CancellationToken,
}

impl Shutdown {
    /// Stops when [`Shutdown::trigger`] is called.
    pub fn new() -> Self {
        Self::default()
    }

    /// Stops at SIGTERM and SIGINT, too.
    pub fn on_signals() -> std::io::Result<Self> {
        let shutdown = Self::new();
        let token = shutdown.token.clone();
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            token.cancel();
        });
        Ok(shutdown)
    }

    pub fn trigger(&self) {
        self.token.cancel();
    }

    /// Resolves once it was triggered.
    pub async fn triggered(&self) {
        self.token.cancelled().await;
    }
}

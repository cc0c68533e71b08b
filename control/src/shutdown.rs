//! Decides how a running daemon is told to stop: once, to end well; twice, to end at once.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Asks [`crate::run`] to stop. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    asked: CancellationToken,
    insisted: CancellationToken,
}

impl Shutdown {
    /// Stops when [`Shutdown::trigger`] is called.
    pub fn new() -> Self {
        Self::default()
    }

    /// Stops at SIGTERM and SIGINT, too.
    pub fn on_signals() -> std::io::Result<Self> {
        let shutdown = Self::new();
        let told = shutdown.clone();
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        miren_log::spawn("signals", async move {
            for _ in 0..2 {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                told.trigger();
            }
        });
        Ok(shutdown)
    }

    /// The second time, whatever holds up the end is left to the next daemon.
    pub fn trigger(&self) {
        match self.asked.is_cancelled() {
            false => self.asked.cancel(),
            true => self.insisted.cancel(),
        }
    }

    /// Resolves once it was triggered.
    pub async fn triggered(&self) {
        self.asked.cancelled().await;
    }

    /// Resolves once it was triggered twice.
    pub async fn insisted(&self) {
        self.insisted.cancelled().await;
    }
}

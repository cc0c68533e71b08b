//! How firmly to stop: one signal asks, a second one insists.

use crate::failure::{Doing, Failure};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StopLevel {
    /// Nobody asked.
    Running,
    /// Drain, then end.
    Gently,
    /// End at once.
    Forced,
}

/// What the signals have asked for so far.
#[derive(Clone)]
pub struct Stop(watch::Receiver<StopLevel>);

impl Stop {
    pub fn level(&self) -> StopLevel {
        *self.0.borrow()
    }

    /// Waits until at least this much was asked for.
    pub async fn reached(&mut self, level: StopLevel) {
        if self.0.wait_for(|now| *now >= level).await.is_err() {
            // Nobody listens to signals any more, so nothing will ever be asked for.
            std::future::pending::<()>().await;
        }
    }
}

/// Listens to SIGINT and SIGTERM from now on.
pub fn listen() -> Result<Stop, Failure> {
    let what = || "listening to signals".to_owned();
    let mut interrupt = signal(SignalKind::interrupt()).doing(what)?;
    let mut terminate = signal(SignalKind::terminate()).doing(what)?;
    let (sender, receiver) = watch::channel(StopLevel::Running);
    tokio::spawn(async move {
        for level in [StopLevel::Gently, StopLevel::Forced] {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            sender.send_replace(level);
        }
        // Keeps the channel open: a closed one would look like a failure.
        sender.closed().await;
    });
    Ok(Stop(receiver))
}

#[cfg(test)]
pub(super) fn by_hand() -> (watch::Sender<StopLevel>, Stop) {
    let (sender, receiver) = watch::channel(StopLevel::Running);
    (sender, Stop(receiver))
}

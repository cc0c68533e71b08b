//! Decides how a running daemon is told to stop: once, to end well; twice, to end at once; or to make way for another build of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Asks [`crate::run`] to stop. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    asked: CancellationToken,
    insisted: CancellationToken,
    /// Whether a successor takes over what runs, whatever the settings say of an end.
    makes_way: Arc<AtomicBool>,
}

impl Shutdown {
    /// Stops when [`Shutdown::trigger`] is called.
    pub fn new() -> Self {
        Self::default()
    }

    /// Stops at SIGTERM and SIGINT, too, and makes way at SIGUSR2. That one ends releases that do not know it: as a crash, which
    /// nothing is lost by.
    pub fn on_signals() -> std::io::Result<Self> {
        let shutdown = Self::new();
        let told = shutdown.clone();
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let mut other = signal(SignalKind::user_defined2())?;
        miren_log::spawn("signals", async move {
            while !told.insisted.is_cancelled() {
                tokio::select! {
                    _ = terminate.recv() => told.trigger(),
                    _ = interrupt.recv() => told.trigger(),
                    _ = other.recv() => told.make_way(),
                }
            }
        });
        Ok(shutdown)
    }

    /// The second time, whatever holds up the end is left to the next daemon.
    pub fn trigger(&self) {
        let was_to_make_way = self.makes_way.swap(false, Ordering::SeqCst);
        match self.asked.is_cancelled() && !was_to_make_way {
            false => self.asked.cancel(),
            true => self.insisted.cancel(),
        }
    }

    /// Ends as with `on_stop = "keep"`. One that was told to stop before does that.
    pub fn make_way(&self) {
        if !self.asked.is_cancelled() {
            self.makes_way.store(true, Ordering::SeqCst);
            self.asked.cancel();
        }
    }

    /// Whether it ends for a successor.
    pub fn makes_way(&self) -> bool {
        self.makes_way.load(Ordering::SeqCst)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_makes_way_and_is_told_to_stop_stops_and_only_the_next_time_at_once() {
        let shutdown = Shutdown::new();
        shutdown.make_way();
        assert!(shutdown.asked.is_cancelled() && shutdown.makes_way());
        shutdown.trigger();
        assert!(!shutdown.makes_way() && !shutdown.insisted.is_cancelled());
        shutdown.make_way();
        assert!(!shutdown.makes_way(), "it stops already");
        shutdown.trigger();
        assert!(shutdown.insisted.is_cancelled());
    }
}

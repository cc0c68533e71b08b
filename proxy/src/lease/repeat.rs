//! What became of a sandbox whose connection broke, and what a service can pay for requests that may have ended theirs.

use miren_loader::State;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

#[cfg(test)]
mod tests;

/// How long the word of a sandbox may lag behind its connections: those of a program that its own init started are closed before
/// that init has seen it, and where the kernel writes no words control has to see it first.
pub(super) const WORD_LAG: Duration = Duration::from_millis(20);

/// Sandboxes that requests may have ended, in thousandths: what each answer of the service earns.
const EARNED: i64 = 50;
/// What can be saved up.
const SAVED: i64 = 10_000;
/// What a service has at its beginning: it loses a sandbox or two with requests in flight, and nobody notices.
const FIRST: i64 = 2_000;

/// What became of a sandbox whose connection broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Unasked: it exited, crashed or was killed; its word does not say which.
    ByItself,
    /// Control is ending it, or has.
    Stopped,
    /// It has not ended: it closed a connection.
    Runs,
    /// Its slot is another one's by now.
    Unknown,
}

impl Ended {
    /// By the word of its slot; `None` where that is about another generation.
    pub(super) fn from_word(state: Option<State>) -> Self {
        match state {
            Some(State::Dead) => Self::ByItself,
            Some(State::Draining | State::Stopping | State::Stopped) => Self::Stopped,
            Some(State::Running) => Self::Runs,
            // No generation that had requests goes back to these.
            Some(State::Free | State::Pending) | None => Self::Unknown,
        }
    }
}

/// What a service can pay for requests whose sandbox ended by itself: each such sandbox costs one, however many requests it
/// had, of which one at most ended it.
#[derive(Debug)]
pub struct Losses(AtomicI64);

impl Default for Losses {
    fn default() -> Self {
        Self(AtomicI64::new(FIRST))
    }
}

impl Losses {
    /// The service answered. Two at once may save a little more than can be saved.
    pub(super) fn earn(&self) {
        if self.0.load(Ordering::Relaxed) < SAVED {
            self.0.fetch_add(EARNED, Ordering::Relaxed);
        }
    }

    /// Takes what one sandbox costs; false if that is not there.
    pub(super) fn spend(&self) -> bool {
        let spent = |saved: i64| (saved >= 1_000).then(|| saved - 1_000);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, spent).is_ok()
    }
}

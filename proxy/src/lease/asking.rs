//! Decides when a pool asks control for leases: one exchange at a time; the next one at once, after a pause, or not at all.

use crate::request::refusal::Refusal;
use parking_lot::{Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::Notify;

#[cfg(test)]
mod tests;

/// What the one task that asks control is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Asking {
    /// There is none: nobody waits.
    #[default]
    Idle,
    /// It asks, or is about to.
    UnderWay { again: Again },
    /// Somebody waits whom the last answer did not help: it asks again in a moment.
    Pausing,
}

/// When it asks again, once it has an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Again {
    /// After a pause, if somebody waits then.
    #[default]
    IfWaited,
    /// Without a pause, if somebody waits then.
    AtOnceIfWaited,
    /// Without a pause, whoever waits: sandboxes came or went, or may have.
    Anyway,
}

impl Asking {
    /// Somebody waits, before whom nobody did if he is `first`. Says whether a task has to begin.
    pub(super) fn somebody_waits(&mut self, first: bool) -> bool {
        let (next, begins) = match *self {
            Self::Idle => (Again::AtOnceIfWaited, true),
            Self::UnderWay { again } if first => (again.max(Again::AtOnceIfWaited), false),
            // The first one ends the pause that follows an answer.
            Self::Pausing if first => (Again::AtOnceIfWaited, false),
            Self::UnderWay { .. } | Self::Pausing => return false,
        };
        *self = Self::UnderWay { again: next };
        begins
    }

    /// Control has to be asked although nobody may wait. Says whether a task has to begin.
    pub(super) fn news(&mut self) -> bool {
        let begins = *self == Self::Idle;
        *self = Self::UnderWay { again: Again::Anyway };
        begins
    }

    /// What the task does next: when it begins, has an answer, or has paused.
    pub(super) fn next(&mut self, waited: bool) -> Self {
        let again = Again::default();
        *self = match *self {
            Self::UnderWay { again: Again::Anyway } => Self::UnderWay { again },
            _ if !waited => Self::Idle,
            Self::UnderWay { again: Again::IfWaited } => Self::Pausing,
            Self::UnderWay { .. } | Self::Pausing => Self::UnderWay { again },
            Self::Idle => Self::Idle,
        };
        *self
    }
}

/// What a pool and control have to say to each other.
#[derive(Debug, Default)]
pub(super) struct Talk {
    pub(super) asking: Asking,
    /// Acquires begun and answered together: odd while one is under way.
    pub(super) exchanges: u64,
    /// Whether control's last word was that it is draining.
    pub(super) draining: bool,
    /// What control's last word was, if it was that the node cannot start sandboxes: said to those whose time is over.
    pub(super) fault: Option<Refusal>,
    /// No route leads here any more.
    pub(super) retired: bool,
}

/// The talk of one pool, of which a request that is let in at once knows nothing.
#[derive(Debug, Default)]
pub(super) struct Line {
    talk: Mutex<Talk>,
    changed: Notify,
}

impl Line {
    pub(super) fn talk(&self) -> MutexGuard<'_, Talk> {
        self.talk.lock()
    }

    /// Changes what the task does; says what `change` does.
    pub(super) fn change(&self, change: impl FnOnce(&mut Asking) -> bool) -> bool {
        let begins = change(&mut self.talk.lock().asking);
        self.changed.notify_one();
        begins
    }

    /// Control says that it is draining. Whether it had said so before.
    pub(super) fn says_draining_again(&self) -> bool {
        std::mem::replace(&mut self.talk.lock().draining, true)
    }

    /// Waits for `limit`, or until the task has something better to do.
    pub(super) async fn pause(&self, limit: Duration) {
        let better = async {
            // What was told before the pause began is looked at, and slept over.
            while self.talk.lock().asking == Asking::Pausing {
                self.changed.notified().await;
            }
        };
        let _ = tokio::time::timeout(limit, better).await;
    }
}

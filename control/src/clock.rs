//! Decides what time it is: the only place that asks, so that tests can own the answer.

use jiff::Timestamp;
use std::time::Duration;
use tokio::time::Instant;

/// Where times in records come from.
#[derive(Clone, Debug)]
pub struct Clock {
    /// None: the system's wall clock.
    followed: Option<(Timestamp, Instant)>,
}

impl Clock {
    /// The system's wall clock.
    pub fn wall() -> Self {
        Self { followed: None }
    }

    /// Follows the clock of the runtime, which a test may have paused.
    pub fn of_runtime(origin: Timestamp) -> Self {
        Self {
            followed: Some((origin, Instant::now())),
        }
    }

    pub fn now(&self) -> Timestamp {
        match self.followed {
            Some((origin, started)) => later(origin, started.elapsed()),
            None => Timestamp::now(),
        }
    }

    /// Sleeps until `at`; for ever when there is no such moment.
    pub async fn sleep_until(&self, at: Option<Timestamp>) {
        match at {
            Some(at) => tokio::time::sleep(since(at, self.now())).await,
            None => std::future::pending().await,
        }
    }
}

/// `at` plus `duration`; the end of time when that is later.
pub fn later(at: Timestamp, duration: Duration) -> Timestamp {
    at.checked_add(duration).unwrap_or(Timestamp::MAX)
}

/// How long `now` is after `then`; zero when it is before.
pub fn since(now: Timestamp, then: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(then)).unwrap_or_default()
}

//! Decides when something that happens often is said again.

use parking_lot::Mutex;
use std::time::{Duration, Instant};

/// At most one line in this time; it tells how often it happened since the last one.
const BETWEEN: Duration = Duration::from_secs(10);

/// What is said once in a while.
#[derive(Debug, Default)]
pub struct Seldom(Mutex<Since>);

#[derive(Debug, Default)]
struct Since {
    said: Option<Instant>,
    times: u64,
}

impl Seldom {
    /// It happened. `Some` when it is to be said, with how often it has happened since it was said last.
    pub fn happened(&self, now: Instant) -> Option<u64> {
        let mut since = self.0.lock();
        since.times += 1;
        if since
            .said
            .is_some_and(|said| now.saturating_duration_since(said) < BETWEEN)
        {
            return None;
        }
        since.said = Some(now);
        Some(std::mem::take(&mut since.times))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f13_what_happens_often_is_said_once_in_a_while_and_counted() {
        let (seldom, begun) = (Seldom::default(), Instant::now());
        assert_eq!(seldom.happened(begun), Some(1));
        assert_eq!(seldom.happened(begun + BETWEEN / 2), None);
        assert_eq!(seldom.happened(begun + BETWEEN - Duration::from_nanos(1)), None);
        assert_eq!(seldom.happened(begun + BETWEEN), Some(3));
    }
}

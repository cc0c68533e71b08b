//! Decides until when what is under way to a closed generation may go on: moments that never move away, told as what is left.

use crate::clock::{later, since};
use jiff::Timestamp;
use miren_api::lease::{ClosingLease, LeaseKey};
use miren_sandbox::Budgets;
use std::collections::HashMap;
use std::time::Duration;

/// The deadlines of every generation that is closed and not over. Time is an argument.
#[derive(Debug, Default)]
pub struct Closings(HashMap<LeaseKey, Until>);

#[derive(Clone, Copy, Debug)]
struct Until {
    requests: Timestamp,
    tunnels: Timestamp,
}

impl Closings {
    /// A generation is closed, perhaps once more.
    pub fn close(&mut self, key: LeaseKey, budgets: Budgets, now: Timestamp) {
        let asked = Until {
            requests: later(now, budgets.requests),
            tunnels: later(now, budgets.tunnels),
        };
        let until = self.0.entry(key).or_insert(asked);
        until.requests = until.requests.min(asked.requests);
        until.tunnels = until.tunnels.min(asked.tunnels);
    }

    /// What is left to a generation; none if it is not closed.
    pub fn left(&self, key: LeaseKey, now: Timestamp) -> Option<ClosingLease> {
        let until = self.0.get(&key)?;
        Some(ClosingLease {
            node: key.node,
            slot: key.slot,
            generation: key.generation,
            requests_ms: millis(since(until.requests, now)),
            tunnels_ms: millis(since(until.tunnels, now)),
        })
    }

    /// The generation is over.
    pub fn forget(&mut self, key: LeaseKey) {
        self.0.remove(&key);
    }
}

/// One that has begun counts: nothing is ended before its time.
fn millis(left: Duration) -> u64 {
    u64::try_from(left.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use miren_api::id::NodeId;

    const KEY: LeaseKey = LeaseKey {
        node: NodeId::FIRST,
        slot: 1,
        generation: 7,
    };

    fn budgets(requests: u64, tunnels: u64) -> Budgets {
        Budgets {
            requests: Duration::from_secs(requests),
            tunnels: Duration::from_secs(tunnels),
            grace: Duration::ZERO,
        }
    }

    fn left(closings: &Closings, now: Timestamp) -> Option<(u64, u64)> {
        let left = closings.left(KEY, now)?;
        Some((left.requests_ms, left.tunnels_ms))
    }

    #[test]
    fn a_proxy_is_told_what_is_left_and_never_less() {
        let mut closings = Closings::default();
        let begin = Timestamp::from_second(1_000).unwrap();
        assert_eq!(left(&closings, begin), None);
        closings.close(KEY, budgets(30, 60), begin);
        assert_eq!(left(&closings, begin), Some((30_000, 60_000)));
        let now = later(begin, Duration::from_micros(10_000_100));
        assert_eq!(left(&closings, now), Some((20_000, 50_000)), "a begun one counts");
        assert_eq!(
            left(&closings, later(begin, Duration::from_secs(45))),
            Some((0, 15_000))
        );
        closings.forget(KEY);
        assert_eq!(left(&closings, begin), None);
    }

    #[test]
    fn l3_closing_again_puts_nothing_off() {
        let mut closings = Closings::default();
        let begin = Timestamp::from_second(1_000).unwrap();
        closings.close(KEY, budgets(30, 60), begin);
        let now = later(begin, Duration::from_secs(10));
        closings.close(KEY, budgets(3600, 5), now);
        assert_eq!(left(&closings, now), Some((20_000, 5_000)));
    }

    #[test]
    fn l6_another_generation_of_the_slot_is_not_closed() {
        let mut closings = Closings::default();
        let now = Timestamp::from_second(1_000).unwrap();
        closings.close(KEY, budgets(0, 0), now);
        let next = LeaseKey { generation: 8, ..KEY };
        assert_eq!(closings.left(next, now), None);
        closings.forget(next);
        assert_eq!(left(&closings, now), Some((0, 0)));
    }
}

//! How long to wait before a daemon is started again.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);
/// A daemon that ran this long was healthy: the next wait is the first one again.
const HEALTHY: Duration = Duration::from_secs(10);

/// Doubles from 100 ms to 5 s, and starts over once the daemon stayed up.
#[derive(Debug, Default)]
pub struct Backoff {
    deaths: u32,
}

impl Backoff {
    /// The wait after a daemon died that had run for `ran`.
    pub fn next(&mut self, ran: Duration) -> Duration {
        if ran >= HEALTHY {
            self.deaths = 0;
        }
        let wait = FIRST.saturating_mul(2_u32.saturating_pow(self.deaths)).min(LONGEST);
        self.deaths = self.deaths.saturating_add(1);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_to_their_bound_and_start_over_after_health() {
        let mut backoff = Backoff::default();
        let quick = Duration::from_millis(5);
        let waits: Vec<u128> = (0..8).map(|_| backoff.next(quick).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(backoff.next(HEALTHY), FIRST);
        assert_eq!(backoff.next(quick), FIRST * 2);
    }
}

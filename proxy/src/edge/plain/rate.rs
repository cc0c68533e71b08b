//! How long a client may take with its body: between two bytes, in total, and at the least rate. Only time that is spent waiting for
//! the client counts: an app that reads slowly is not its fault.

use std::time::Duration;

/// What a client is granted before its rate counts: connections begin slowly.
const GRACE: Duration = Duration::from_secs(10);

/// The limits on a body.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Between two bytes.
    pub idle: Duration,
    /// All of it.
    pub total: Duration,
    /// Bytes a second, on average after [`GRACE`]; 0 is no limit.
    pub rate: u64,
}

/// How a client has done so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    waited: Duration,
    received: u64,
}

impl Pace {
    /// How long the next bytes may be waited for. Zero when they are overdue.
    pub fn patience(&self, limits: &Limits) -> Duration {
        let total = limits.total.saturating_sub(self.waited);
        let by_rate = match limits.rate {
            0 => Duration::MAX,
            rate => {
                let earned = Duration::from_millis(self.received.saturating_mul(1000) / rate);
                GRACE.saturating_add(earned).saturating_sub(self.waited)
            }
        };
        limits.idle.min(total).min(by_rate)
    }

    /// `bytes` came after waiting for so long.
    pub fn note(&mut self, waited: Duration, bytes: u64) {
        self.waited += waited;
        self.received += bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        idle: Duration::from_secs(60),
        total: Duration::from_secs(3600),
        rate: 1000,
    };

    #[test]
    fn f12_a_byte_now_and_then_is_not_enough() {
        let mut pace = Pace::default();
        for _ in 0..9 {
            pace.note(Duration::from_secs(1), 1);
        }
        assert!(pace.patience(&LIMITS) < Duration::from_millis(1100));
        pace.note(Duration::from_secs(2), 1);
        assert_eq!(pace.patience(&LIMITS), Duration::ZERO);
    }

    #[test]
    fn f12_who_sends_quickly_enough_may_go_on_until_the_total_time_is_over() {
        let mut pace = Pace::default();
        for _ in 0..3000 {
            assert!(pace.patience(&LIMITS) >= Duration::from_secs(9));
            pace.note(Duration::from_secs(1), 1000);
        }
        for _ in 0..600 {
            pace.note(Duration::from_secs(1), 1000);
        }
        assert_eq!(pace.patience(&LIMITS), Duration::ZERO);
    }

    #[test]
    fn f12_without_a_rate_only_silence_and_the_total_time_count() {
        let limits = Limits { rate: 0, ..LIMITS };
        let mut pace = Pace::default();
        pace.note(Duration::from_secs(100), 1);
        assert_eq!(pace.patience(&limits), limits.idle);
    }
}

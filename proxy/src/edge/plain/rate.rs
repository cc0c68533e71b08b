//! How long a client may take with a body, to send or to receive it: between two bytes, in total, and at the least rate. Only time that
//! is spent waiting for the client counts: an app that is slow is not its fault.

use crate::lease::Crowd;
use crate::request::Rules;
use std::time::Duration;

/// What a client is granted before its rate counts: connections begin slowly.
const GRACE: Duration = Duration::from_secs(10);
/// The most that can be earned ahead: who has sent much may not stop for long.
const MOST_EARNED: Duration = Duration::from_secs(30);

/// How long a client may do next to nothing while others wait for its place.
pub const SILENCE: Duration = Duration::from_secs(3);

/// Within so long those who wait have all had their turn, as far as that is up to clients that do not read.
const HASTE: Duration = Duration::from_secs(10);
/// What those who wait get of the time together when that is over: few of them are no reason to cut who reads, and pauses for a moment.
const LEAST: Duration = Duration::from_millis(1_250);
/// No turn is shorter: it is measured in steps of some milliseconds.
const SHORTEST_TURN: Duration = Duration::from_millis(5);

/// How long a client whose system has no room may keep its place while others wait for it: each of them is to have had its turn before
/// the last one has waited for [`HASTE`], or soon after where they are few.
pub fn turn(crowd: &Crowd) -> Duration {
    let left = (HASTE.saturating_sub(crowd.last_waits) / 2).max(LEAST);
    let turn = left.saturating_mul(crowd.places.max(1)) / crowd.waiting.max(1);
    turn.clamp(SHORTEST_TURN, SILENCE)
}

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

impl Limits {
    pub fn of_request(rules: &Rules) -> Self {
        Self {
            idle: rules.timeouts.idle,
            total: rules.timeouts.body,
            rate: rules.limits.body_rate.0,
        }
    }

    /// An answer may be as long as it likes.
    pub fn of_answer(rules: &Rules) -> Self {
        Self {
            total: Duration::MAX,
            ..Self::of_request(rules)
        }
    }
}

/// How a client has done so far.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    waited: Duration,
    /// What it may take from now on, by its rate.
    credit: Duration,
    /// Since the last look at it: waited, and received.
    lately: (Duration, u64),
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            waited: Duration::ZERO,
            credit: GRACE,
            lately: Default::default(),
        }
    }
}

impl Pace {
    /// How long the next bytes may be waited for. Zero when they are overdue.
    pub fn patience(&self, limits: &Limits) -> Duration {
        let by_rate = if limits.rate == 0 { Duration::MAX } else { self.credit };
        self.patience_of_a_stream(limits).min(by_rate)
    }

    /// As [`Pace::patience`], of a body that is being answered while it comes: its app and its client talk, and may fall silent.
    pub fn patience_of_a_stream(&self, limits: &Limits) -> Duration {
        limits.idle.min(limits.total.saturating_sub(self.waited))
    }

    /// `bytes` came, or went, after waiting for so long; `rate` is the least there may be in a second.
    pub fn note(&mut self, waited: Duration, bytes: u64, rate: u64) {
        self.waited += waited;
        let earned = Duration::from_millis(bytes.saturating_mul(1000).checked_div(rate).unwrap_or(0));
        let credit = self.credit.saturating_sub(waited).saturating_add(earned);
        self.credit = credit.min(MOST_EARNED);
        self.lately = (self.lately.0 + waited, self.lately.1 + bytes);
    }

    /// Whether it was waited for, for `window` and more since this was asked last, and less than `rate` bytes came for each second of it.
    pub fn is_silent(&mut self, window: Duration, rate: u64) -> bool {
        let (waited, bytes) = self.lately;
        if waited < window {
            return false;
        }
        self.lately = Default::default();
        bytes < rate.max(1).saturating_mul(waited.as_secs().max(1))
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
            pace.note(Duration::from_secs(1), 1, LIMITS.rate);
        }
        assert!(pace.patience(&LIMITS) < Duration::from_millis(1100));
        pace.note(Duration::from_secs(2), 1, LIMITS.rate);
        assert!(
            pace.patience(&LIMITS) <= Duration::from_millis(1),
            "what one byte earns"
        );
        assert_eq!(pace.patience_of_a_stream(&LIMITS), LIMITS.idle);
    }

    #[test]
    fn f12_who_sends_quickly_enough_may_go_on_until_the_total_time_is_over() {
        let mut pace = Pace::default();
        for _ in 0..3000 {
            assert!(pace.patience(&LIMITS) >= Duration::from_secs(9));
            pace.note(Duration::from_secs(1), 1000, LIMITS.rate);
        }
        for _ in 0..600 {
            pace.note(Duration::from_secs(1), 1000, LIMITS.rate);
        }
        assert_eq!(pace.patience(&LIMITS), Duration::ZERO);
    }

    #[test]
    fn f12_the_more_there_are_who_wait_and_the_longer_they_have_the_shorter_is_the_turn_of_who_does_not_read() {
        let turn = |waiting, places, last_waits| {
            turn(&Crowd {
                waiting,
                places,
                last_waits: Duration::from_secs(last_waits),
            })
        };
        assert_eq!(turn(1, 1, 0), SILENCE);
        assert_eq!(turn(10, 1, 0), Duration::from_millis(500));
        assert_eq!(turn(10, 1, 5), Duration::from_millis(250));
        assert_eq!(turn(10, 4, 5), Duration::from_secs(1));
        assert_eq!(turn(10, 1, 10), Duration::from_millis(125));
        assert_eq!(turn(1, 0, 10), LEAST);
        assert_eq!(turn(u32::MAX, 1, 0), SHORTEST_TURN);
    }

    #[test]
    fn f12_without_a_rate_only_silence_and_the_total_time_count() {
        let limits = Limits { rate: 0, ..LIMITS };
        let mut pace = Pace::default();
        pace.note(Duration::from_secs(100), 1, 0);
        assert_eq!(pace.patience(&limits), limits.idle);
    }

    #[test]
    fn f12_who_has_sent_much_may_not_stop_for_long() {
        let mut pace = Pace::default();
        pace.note(Duration::from_secs(1), 10_000_000, LIMITS.rate);
        assert_eq!(pace.patience(&LIMITS), MOST_EARNED);
    }

    #[test]
    fn f12_next_to_nothing_is_silence_where_others_wait() {
        let second = Duration::from_secs(1);
        let mut pace = Pace::default();
        pace.note(Duration::from_millis(800), 1, LIMITS.rate);
        assert!(!pace.is_silent(second, LIMITS.rate), "not for long enough");
        pace.note(Duration::from_millis(800), 1, LIMITS.rate);
        assert!(pace.is_silent(second, LIMITS.rate));
        pace.note(second, 1000, LIMITS.rate);
        assert!(!pace.is_silent(second, LIMITS.rate));
        pace.note(second, 0, 0);
        assert!(pace.is_silent(second, 0), "nothing at all is silence at any rate");
    }
}

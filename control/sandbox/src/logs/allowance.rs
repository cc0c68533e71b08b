//! Decides how much of what a sandbox writes is kept: what comes faster than it may is dropped, counted and said.
//!
//! Whoever writes is never held up by this: what is dropped is read all the same.

use crate::config::LogRate;
use miren_api::settings::Bytes;
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

#[cfg(test)]
mod tests;

/// Bytes that there has to be room for to keep a line. What a longer one has beyond them is owed: it is missing later.
const AHEAD: u64 = 16 << 10;

/// What was not kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dropped {
    pub lines: u64,
    /// Without the ends of the lines.
    pub bytes: u64,
}

impl Dropped {
    fn is_nothing(self) -> bool {
        self == Self::default()
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.lines += other.lines;
        self.bytes += other.bytes;
    }
}

/// What one sandbox may still write. Once that is too little for a line, nothing is kept before it is worth a second again: so there
/// is at most one word about it each second, and lines that are kept stand together.
#[derive(Debug)]
pub(super) struct Allowance {
    rate: LogRate,
    bytes: Bucket,
    lines: Bucket,
    at: Instant,
    is_over: bool,
    dropped: Dropped,
    /// Bytes of lines whose beginning was dropped, which came once that was over: said when there is something else to be said.
    rests: u64,
}

impl Allowance {
    pub(super) fn new(rate: LogRate, now: Instant) -> Self {
        Self {
            rate,
            bytes: Bucket::new(rate.bytes.0, rate.burst, AHEAD),
            lines: Bucket::new(rate.lines, rate.burst, 1),
            at: now,
            is_over: false,
            dropped: Dropped::default(),
            rests: 0,
        }
    }

    /// Lets time pass.
    pub(super) fn refill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.at);
        self.at = now;
        self.bytes.fill(passed);
        self.lines.fill(passed);
        self.is_over &= !(self.bytes.is_worth_a_second() && self.lines.is_worth_a_second());
    }

    /// Whether lines are being dropped, however short.
    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    /// Whether a line of so many bytes is kept. One that is not counts as dropped.
    pub(super) fn take(&mut self, length: u64) -> bool {
        self.is_over |= !(self.bytes.has(length.min(AHEAD)) && self.lines.has(1));
        if self.is_over {
            self.drop(Dropped {
                lines: 1,
                bytes: length,
            });
            return false;
        }
        self.bytes.take(length);
        self.lines.take(1);
        true
    }

    /// Counts what was not even looked at.
    pub(super) fn drop(&mut self, dropped: Dropped) {
        self.dropped.add(dropped);
    }

    /// Counts bytes of a line whose beginning was dropped. They alone are no reason to say anything before the next line.
    pub(super) fn drop_rest(&mut self, bytes: u64) {
        self.rests += bytes;
    }

    /// What was dropped and has not been said, once that is over.
    pub(super) fn over(&mut self) -> Option<Dropped> {
        if self.is_over {
            return None;
        }
        self.rest()
    }

    /// What was dropped and has not been said.
    pub(super) fn rest(&mut self) -> Option<Dropped> {
        self.dropped.bytes += std::mem::take(&mut self.rests);
        Some(std::mem::take(&mut self.dropped)).filter(|dropped| !dropped.is_nothing())
    }

    /// How long until there is something to be said, if nothing is written meanwhile.
    pub(super) fn wait(&self) -> Option<Duration> {
        let wait = self.bytes.until_worth_a_second().max(self.lines.until_worth_a_second());
        match (self.is_over, self.dropped.is_nothing()) {
            (true, _) => Some(wait),
            (false, false) => Some(Duration::ZERO),
            (false, true) => None,
        }
    }

    /// What the log says of it.
    pub(super) fn told(&self, Dropped { lines, bytes }: Dropped) -> String {
        let LogRate {
            bytes: Bytes(limit),
            lines: most,
            burst,
        } = self.rate;
        format!(
            "{lines} lines ({bytes} bytes) dropped: over the limit of {} or {most} lines a second, {} s of it at once",
            Bytes(limit),
            burst.as_secs()
        )
    }
}

/// Fills at a steady rate; in billionths, so that the shortest time counts.
#[derive(Debug)]
struct Bucket {
    each_second: i128,
    most: i128,
    /// What one second is worth, but never less than the largest single thing that is not owed.
    second: i128,
    /// Less than nothing where something is owed.
    left: i128,
}

const BILLION: i128 = 1_000_000_000;

impl Bucket {
    fn new(each_second: u64, burst: Duration, largest: u64) -> Self {
        let each_second = i128::from(each_second.max(1));
        let second = each_second.max(i128::from(largest)) * BILLION;
        let most = second.max(each_second.saturating_mul(nanoseconds(burst)));
        Self {
            each_second,
            most,
            second,
            left: most,
        }
    }

    fn fill(&mut self, passed: Duration) {
        let filled = nanoseconds(passed).saturating_mul(self.each_second);
        self.left = self.left.saturating_add(filled).min(self.most);
    }

    fn has(&self, count: u64) -> bool {
        self.left >= i128::from(count) * BILLION
    }

    fn take(&mut self, count: u64) {
        self.left -= i128::from(count) * BILLION;
    }

    fn is_worth_a_second(&self) -> bool {
        self.left >= self.second
    }

    fn until_worth_a_second(&self) -> Duration {
        let missing = self.second.saturating_sub(self.left).max(0).cast_unsigned();
        let wait = missing.div_ceil(self.each_second.cast_unsigned());
        Duration::from_nanos(u64::try_from(wait).unwrap_or(u64::MAX))
    }
}

fn nanoseconds(time: Duration) -> i128 {
    i128::try_from(time.as_nanos()).unwrap_or(i128::MAX)
}

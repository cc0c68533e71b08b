//! Decides when a sandbox that answers nothing has stalled, and how many of its requests may go elsewhere.
//!
//! A request that is slow beside others that are answered is the app's own affair. A sandbox that answers nothing at all,
//! for far longer than its service ever takes, is frozen or stuck: what may be repeated is sent to another one.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

#[cfg(test)]
mod tests;

/// No service is so quick that less silence means anything: one at its processor limit is held for up to a period of that limit, 100 ms,
/// twice in a row where it wakes late, and collectors of garbage and page faults take tens of milliseconds besides.
const SHORTEST: Duration = Duration::from_millis(250);
/// A service this slow is not hurried: its clients are used to waiting.
const LONGEST: Duration = Duration::from_secs(2);
/// Silence is a stall after this many times the longest recent answer.
const TIMES: u64 = 2;
/// Answers before the service's own pace is known.
const KNOWN_AFTER: u32 = 20;
/// The longest answer is remembered for one to two of these: a slow kind of request that comes now and then is no stall.
const WINDOW: Duration = Duration::from_secs(300);
/// Thousandths of a repetition that each answer earns: at most one request in ten is sent twice.
const EARNED: i64 = 100;
/// Repetitions that can be saved up.
const SAVED: i64 = 1_000;
/// Repetitions a service has at its beginning.
const FIRST: i64 = 10;
/// Stalled requests in a row after which a sandbox gets no further ones for a while.
const IN_A_ROW: u32 = 3;
/// How long, at first and at most.
const FIRST_REST: Duration = Duration::from_secs(1);
const LONGEST_REST: Duration = Duration::from_secs(16);

static STARTED: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Microseconds since this process first asked.
pub(super) fn now_us() -> u64 {
    u64::try_from(STARTED.elapsed().as_micros()).unwrap_or(u64::MAX)
}

/// How quickly a service answers, and how many of its requests may be sent again.
#[derive(Debug)]
pub struct Pace {
    answers: AtomicU32,
    /// Microseconds of the longest answer in this window, and in the one before.
    longest: [AtomicU64; 2],
    window_began: AtomicU64,
    /// Thousandths of a repetition.
    budget: AtomicI64,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            answers: AtomicU32::new(0),
            longest: Default::default(),
            window_began: AtomicU64::new(0),
            budget: AtomicI64::new(FIRST * 1_000),
        }
    }
}

impl Pace {
    /// An answer began after `took`, `now`. Two at once may lose one of the two: it is an estimate.
    pub(super) fn note(&self, took: Duration, now: u64) {
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let [current, previous] = &self.longest;
        let age = now.saturating_sub(self.window_began.load(Ordering::Relaxed));
        if Duration::from_micros(age) < WINDOW {
            current.fetch_max(took, Ordering::Relaxed);
        } else {
            self.window_began.store(now, Ordering::Relaxed);
            previous.store(current.swap(took, Ordering::Relaxed), Ordering::Relaxed);
        }
        self.answers.fetch_add(1, Ordering::Relaxed);
        if self.budget.load(Ordering::Relaxed) < SAVED * 1_000 {
            self.budget.fetch_add(EARNED, Ordering::Relaxed);
        }
    }

    /// How long a sandbox of the service may be silent; none while that is not known, or too long to matter.
    pub fn patience(&self) -> Option<Duration> {
        if self.answers.load(Ordering::Relaxed) < KNOWN_AFTER {
            return None;
        }
        let longest = self.longest.iter().map(|longest| longest.load(Ordering::Relaxed)).max();
        let longest = Duration::from_micros(longest.unwrap_or_default().saturating_mul(TIMES));
        (longest <= LONGEST).then(|| longest.max(SHORTEST))
    }

    /// Takes the right to send one request again; false if too many were.
    pub fn spend(&self) -> bool {
        let spent = |budget: i64| (budget >= 1_000).then(|| budget - 1_000);
        let taken = self.budget.fetch_update(Ordering::Relaxed, Ordering::Relaxed, spent);
        taken.is_ok()
    }
}

/// What is known about the silence of one sandbox. Times are those of [`now_us`].
#[derive(Debug, Default)]
pub(super) struct Silence {
    last_answer: AtomicU64,
    in_a_row: AtomicU32,
    rests_until: AtomicU64,
}

impl Silence {
    pub(super) fn answered(&self, now: u64) {
        self.last_answer.store(now, Ordering::Relaxed);
        if self.in_a_row.load(Ordering::Relaxed) != 0 {
            self.in_a_row.store(0, Ordering::Relaxed);
            self.rests_until.store(0, Ordering::Relaxed);
        }
    }

    /// Whether nothing was answered for `patience`.
    pub(super) fn is_longer_than(&self, patience: Duration, now: u64) -> bool {
        let silent = now.saturating_sub(self.last_answer.load(Ordering::Relaxed));
        Duration::from_micros(silent) >= patience
    }

    /// `count` requests were given up. Says whether the sandbox rests from now on.
    pub(super) fn stalled(&self, count: u32, now: u64) -> bool {
        let in_a_row = self.in_a_row.fetch_add(count, Ordering::Relaxed) + count;
        let doublings = (in_a_row / IN_A_ROW).checked_sub(1);
        let Some(doublings) = doublings else { return false };
        let rest = FIRST_REST.saturating_mul(1 << doublings.min(8)).min(LONGEST_REST);
        let until = now + u64::try_from(rest.as_micros()).unwrap_or(u64::MAX);
        self.rests_until.fetch_max(until, Ordering::Relaxed) < now
    }

    /// Whether it gets no requests now, unless there is no other sandbox.
    pub(super) fn rests(&self, now: u64) -> bool {
        let until = self.rests_until.load(Ordering::Relaxed);
        until != 0 && now < until
    }

    /// Whether it ever stalled since its last answer: reading the clock is for these only.
    pub(super) fn is_suspect(&self) -> bool {
        self.rests_until.load(Ordering::Relaxed) != 0
    }
}

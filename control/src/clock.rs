//! Decides what time it is: the only place that asks, so that tests can own the answer.
//!
//! What is waited for is measured from boot on: nobody sets that clock, and it goes on while the machine sleeps. The wall
//! clock, which anybody may set, is for what people read and for what ends on a date (ADR 0023).

use jiff::{SignedDuration, Timestamp};
use nix::time::{ClockId, clock_gettime};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

#[cfg(test)]
mod tests;

/// From this on the wall clock was set, and the machine slept: less is what lies between two questions.
const STEP: SignedDuration = SignedDuration::from_millis(100);
/// Answers to questions that took longer than this are not compared.
const AT_ONCE: Duration = Duration::from_millis(10);

/// Where all times of control come from. Cheap to clone; clones learn together that the wall clock was set.
#[derive(Clone, Debug)]
pub struct Clock {
    source: Source,
    reading: Arc<watch::Sender<Reading>>,
}

#[derive(Clone, Debug)]
enum Source {
    /// The wall clock when this process began, and the time since boot at that moment.
    System { began: Timestamp, boot: Duration },
    /// A test's: the runtime's clock, which may be paused, and by how many microseconds the wall clock was set.
    Runtime {
        began: Timestamp,
        started: Instant,
        set: Arc<AtomicI64>,
    },
}

/// What [`Clock::look`] found last. It changes when the wall clock is set, and when the machine has slept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// How far the wall clock is ahead of [`Clock::steady`].
    pub offset: SignedDuration,
    /// How long the machine has slept since it booted: timers stood still meanwhile.
    pub slept: SignedDuration,
}

impl Clock {
    /// The system's clocks.
    pub fn system() -> Self {
        let (began, boot, _) = ask();
        let source = Source::System { began, boot };
        let reading = Reading {
            offset: SignedDuration::ZERO,
            slept: slept(),
        };
        Self {
            source,
            reading: Arc::new(watch::Sender::new(reading)),
        }
    }

    /// Follows the clock of the runtime, which a test may have paused.
    pub fn of_runtime(origin: Timestamp) -> Self {
        let source = Source::Runtime {
            began: origin,
            started: Instant::now(),
            set: Arc::default(),
        };
        Self {
            source,
            reading: Arc::default(),
        }
    }

    /// The time that nobody can set: it began as the wall clock's with this process, and rises evenly from there. For
    /// what is measured and never leaves the process.
    pub fn steady(&self) -> Timestamp {
        match &self.source {
            Source::System { began, boot } => later(*began, since_boot().saturating_sub(*boot)),
            Source::Runtime { began, started, .. } => later(*began, started.elapsed()),
        }
    }

    /// The wall clock, whatever somebody has set it to: for what ends on a date.
    pub fn wall(&self) -> Timestamp {
        match &self.source {
            Source::System { .. } => Timestamp::now(),
            Source::Runtime { set, .. } => {
                shifted(self.steady(), SignedDuration::from_micros(set.load(Ordering::SeqCst)))
            }
        }
    }

    /// [`Clock::steady`] as the wall clock tells it, as far as anybody has looked. For what is shown and stored.
    pub fn now(&self) -> Timestamp {
        self.told(self.reading().offset)
    }

    /// [`Clock::steady`] for somebody who believes that the wall clock is so far ahead of it.
    pub fn told(&self, offset: SignedDuration) -> Timestamp {
        shifted(self.steady(), offset)
    }

    pub fn reading(&self) -> Reading {
        *self.reading.borrow()
    }

    /// Changes when the wall clock was set or the machine slept.
    pub fn readings(&self) -> watch::Receiver<Reading> {
        self.reading.subscribe()
    }

    /// Looks whether the wall clock was set, or the machine slept.
    pub fn look(&self) {
        let (wall, steady, slept) = match &self.source {
            Source::System { began, boot } => {
                let (wall, since, took) = ask();
                if took > AT_ONCE {
                    return;
                }
                (wall, later(*began, since.saturating_sub(*boot)), slept())
            }
            Source::Runtime { .. } => (self.wall(), self.steady(), SignedDuration::ZERO),
        };
        let offset = wall.duration_since(steady);
        self.reading.send_if_modified(|known| {
            let set = offset - known.offset;
            let is_new = set.abs() >= STEP || (slept - known.slept).abs() >= STEP;
            if set.abs() >= STEP {
                tracing::warn!(by = %set, "the wall clock was set; nothing that is waited for changes");
            }
            if is_new {
                *known = Reading { offset, slept };
            }
            is_new
        });
    }

    /// Sets the wall clock of a test, by so much.
    pub fn set_by(&self, by: SignedDuration) {
        if let Source::Runtime { set, .. } = &self.source {
            let micros = i64::try_from(by.as_micros()).unwrap_or_default();
            set.fetch_add(micros, Ordering::SeqCst);
        }
    }
}

/// The wall clock, the time since boot at the same moment, and how far apart the two may be.
fn ask() -> (Timestamp, Duration, Duration) {
    let before = since_boot();
    let wall = Timestamp::now();
    let took = since_boot().saturating_sub(before);
    (wall, before + took / 2, took)
}

fn since_boot() -> Duration {
    of(ClockId::CLOCK_BOOTTIME)
}

fn slept() -> SignedDuration {
    let monotonic = of(ClockId::CLOCK_MONOTONIC);
    SignedDuration::try_from(since_boot().saturating_sub(monotonic)).unwrap_or_default()
}

/// A clock of the kernel's. Every Linux this runs on has it.
fn of(clock: ClockId) -> Duration {
    clock_gettime(clock).map(Duration::from).unwrap_or_default()
}

/// `at` plus `duration`; the end of time when that is later.
pub fn later(at: Timestamp, duration: Duration) -> Timestamp {
    at.checked_add(duration).unwrap_or(Timestamp::MAX)
}

/// `at` moved by `by`, to the ends of time at most.
pub fn shifted(at: Timestamp, by: SignedDuration) -> Timestamp {
    let end = if by.is_negative() {
        Timestamp::MIN
    } else {
        Timestamp::MAX
    };
    at.checked_add(by).unwrap_or(end)
}

/// How long `now` is after `then`; zero when it is before.
pub fn since(now: Timestamp, then: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(then)).unwrap_or_default()
}

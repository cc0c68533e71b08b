//! What a mixed load amounted to, kind by kind.

use std::fmt;
use std::ops::Range;
use std::time::Duration;

use miren_bench::load::Report;

use super::answers::{Answer, Floor, too_old};

/// Failures of one kind that are told one by one; further ones are only counted.
const FAILURES_TOLD: usize = 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Get,
    Post,
    Upload,
    Events,
    WebSocket,
}

/// The exchanges of one kind.
#[derive(Clone, Debug)]
pub struct KindReport {
    pub kind: Kind,
    /// Ended, failed ones included.
    pub done: u64,
    pub failed: u64,
    /// The first twenty, with the time since the start of the load.
    pub failures: Vec<String>,
}

impl KindReport {
    pub(super) fn new(kind: Kind) -> Self {
        Self {
            kind,
            done: 0,
            failed: 0,
            failures: Vec::new(),
        }
    }

    pub(super) fn of_load(kind: Kind, report: &Report) -> Self {
        Self {
            kind,
            done: report.requests,
            failed: report.failed,
            failures: report
                .failures
                .iter()
                .take(FAILURES_TOLD)
                .map(ToString::to_string)
                .collect(),
        }
    }

    /// Counts one exchange, by the times of its begin and its end.
    pub(super) fn book(&mut self, times: Range<Duration>, outcome: Result<(), String>) {
        self.done += 1;
        if let Err(why) = outcome {
            self.failed += 1;
            if self.failures.len() < FAILURES_TOLD {
                let (begin, end) = (times.start.as_millis(), times.end.as_millis());
                self.failures.push(format!("at {end} ms, begun at {begin} ms: {why}"));
            }
        }
    }

    /// Adds what another client of the same kind has counted.
    pub(super) fn add(&mut self, other: Self) {
        self.done += other.done;
        self.failed += other.failed;
        self.failures.extend(other.failures);
        self.failures.truncate(FAILURES_TOLD);
    }
}

/// The sum of one mixed load.
#[derive(Clone, Debug)]
pub struct MixedReport {
    pub kinds: Vec<KindReport>,
    /// Of the GETs that did not fail, in the order received.
    pub answers: Vec<Answer>,
}

impl MixedReport {
    /// Every kind was served, and nothing failed.
    #[track_caller]
    pub fn assert_none_failed(&self) {
        let fine = |kind: &KindReport| kind.done > 0 && kind.failed == 0;
        assert!(self.kinds.len() == 5 && self.kinds.iter().all(fine), "{self}");
    }

    /// No request got an older release than `promised`, or than an answer that came before it was sent. `rank` is
    /// higher for the newer release, and none for one that must not answer at all.
    #[track_caller]
    pub fn assert_never_back(&self, promised: &[Floor], rank: impl Fn(&str) -> Option<u64>) {
        let wrong = too_old(&self.answers, promised, rank);
        let (count, some) = (wrong.len(), &wrong[..wrong.len().min(FAILURES_TOLD)]);
        assert!(wrong.is_empty(), "{count} answers are too old: {some:#?}\n{self}");
    }
}

impl fmt::Display for MixedReport {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for kind in &self.kinds {
            let name = format!("{:?}", kind.kind);
            writeln!(out, "{name:<10} {:>6} done, {} failed", kind.done, kind.failed)?;
            for failure in &kind.failures {
                writeln!(out, "  failed {failure}")?;
            }
        }
        Ok(())
    }
}

//! What a load amounted to: counts, the first failures, latencies.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use comfy_table::{Table, presets};
use hdrhistogram::Histogram;
use serde::Serialize;

/// Failures told one by one; further ones are only counted.
const FAILURES_TOLD: usize = 100;

/// How a request came to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// No connection was to be had.
    Refused,
    /// A connection kept from earlier requests ended before the answer began: HTTP lets a client send it again, if it
    /// only reads.
    ClosedKept,
    /// A new connection ended before the answer began, or any in the middle of one.
    Cut,
    /// It was answered outside 2xx.
    Status,
    /// Its check refused the answer.
    Wrong,
    /// There was no whole answer in time.
    TimedOut,
}

impl Cause {
    /// In two or three words.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::ClosedKept => "closed as it was sent",
            Self::Cut => "cut",
            Self::Status => "answered 4xx or 5xx",
            Self::Wrong => "wrong",
            Self::TimedOut => "timed out",
        }
    }
}

/// One request that failed: an answer outside 2xx, one that its check refused, or none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failure {
    pub cause: Cause,
    /// When it was meant to leave, from the start of the load.
    pub at_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// `X-Miren-Error`: why the ingress itself answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Failure {
    fn of(at: Duration, cause: Cause, outcome: Result<Answer, Lost>) -> Self {
        let (status, code, error) = match outcome {
            Ok(answer) => (Some(answer.status), answer.code, answer.wrong),
            Err(lost) => (None, None, Some(format!("{:#}", lost.error))),
        };
        Self {
            cause,
            at_ms: u64::try_from(at.as_millis()).unwrap_or(u64::MAX),
            status,
            code,
            error,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = self.status.map(|status| format!("status {status}"));
        let why: Vec<&str> = [&status, &self.code, &self.error]
            .into_iter()
            .flatten()
            .map(String::as_str)
            .collect();
        write!(out, "at {} ms: {}", self.at_ms, why.join(", "))
    }
}

/// From the time a request was meant to leave until the last byte of its answer, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Latency {
    pub p50: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
}

/// The sum of one load.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    pub requests: u64,
    pub failed: u64,
    /// Failed ones by what became of them.
    pub causes: BTreeMap<Cause, u64>,
    /// The first hundred.
    pub failures: Vec<Failure>,
    /// Answers by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Of the answers that did not fail.
    pub latency_ms: Latency,
    /// Requests a second that were asked for.
    pub rate: f64,
    pub duration_s: f64,
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table.load_preset(presets::NOTHING);
        table.set_header([
            "REQUESTS", "FAILED", "RATE/S", "P50 MS", "P99 MS", "P99.9 MS", "MAX MS", "SECONDS",
        ]);
        let latency = self.latency_ms;
        table.add_row([
            self.requests.to_string(),
            self.failed.to_string(),
            format!("{:.0}", self.rate),
            format!("{:.2}", latency.p50),
            format!("{:.2}", latency.p99),
            format!("{:.2}", latency.p999),
            format!("{:.2}", latency.max),
            format!("{:.1}", self.duration_s),
        ]);
        write!(out, "{table}")?;
        for failure in &self.failures {
            write!(out, "\nfailed {failure}")?;
        }
        Ok(())
    }
}

/// What came back for one request.
pub(super) struct Answer {
    pub status: u16,
    pub code: Option<String>,
    /// Why the check refused it.
    pub wrong: Option<String>,
}

impl Answer {
    /// None when it is in order.
    fn fault(&self) -> Option<Cause> {
        match self.status {
            200..300 => self.wrong.as_ref().map(|_| Cause::Wrong),
            _ => Some(Cause::Status),
        }
    }
}

/// A request without a whole answer.
pub(super) struct Lost {
    pub cause: Cause,
    pub error: anyhow::Error,
}

/// The running count.
#[derive(Default)]
pub(super) struct Tally {
    /// Requests that are due, taken, and ended.
    scheduled: AtomicU64,
    taken: AtomicU64,
    ended: AtomicU64,
    failed: AtomicU64,
    details: Mutex<Details>,
}

#[derive(Default)]
struct Details {
    causes: BTreeMap<Cause, u64>,
    failures: Vec<Failure>,
    statuses: BTreeMap<u16, u64>,
}

impl Tally {
    pub fn schedule(&self, total: u64) {
        self.scheduled.store(total, Ordering::Release);
    }

    /// The next request that is due; none when all have been taken.
    pub fn take(&self) -> Option<u64> {
        let index = self.taken.fetch_add(1, Ordering::AcqRel);
        (index < self.scheduled.load(Ordering::Acquire)).then_some(index)
    }

    pub fn counts(&self) -> (u64, u64) {
        (self.ended.load(Ordering::Relaxed), self.failed.load(Ordering::Relaxed))
    }

    /// Books the outcome of the request that was meant to leave at `at`; whether it was in order.
    pub fn book(&self, at: Duration, outcome: Result<Answer, Lost>) -> bool {
        let fault = match &outcome {
            Ok(answer) => answer.fault(),
            Err(lost) => Some(lost.cause),
        };
        let mut details = self.details.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(answer) = &outcome {
            *details.statuses.entry(answer.status).or_default() += 1;
        }
        if let Some(cause) = fault {
            self.failed.fetch_add(1, Ordering::Relaxed);
            *details.causes.entry(cause).or_default() += 1;
            if details.failures.len() < FAILURES_TOLD {
                details.failures.push(Failure::of(at, cause, outcome));
            }
        }
        self.ended.fetch_add(1, Ordering::Relaxed);
        fault.is_none()
    }

    pub fn report(&self, latencies: &Histogram<u64>, rate: f64, duration: Duration) -> Report {
        let (requests, failed) = self.counts();
        let details = self.details.lock().unwrap_or_else(PoisonError::into_inner);
        let millis = |quantile: f64| latencies.value_at_quantile(quantile) as f64 / 1000.0;
        Report {
            requests,
            failed,
            causes: details.causes.clone(),
            failures: details.failures.clone(),
            statuses: details.statuses.clone(),
            latency_ms: Latency {
                p50: millis(0.5),
                p99: millis(0.99),
                p999: millis(0.999),
                max: latencies.max() as f64 / 1000.0,
            },
            rate,
            duration_s: duration.as_secs_f64(),
        }
    }
}

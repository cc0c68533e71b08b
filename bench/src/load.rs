//! Open-loop load: requests leave on a fixed timetable, and latency counts from the time they were meant to leave.
//!
//! A server that stalls is charged for every request that should have been sent meanwhile: nothing is omitted in
//! coordination with it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use bytes::Bytes;
use hdrhistogram::Histogram;
use http::{HeaderValue, Method, Uri};
use tokio::sync::Semaphore;

mod check;
mod report;
mod sender;
#[cfg(test)]
mod tests;

pub use check::{Check, Seen};
pub use report::{Cause, Failure, Latency, Report};

use report::Tally;
use sender::Sender;

/// Latencies are kept from 1 µs to 10 minutes with three digits.
const HIGHEST_US: u64 = 600_000_000;

/// What to send, where, and how fast.
#[derive(Clone, Debug)]
pub struct Options {
    /// `http://ADDRESS:PORT/PATH`; the address is a number, so that no name is looked up.
    pub url: Uri,
    /// `Host` of each request; the URL's own when absent.
    pub host: Option<String>,
    pub method: Method,
    /// Further headers.
    pub headers: Vec<(http::HeaderName, HeaderValue)>,
    pub body: Bytes,
    /// Requests a second.
    pub rate: f64,
    /// None: until [`Load::stop`].
    pub duration: Option<Duration>,
    /// Connections kept alive, and so the most requests in flight.
    pub connections: usize,
    /// A request without a whole answer after this long has failed.
    pub timeout: Duration,
    /// What an answer of 2xx must be besides.
    pub check: Option<Check>,
}

impl Options {
    /// `GET url` with an answer due within 10 s, 64 connections, until stopped.
    pub fn get(url: &str, rate: f64) -> anyhow::Result<Self> {
        Ok(Self {
            url: url.parse().with_context(|| format!("reading the URL {url:?}"))?,
            host: None,
            method: Method::GET,
            headers: Vec::new(),
            body: Bytes::new(),
            rate,
            duration: None,
            connections: 64,
            timeout: Duration::from_secs(10),
            check: None,
        })
    }

    fn address(&self) -> anyhow::Result<SocketAddr> {
        let bad = || {
            anyhow!(
                "{} is not of the form http://ADDRESS:PORT/PATH with a numeric address",
                self.url
            )
        };
        if self.url.scheme_str() != Some("http") {
            return Err(bad());
        }
        let host = self
            .url
            .host()
            .and_then(|host| host.trim_matches(['[', ']']).parse().ok())
            .ok_or_else(bad)?;
        Ok(SocketAddr::new(host, self.url.port_u16().unwrap_or(80)))
    }

    fn check(&self) -> anyhow::Result<()> {
        anyhow::ensure!(
            self.rate > 0.0 && self.rate.is_finite(),
            "a rate of {} requests/s is no load",
            self.rate
        );
        anyhow::ensure!(self.connections > 0, "at least one connection is needed");
        Ok(())
    }
}

/// A load that runs in its own threads; dropped, it stops.
pub struct Load {
    shared: Arc<Shared>,
    /// Taken by whoever waits for it.
    worker: Option<JoinHandle<anyhow::Result<Report>>>,
}

/// What the pacer, the senders and the owner share.
struct Shared {
    /// One permit per request that is due.
    due: Semaphore,
    stop: AtomicBool,
    tally: Tally,
}

impl Load {
    /// Starts sending at once.
    pub fn start(options: Options) -> anyhow::Result<Self> {
        options.check()?;
        let address = options.address()?;
        let shared = Arc::new(Shared {
            due: Semaphore::new(0),
            stop: AtomicBool::new(false),
            tally: Tally::default(),
        });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("starting the load generator's runtime")?;
        let inside = shared.clone();
        let worker = thread::Builder::new()
            .name("load".into())
            .spawn(move || runtime.block_on(run(options, address, inside)))
            .context("starting the load generator's thread")?;
        Ok(Self {
            shared,
            worker: Some(worker),
        })
    }

    /// Requests answered or failed so far, and how many of them failed.
    pub fn progress(&self) -> (u64, u64) {
        self.shared.tally.counts()
    }

    /// Stops the timetable, waits for what is in flight, and sums up.
    pub fn stop(self) -> anyhow::Result<Report> {
        self.stopper()();
        self.wait()
    }

    /// Something that stops the timetable from elsewhere, such as on a signal.
    pub fn stopper(&self) -> impl Fn() + Send + 'static {
        let shared = self.shared.clone();
        move || shared.stop.store(true, Ordering::Relaxed)
    }

    /// Waits until the timetable has ended.
    pub fn wait(mut self) -> anyhow::Result<Report> {
        let worker = self.worker.take().context("a load can be waited for once")?;
        worker.join().map_err(|_| anyhow!("the load generator panicked"))?
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

async fn run(options: Options, address: SocketAddr, shared: Arc<Shared>) -> anyhow::Result<Report> {
    let options = Arc::new(options);
    let start = Instant::now();
    let timetable = Timetable {
        start,
        step: Duration::from_secs_f64(1.0 / options.rate),
    };
    let pacer = {
        let (options, shared) = (options.clone(), shared.clone());
        thread::Builder::new()
            .name("pacer".into())
            .spawn(move || pace(&options, timetable, &shared))?
    };
    let senders: Vec<_> = (0..options.connections)
        .map(|_| tokio::spawn(Sender::new(options.clone(), address, shared.clone()).run(timetable)))
        .collect();
    let mut latencies = empty_histogram()?;
    for sender in senders {
        latencies.add(sender.await.context("a sender panicked")??)?;
    }
    pacer.join().map_err(|_| anyhow!("the pacer panicked"))?;
    Ok(shared.tally.report(&latencies, options.rate, start.elapsed()))
}

fn empty_histogram() -> anyhow::Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, HIGHEST_US, 3)?)
}

/// When each request is meant to leave.
#[derive(Clone, Copy)]
struct Timetable {
    start: Instant,
    step: Duration,
}

impl Timetable {
    fn at(&self, index: u64) -> Instant {
        self.start
            + Duration::from_nanos(
                u64::try_from(self.step.as_nanos())
                    .unwrap_or(u64::MAX)
                    .saturating_mul(index),
            )
    }
}

/// Issues a permit for each request when it is due. A thread of its own: its sleep is exact to some ten microseconds,
/// a runtime's timer only to a millisecond.
fn pace(options: &Options, timetable: Timetable, shared: &Shared) {
    let end = options.duration.map(|duration| timetable.start + duration);
    for index in 0.. {
        let at = timetable.at(index);
        if end.is_some_and(|end| at >= end) || !wait_for(at, &shared.stop) {
            break;
        }
        shared.tally.schedule(index + 1);
        shared.due.add_permits(1);
    }
    // Wakes every sender once more: each finds the timetable ended and leaves.
    shared.due.add_permits(options.connections);
}

/// Sleeps until `at`; false when told to stop meanwhile.
fn wait_for(at: Instant, stop: &AtomicBool) -> bool {
    loop {
        if stop.load(Ordering::Relaxed) {
            return false;
        }
        match at.checked_duration_since(Instant::now()) {
            // Long waits are cut, so that a slow timetable stops soon too.
            Some(left) if !left.is_zero() => thread::sleep(left.min(Duration::from_millis(50))),
            _ => return true,
        }
    }
}

//! Every metric of the proxy, with its help text. Labels take values from fixed lists or from the routing snapshot only.

use crate::request::refusal::Reason;
use parking_lot::Mutex;
use prometheus::{
    Encoder, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};
use std::collections::HashSet;

/// Upper bounds of the request duration histogram, in seconds.
const DURATIONS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];
/// Status classes, by hundreds.
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// All metrics of one proxy.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    waiting: IntGaugeVec,
    leases_dropped: IntCounterVec,
    refused: IntCounterVec,
    /// Apps that have label values.
    apps: Mutex<HashSet<String>>,
    pub request_seconds: Histogram,
    pub connections: IntCounter,
    pub connections_refused: IntCounter,
    pub crowds: Crowds,
    pub open_connections: IntGauge,
    pub requests_in_flight: IntGauge,
    pub tunnels: IntGauge,
    pub upstream_new: IntCounter,
    pub upstream_reused: IntCounter,
    pub retries: IntCounter,
    pub stalls: Stalls,
    pub answers_overdue: IntCounter,
    pub drain_cuts: IntCounter,
    pub leases: IntGauge,
    pub leases_closed: IntCounter,
    pub acquires: IntCounter,
    pub control_connected: IntGauge,
    pub snapshot_generation: IntGauge,
    pub routing_gaps: IntCounter,
    pub damaged_snapshots: IntCounter,
    pub snapshot_write_errors: IntCounter,
    faults: Faults,
}

/// What went wrong in the process itself; counted where no registry is.
#[derive(Debug)]
struct Faults {
    log_lines_dropped: IntCounter,
    panics: IntCounter,
    /// Held while they are raised: two may ask at once.
    reading: Mutex<()>,
}

impl Faults {
    fn declare(declare: &Declare<'_>) -> Result<Self, prometheus::Error> {
        Ok(Self {
            log_lines_dropped: declare.counter(
                "log_lines_dropped_total",
                "Lines of the proxy's own log that could not be written.",
            )?,
            panics: declare.counter(
                "panics_total",
                "Faults of the proxy that cost a connection; others end the process.",
            )?,
            reading: Mutex::default(),
        })
    }

    fn read(&self) {
        let _alone = self.reading.lock();
        let counted = [
            (&self.log_lines_dropped, miren_log::dropped()),
            (&self.panics, miren_log::panics()),
        ];
        for (counter, count) in counted {
            counter.inc_by(count.saturating_sub(counter.get()));
        }
    }
}

/// What sandboxes that answered nothing led to.
#[derive(Debug)]
pub struct Stalls {
    /// Requests.
    pub moved: IntCounter,
    /// Sandboxes.
    pub rests: IntCounter,
}

impl Stalls {
    fn declare(declare: &Declare<'_>) -> Result<Self, prometheus::Error> {
        Ok(Self {
            moved: declare.counter(
                "stalled_requests_total",
                "Requests taken from a sandbox that answered nothing for long, to be sent to another one.",
            )?,
            rests: declare.counter(
                "sandbox_rests_total",
                "Times a sandbox got no further requests for a while since it answered nothing.",
            )?,
        })
    }
}

/// What was done where there was no room for a connection.
#[derive(Debug)]
pub struct Crowds {
    /// Connections.
    pub evicted: IntCounter,
    /// Tries.
    pub accept_errors: IntCounter,
}

impl Crowds {
    fn declare(declare: &Declare<'_>) -> Result<Self, prometheus::Error> {
        Ok(Self {
            evicted: declare.counter(
                "connections_evicted_total",
                "Client connections without a request that were closed for new ones.",
            )?,
            accept_errors: declare.counter(
                "accept_errors_total",
                "Times no client connection could be accepted for want of descriptors or memory.",
            )?,
        })
    }
}

/// The metrics of one pool, looked up once.
#[derive(Clone, Debug)]
pub struct PoolMetrics {
    requests: [IntCounter; CLASSES.len()],
    pub waiting: IntGauge,
    pub leases_dropped: IntCounter,
}

/// Name and help of each metric, for the generated reference.
///
/// # Errors
/// When two declarations clash, which no release has.
pub fn reference() -> Result<Vec<(String, String)>, prometheus::Error> {
    let metrics = Metrics::new()?;
    // Families without a value are not gathered.
    metrics.pool("app");
    let families = metrics.registry.gather();
    Ok(families
        .into_iter()
        .map(|family| (family.name().to_owned(), family.help().to_owned()))
        .collect())
}

impl PoolMetrics {
    /// Counts an answered request.
    pub fn answered(&self, status: u16) {
        let class = usize::from(status / 100).clamp(1, CLASSES.len()) - 1;
        self.requests[class].inc();
    }
}

impl Metrics {
    /// Declares everything in a registry of its own.
    ///
    /// # Errors
    /// When two declarations clash, which no release has.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let declare = Declare(&registry);
        let upstream = declare.counters(
            "upstream_connections_total",
            "Requests by the connection they were sent on.",
            "connection",
        )?;
        let refused = declare.refusals()?;
        Ok(Self {
            requests: declare.vector(
                "requests_total",
                "Requests answered, by app and status class.",
                &["app", "class"],
            )?,
            waiting: declare.gauges("waiting_requests", "Requests that wait for a sandbox with room.", "app")?,
            leases_dropped: declare.counters(
                "leases_dropped_total",
                "Leases dropped since the sandbox could not be reached.",
                "app",
            )?,
            refused,
            apps: Mutex::default(),
            request_seconds: declare.histogram(
                "request_duration_seconds",
                "Time from the head of a request to the end of its answer.",
            )?,
            connections: declare.counter("connections_total", "Client connections accepted.")?,
            connections_refused: declare.counter(
                "connections_refused_total",
                "Client connections closed at once: over limits.connections_per_ip, or all of limits.connections serve requests.",
            )?,
            crowds: Crowds::declare(&declare)?,
            open_connections: declare.gauge("open_connections", "Client connections open.")?,
            requests_in_flight: declare.gauge("requests_in_flight", "Requests being served.")?,
            tunnels: declare.gauge("tunnels", "Upgraded connections, such as WebSockets.")?,
            upstream_new: upstream.with_label_values(&["new"]),
            upstream_reused: upstream.with_label_values(&["reused"]),
            retries: declare.counter("retries_total", "Attempts after the first one of a request.")?,
            stalls: Stalls::declare(&declare)?,
            answers_overdue: declare.counter(
                "answers_overdue_total",
                "Connections cut since no answer began in time.",
            )?,
            drain_cuts: declare.counter(
                "drain_cuts_total",
                "Connections to retired sandboxes cut since the time of their requests was over.",
            )?,
            leases: declare.gauge("leases", "Leases held.")?,
            leases_closed: declare.counter(
                "leases_closed_total",
                "Leases ended since the slot word or control said so.",
            )?,
            acquires: declare.counter("acquires_total", "Times control was asked for leases.")?,
            control_connected: declare.gauge("control_connected", "1 while snapshots are followed.")?,
            snapshot_generation: declare.gauge("snapshot_generation", "Generation of the routing snapshot in use.")?,
            routing_gaps: declare.counter("routing_gaps_total", "Deltas that did not fit the table in use.")?,
            damaged_snapshots: declare.counter("damaged_snapshots_total", "Kept snapshots that could not be read.")?,
            snapshot_write_errors: declare.counter(
                "snapshot_write_errors_total",
                "Snapshots that could not be kept on disk.",
            )?,
            faults: Faults::declare(&declare)?,
            registry,
        })
    }

    /// The metrics of a pool of `app`.
    pub fn pool(&self, app: &str) -> PoolMetrics {
        self.apps.lock().insert(app.to_owned());
        PoolMetrics {
            requests: CLASSES.map(|class| self.requests.with_label_values(&[app, class])),
            waiting: self.waiting.with_label_values(&[app]),
            leases_dropped: self.leases_dropped.with_label_values(&[app]),
        }
    }

    /// Forgets apps that no route leads to any more.
    pub fn keep_only_apps(&self, is_wanted: impl Fn(&str) -> bool) {
        self.apps.lock().retain(|app| {
            let keep = is_wanted(app);
            if !keep {
                // An app without a label value has nothing to forget.
                CLASSES
                    .iter()
                    .for_each(|class| drop(self.requests.remove_label_values(&[app.as_str(), class])));
                drop(self.waiting.remove_label_values(&[app]));
                drop(self.leases_dropped.remove_label_values(&[app]));
            }
            keep
        });
    }

    /// Counts a request the proxy answered itself.
    pub fn refused(&self, reason: Reason) {
        self.refused.with_label_values(&[reason.code()]).inc();
    }

    /// Everything, in the text format.
    ///
    /// # Errors
    /// When a metric cannot be encoded.
    pub fn text(&self) -> Result<String, prometheus::Error> {
        self.faults.read();
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}

/// Declares metrics under the proxy's name.
struct Declare<'r>(&'r Registry);

impl Declare<'_> {
    fn options(name: &str, help: &str) -> Opts {
        Opts::new(name, help).namespace("miren").subsystem("proxy")
    }

    fn register<M: prometheus::core::Collector + Clone + 'static>(&self, metric: M) -> Result<M, prometheus::Error> {
        self.0.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    fn counter(&self, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
        self.register(IntCounter::with_opts(Self::options(name, help))?)
    }

    fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
        self.register(IntGauge::with_opts(Self::options(name, help))?)
    }

    fn vector(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, prometheus::Error> {
        self.register(IntCounterVec::new(Self::options(name, help), labels)?)
    }

    fn counters(&self, name: &str, help: &str, label: &str) -> Result<IntCounterVec, prometheus::Error> {
        self.vector(name, help, &[label])
    }

    /// Every code is there from the start, so that a first one is seen as an increase.
    fn refusals(&self) -> Result<IntCounterVec, prometheus::Error> {
        let refused = self.counters(
            "refused_total",
            "Requests the proxy answered itself, by error code.",
            "code",
        )?;
        for reason in Reason::ALL {
            refused.with_label_values(&[reason.code()]);
        }
        Ok(refused)
    }

    fn gauges(&self, name: &str, help: &str, label: &str) -> Result<IntGaugeVec, prometheus::Error> {
        self.register(IntGaugeVec::new(Self::options(name, help), &[label])?)
    }

    fn histogram(&self, name: &str, help: &str) -> Result<Histogram, prometheus::Error> {
        let options = HistogramOpts::from(Self::options(name, help)).buckets(DURATIONS.to_vec());
        self.register(Histogram::with_opts(options)?)
    }
}

//! Decides what control counts: every metric of the daemon, with its help text.

use miren_api::node::{NodePhase, NodeStatus};
use miren_api::resource::NodeFault;
use parking_lot::Mutex;
use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder};
use std::sync::Arc;

/// Every metric. Labels have a fixed set of values.
#[derive(Clone)]
pub struct Metrics {
    registry: Registry,
    pub apps: IntGauge,
    pub pools: IntGauge,
    pub sandboxes: IntGaugeVec,
    pub starts: IntCounter,
    pub crashes: IntCounter,
    pub deploys: IntCounterVec,
    pub previews: IntCounterVec,
    pub previews_live: IntGauge,
    pub store_errors: IntCounter,
    pub dropped_lines: IntGauge,
    pub dropped_bytes: IntGauge,
    pub node_faults: IntGaugeVec,
    pub reserve: IntGaugeVec,
    pub leases: IntGauge,
    pub proxies: IntGauge,
    pub generation: IntGauge,
    pub slots_used: IntGauge,
    pub transitions: IntGaugeVec,
    pub refused_connects: IntGauge,
    pub reset_packets: IntGauge,
    pub dropped_events: IntGauge,
    pub node: NodeGauges,
    pub own: OwnFaults,
    pub network: NetworkGauges,
}

/// What went wrong in control itself.
#[derive(Clone)]
pub struct OwnFaults {
    log_lines_dropped: IntCounter,
    panics: IntCounter,
    /// Held while they are raised: two may ask at once.
    reading: Arc<Mutex<()>>,
}

impl OwnFaults {
    fn new(make: &Maker<'_>) -> Self {
        Self {
            log_lines_dropped: make.counter(
                "miren_log_lines_dropped_total",
                "Lines of control's own log that could not be written.",
            ),
            panics: make.counter(
                "miren_panics_total",
                "Faults of control that cost a request or a deploy; others end the process.",
            ),
            reading: Arc::default(),
        }
    }

    /// Raises them to what was counted where no registry is.
    pub fn read(&self) {
        let _alone = self.reading.lock();
        let raise = |counter: &IntCounter, to: u64| counter.inc_by(to.saturating_sub(counter.get()));
        raise(&self.log_lines_dropped, miren_log::dropped());
        raise(&self.panics, miren_log::panics());
    }
}

/// What is known of the node: whether it takes work, and how far its drain is.
#[derive(Clone)]
pub struct NodeGauges {
    phase: IntGaugeVec,
    cordoned: IntGauge,
    admitted: IntGauge,
    starts: IntGauge,
    requests: IntGauge,
    tunnels: IntGauge,
    clean_ups: IntGauge,
    blockers: IntGauge,
    deadline: IntGauge,
}

impl NodeGauges {
    fn new(make: &Maker<'_>) -> Self {
        Self {
            phase: make.gauges("miren_node_phase", "1 for the phase the node is in, 0 for each other one.", "phase"),
            cordoned: make.gauge("miren_node_cordoned", "1 when nothing new is placed on the node."),
            admitted: make.gauge(
                "miren_node_admitted",
                "Deploys, previews, uploads and changes that were let in and are not over: a drain waits for them first.",
            ),
            starts: make.gauge("miren_node_starts", "Sandboxes that are being started: a drain waits for them then."),
            requests: make.gauge("miren_node_requests", "Requests in flight to sandboxes, as proxies last told, tunnels included."),
            tunnels: make.gauge("miren_node_tunnels", "WebSockets and other tunnels among them, as proxies last told."),
            clean_ups: make.gauge(
                "miren_node_clean_ups",
                "Ended sandboxes and outlets of which something is left, when a drain last looked.",
            ),
            blockers: make.gauge("miren_node_blockers", "What a drain of the node waits for now; `miren node status` names them."),
            deadline: make.gauge(
                "miren_node_drain_deadline_seconds",
                "When what is left is forced to end, or that is over, in seconds since 1970; 0: never, or no drain.",
            ),
        }
    }

    fn set_phase(&self, now: NodePhase) {
        for phase in NodePhase::ALL {
            self.phase
                .with_label_values(&[phase.as_str()])
                .set(i64::from(phase == now));
        }
    }

    /// Takes them from what is told about the node.
    pub fn set(&self, status: &NodeStatus) {
        let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        self.set_phase(status.phase);
        self.cordoned.set(i64::from(status.cordoned));
        self.admitted.set(number(status.admitted));
        self.starts.set(number(status.starts));
        self.requests.set(number(status.requests));
        self.tunnels.set(number(status.tunnels));
        self.clean_ups.set(number(status.clean_ups));
        self.blockers
            .set(number(status.blockers.len() as u64 + status.more_blockers));
        self.deadline.set(status.deadline.map_or(0, |at| at.as_second()));
    }
}

/// What is known of the network of the machine.
#[derive(Clone)]
pub struct NetworkGauges {
    pub conntrack_entries: IntGauge,
    pub conntrack_entries_max: IntGauge,
    pub rules: IntGauge,
    pub rules_restored: IntGauge,
}

impl NetworkGauges {
    fn new(make: &Maker<'_>) -> Self {
        Self {
            conntrack_entries: make.gauge(
                "miren_conntrack_entries",
                "Connections that the kernel of this machine tracks, whoever made them.",
            ),
            conntrack_entries_max: make.gauge(
                "miren_conntrack_entries_max",
                "Connections that the kernel can track; with more, packets of new ones are dropped.",
            ),
            rules: make.gauge(
                "miren_network_rules",
                "1 while the kernel has the rules that hold sandboxes and builds to network.egress.",
            ),
            rules_restored: make.gauge(
                "miren_network_rules_restored",
                "How often somebody removed or changed those rules since control started; they were put back.",
            ),
        }
    }
}

/// Name and help of each metric, for the generated reference.
pub fn reference() -> Vec<(String, String)> {
    let gathered = Metrics::new().registry.gather();
    gathered
        .into_iter()
        .map(|family| (family.name().to_owned(), family.help().to_owned()))
        .collect()
}

impl Metrics {
    pub fn new() -> Self {
        let registry = Registry::new();
        let make = Maker { registry: &registry };
        let metrics = Self {
            apps: make.gauge("miren_apps", "Apps that exist."),
            pools: make.gauge("miren_pools", "Pools, retiring ones included."),
            sandboxes: make.gauges(
                "miren_sandboxes",
                "Sandboxes by state; ended ones are kept for an hour.",
                "state",
            ),
            starts: make.counter("miren_sandbox_starts_total", "Sandboxes that were started."),
            crashes: make.counter("miren_sandbox_crashes_total", "Deaths that counted as crashes."),
            deploys: make.counters("miren_deploys_total", "Deploys that ended, by how.", "status"),
            previews: make.counters(
                "miren_previews_total",
                "Previews that were asked for, by how that ended.",
                "status",
            ),
            previews_live: make.gauge("miren_previews", "Previews that can be reached."),
            store_errors: make.counter(
                "miren_store_errors_total",
                "Writes to the store that failed and were tried again.",
            ),
            dropped_lines: make.gauge("miren_log_dropped_lines", "Lines that came too fast and are in no log."),
            dropped_bytes: make.gauge("miren_log_dropped_bytes", "Bytes of lines that are in no log."),
            node_faults: make.gauges(
                "miren_node_faults",
                "Pools that cannot start sandboxes, and deploys that cannot get their images, because of the node, by what is wrong with it. Not zero: somebody has to look.",
                "fault",
            ),
            reserve: make.gauges(
                "miren_reserve_bytes",
                "Room kept for what control itself writes, by folder; 0 of data: the disk is full or nearly.",
                "folder",
            ),
            leases: make.gauge("miren_leases", "Leases that proxies hold."),
            proxies: make.gauge("miren_proxies", "Proxies that are alive."),
            generation: make.gauge("miren_routing_generation", "Generation of the newest routing snapshot."),
            slots_used: make.gauge("miren_slots_used", "Slots that are not free."),
            transitions: make.gauges(
                "miren_slot_transitions",
                "Changes of slot words, by who made them.",
                "by",
            ),
            refused_connects: make.gauge("miren_refused_connects", "Connections that the connect hook refused."),
            reset_packets: make.gauge(
                "miren_reset_packets",
                "Segments that the packet hook answered with RST.",
            ),
            dropped_events: make.gauge("miren_dropped_slot_events", "Slot events that found their ring full."),
            node: NodeGauges::new(&make),
            own: OwnFaults::new(&make),
            network: NetworkGauges::new(&make),
            registry: registry.clone(),
        };
        metrics.begin_at_zero();
        metrics
    }

    /// Nothing that may be counted is absent until it is.
    fn begin_at_zero(&self) {
        for state in ["PENDING", "RUNNING", "DRAINING", "STOPPING", "STOPPED", "DEAD"] {
            self.sandboxes.with_label_values(&[state]).set(0);
        }
        for status in ["SUCCEEDED", "FAILED", "SUPERSEDED"] {
            self.deploys.with_label_values(&[status]).inc_by(0);
        }
        for status in ["made", "failed"] {
            self.previews.with_label_values(&[status]).inc_by(0);
        }
        for fault in NodeFault::ALL {
            self.node_faults.with_label_values(&[fault.as_str()]).set(0);
        }
        self.reserve.with_label_values(&["data"]).set(0);
        self.node.set_phase(NodePhase::Active);
        for by in ["kernel", "control"] {
            self.transitions.with_label_values(&[by]).set(0);
        }
    }

    /// The text form that Prometheus reads.
    pub fn text(&self) -> String {
        TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .unwrap_or_else(|error| format!("# {error}\n"))
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

struct Maker<'r> {
    registry: &'r Registry,
}

/// Names are literals of this file: a wrong or doubled one fails every test that makes the metrics.
const LITERAL: &str = "a metric of this file is declared correctly and once";

impl Maker<'_> {
    fn gauge(&self, name: &str, help: &str) -> IntGauge {
        let gauge = IntGauge::new(name, help).expect(LITERAL);
        self.registry.register(Box::new(gauge.clone())).expect(LITERAL);
        gauge
    }

    fn gauges(&self, name: &str, help: &str, label: &str) -> IntGaugeVec {
        let gauges = IntGaugeVec::new(Opts::new(name, help), &[label]).expect(LITERAL);
        self.registry.register(Box::new(gauges.clone())).expect(LITERAL);
        gauges
    }

    fn counter(&self, name: &str, help: &str) -> IntCounter {
        let counter = IntCounter::new(name, help).expect(LITERAL);
        self.registry.register(Box::new(counter.clone())).expect(LITERAL);
        counter
    }

    fn counters(&self, name: &str, help: &str, label: &str) -> IntCounterVec {
        let counters = IntCounterVec::new(Opts::new(name, help), &[label]).expect(LITERAL);
        self.registry.register(Box::new(counters.clone())).expect(LITERAL);
        counters
    }
}

//! What finding the target of a host costs, among many routes and labels, beside looking through all of them.
//!
//! `cargo bench --workspace --exclude miren-programs --bench routing`

use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use jiff::Timestamp;
use miren_api::routing::{AppRouting, EphemeralRoute, RouteDestination, RouteRule, RoutingDelta, RoutingSnapshot};
use miren_api::{AppName, VersionId};
use miren_proxy::{RouteTable, SnapshotStore};
use nix::time::{ClockId, clock_gettime};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::hint::black_box;
use std::time::Duration;

const ROUTES: usize = 100_000;
const WILDCARDS: usize = 100;
/// Ten each, as many as an app may have.
const LABELLED_APPS: usize = 1_000;
const LABELS: usize = 10;
/// Enough of them that they are not all in the processor's cache.
const HOSTS: usize = 100_000;

criterion_group! {
    name = routing;
    config = Criterion::default().with_measurement(Spent(WallTime));
    targets = lookups, deltas, keeping
}
criterion_main!(routing);

/// The processor's time of this thread: what others do meanwhile does not count, but for what they do to the caches.
struct Spent(WallTime);

impl Measurement for Spent {
    type Intermediate = Duration;
    type Value = Duration;

    fn start(&self) -> Duration {
        clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("a clock").into()
    }

    fn end(&self, begun: Duration) -> Duration {
        self.start() - begun
    }

    fn add(&self, one: &Duration, other: &Duration) -> Duration {
        *one + *other
    }

    fn zero(&self) -> Duration {
        Duration::ZERO
    }

    fn to_f64(&self, value: &Duration) -> f64 {
        self.0.to_f64(value)
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        self.0.formatter()
    }
}

fn lookups(criterion: &mut Criterion<Spent>) {
    let snapshot = snapshot(ROUTES);
    let table = RouteTable::new(&snapshot);
    let now = Timestamp::from_second(1).expect("a time");
    for (name, hosts) in &cases() {
        let mut group = criterion.benchmark_group(*name);
        let mut next = hosts.iter().cycle();
        let mut next = || next.next().expect("there are hosts");
        group.bench_function(BenchmarkId::from_parameter("table"), |bencher| {
            bencher.iter(|| black_box(table.resolve(next(), now)).is_ok())
        });
        // One takes as long as ten thousand of the others.
        group.sample_size(10).measurement_time(Duration::from_secs(1));
        group.bench_function(BenchmarkId::from_parameter("looking through"), |bencher| {
            bencher.iter(|| black_box(look_through(&snapshot, next(), now)))
        });
        group.finish();
    }
}

fn cases() -> [(&'static str, Vec<String>); 5] {
    let mut random = StdRng::seed_from_u64(1);
    let mut picked = |below: usize| random.random_range(0..below);
    [
        ("exact", several(|| host(picked(ROUTES)))),
        (
            "label",
            several(|| format!("pr{}.{}", picked(LABELS), host(picked(LABELLED_APPS)))),
        ),
        (
            "wildcard",
            several(|| format!("a{}.wild{}.example.net", picked(9999), picked(WILDCARDS))),
        ),
        (
            "label of wildcard",
            several(|| format!("pr1.a{}.wild{}.example.net", picked(9999), picked(WILDCARDS))),
        ),
        (
            "no route",
            several(|| format!("a{}.elsewhere.example.com", picked(99_999))),
        ),
    ]
}

fn several(mut make: impl FnMut() -> String) -> Vec<String> {
    (0..HOSTS).map(|_| make()).collect()
}

/// One app's labels change, where each app has one host, and where one has all of them.
fn deltas(criterion: &mut Criterion<Spent>) {
    let mut group = criterion.benchmark_group("delta with one app's labels");
    group.sample_size(20);
    for (name, apps) in [("one host", ROUTES), ("all hosts", 1)] {
        let mut table = RouteTable::new(&snapshot(apps));
        let mut number = 0;
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            bencher.iter(|| {
                number = (number + 1) % apps;
                let delta = relabelled(&table, number);
                // The one before goes, as it does where it is in use.
                table = table.after(&delta).expect("it fits");
            });
        });
    }
    group.finish();
}

/// Such a change is kept on disk, as a change and as all there is now.
fn keeping(criterion: &mut Criterion<Spent>) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut table = RouteTable::new(&snapshot(ROUTES));
    let mut group = criterion.benchmark_group("keeping a change");
    group.sample_size(10);
    let mut writer = SnapshotStore::new(folder.path()).writer();
    group.bench_function(BenchmarkId::from_parameter("all of it"), |bencher| {
        bencher.iter(|| writer.keep(&table, None).expect("it is written"));
    });
    group.bench_function(BenchmarkId::from_parameter("the change"), |bencher| {
        bencher.iter(|| {
            let delta = relabelled(&table, 0);
            table = table.after(&delta).expect("it fits");
            writer.keep(&table, Some(&[delta])).expect("it is written");
        });
    });
    group.finish();
}

fn relabelled(table: &RouteTable, number: usize) -> RoutingDelta {
    RoutingDelta {
        from: table.generation(),
        generation: table.generation() + 1,
        apps: [(app(number), serves(number, LABELS))].into(),
        ..RoutingDelta::default()
    }
}

fn app(number: usize) -> AppName {
    AppName::from_text(format!("app-{number}"))
}

fn host(number: usize) -> String {
    format!("host-{number}.example.com")
}

fn serves(number: usize, labels: usize) -> AppRouting {
    let label = |at: usize| EphemeralRoute {
        label: format!("pr{at}"),
        version: VersionId::from_text(format!("app-{number}-pr{at}")),
        expires_at: Timestamp::from_second(100).expect("a time"),
    };
    AppRouting {
        active: Some(VersionId::from_text(format!("app-{number}-v1"))),
        ephemeral: (0..labels).map(label).collect(),
    }
}

/// Routes to as many apps in turn.
fn snapshot(apps: usize) -> RoutingSnapshot {
    let rule = |host: String, number: usize| RouteRule {
        host,
        to: RouteDestination::new(app(number % apps), "web"),
    };
    let wildcards = (0..WILDCARDS).map(|number| rule(format!("*.wild{number}.example.net"), number));
    let labels = |number: usize| if number < LABELLED_APPS { LABELS } else { 0 };
    RoutingSnapshot {
        generation: 1,
        routes: (0..ROUTES)
            .map(|number| rule(host(number), number))
            .chain(wildcards)
            .collect(),
        apps: (0..apps)
            .map(|number| (app(number), serves(number, labels(number))))
            .collect(),
        ..RoutingSnapshot::default()
    }
}

/// As a table without an index would do it.
fn look_through<'s>(snapshot: &'s RoutingSnapshot, host: &str, now: Timestamp) -> Option<&'s VersionId> {
    let matching = |host: &str| {
        let exact = snapshot.routes.iter().find(|rule| rule.host == host);
        exact.or_else(|| {
            let (_, rest) = host.split_once('.')?;
            let is_wildcard = |rule: &&RouteRule| rule.host.strip_prefix("*.") == Some(rest);
            snapshot.routes.iter().find(is_wildcard)
        })
    };
    let serves = |rule: &RouteRule| snapshot.apps.get(&rule.to.app);
    if let Some(rule) = matching(host) {
        return serves(rule)?.active.as_ref();
    }
    let (label, rest) = host.split_once('.')?;
    let mut labels = serves(matching(rest)?)?.ephemeral.iter();
    let live = labels.find(|route| route.label == label && now < route.expires_at);
    live.map(|route| &route.version)
}

//! What finding the target of a host costs, among many routes and labels, beside looking through all of them.
//!
//! `cargo bench --workspace --exclude miren-programs --bench routing`

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use jiff::Timestamp;
use miren_api::routing::{AppRouting, EphemeralRoute, RouteDestination, RouteRule, RoutingDelta, RoutingSnapshot};
use miren_api::{AppName, VersionId};
use miren_proxy::RouteTable;
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

criterion_group!(routing, lookups, deltas);
criterion_main!(routing);

fn lookups(criterion: &mut Criterion) {
    let snapshot = snapshot();
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

fn deltas(criterion: &mut Criterion) {
    let mut table = RouteTable::new(&snapshot());
    let mut number = 0;
    criterion.bench_function("delta with one app's labels", |bencher| {
        bencher.iter(|| {
            number = (number + 1) % ROUTES;
            let delta = RoutingDelta {
                from: table.generation(),
                generation: table.generation() + 1,
                apps: [(app(number), serves(number, LABELS))].into(),
                ..RoutingDelta::default()
            };
            // The one before goes, as it does where it is in use.
            table = table.after(&delta).expect("it fits");
        });
    });
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

fn snapshot() -> RoutingSnapshot {
    let rule = |host: String, number: usize| RouteRule {
        host,
        to: RouteDestination::new(app(number), "web"),
    };
    let wildcards = (0..WILDCARDS).map(|number| rule(format!("*.wild{number}.example.net"), number));
    let labels = |number: usize| if number < LABELLED_APPS { LABELS } else { 0 };
    RoutingSnapshot {
        generation: 1,
        routes: (0..ROUTES)
            .map(|number| rule(host(number), number))
            .chain(wildcards)
            .collect(),
        apps: (0..ROUTES)
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

//! What finding the target of a host costs, among many routes and labels, beside looking through all of them.
//!
//! `cargo bench --workspace --exclude miren-programs --bench routing`

use jiff::Timestamp;
use miren_api::routing::{AppRouting, EphemeralRoute, RouteDestination, RouteRule, RoutingDelta, RoutingSnapshot};
use miren_api::{AppName, VersionId};
use miren_proxy::RouteTable;
use nix::time::{ClockId, clock_gettime};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::hint::black_box;
use std::time::Duration;

const ROUTES: usize = 100_000;
/// Ten each, as many as an app may have.
const LABELLED_APPS: usize = 1_000;
const LABELS: usize = 10;
const LOOKUPS: usize = 1_000_000;
/// Looking through everything takes longer.
const LINEAR_LOOKUPS: usize = 200;
const DELTAS: usize = 1_000;

fn main() {
    let snapshot = snapshot();
    let begun = spent();
    let table = RouteTable::new(&snapshot);
    println!(
        "{ROUTES} routes, {} labels; built in {:?}",
        LABELLED_APPS * LABELS,
        (spent() - begun)
    );
    let now = Timestamp::from_second(1).expect("a time");
    let mut random = StdRng::seed_from_u64(1);
    let mut picked = |below: usize| random.random_range(0..below);
    let cases: [(&str, Vec<String>); 5] = [
        ("exact", several(|| host(picked(ROUTES)))),
        (
            "label",
            several(|| format!("pr{}.{}", picked(LABELS), host(picked(LABELLED_APPS)))),
        ),
        (
            "wildcard",
            several(|| format!("a{}.wild{}.example.net", picked(9999), picked(100))),
        ),
        (
            "label of wildcard",
            several(|| format!("pr1.a{}.wild{}.example.net", picked(9999), picked(100))),
        ),
        (
            "no route",
            several(|| format!("a{}.elsewhere.example.com", picked(9999))),
        ),
    ];
    println!("{:20} {:>12} {:>16}", "HOST", "TABLE", "LOOKING THROUGH");
    for (name, hosts) in &cases {
        let found = each(hosts, LOOKUPS, |host| table.resolve(host, now));
        let linear = each(hosts, LINEAR_LOOKUPS, |host| look_through(&snapshot, host, now));
        println!("{name:20} {found:>12.0?} {linear:>16.0?}");
    }
    let delta = several_deltas(&table);
    println!("a delta with one app's labels: {delta:.0?}");
}

/// Enough of them that they are not all in the processor's cache.
fn several(mut make: impl FnMut() -> String) -> Vec<String> {
    (0..100_000).map(|_| make()).collect()
}

/// The processor's time of this thread: what others do meanwhile does not count.
fn spent() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("a clock").into()
}

/// What one call takes.
fn each<'h, T>(hosts: &'h [String], calls: usize, call: impl Fn(&'h str) -> T) -> Duration {
    let begun = spent();
    hosts.iter().cycle().take(calls).for_each(|host| {
        black_box(call(host));
    });
    (spent() - begun) / u32::try_from(calls).unwrap_or(u32::MAX)
}

fn several_deltas(table: &RouteTable) -> Duration {
    let mut table = table.clone();
    let begun = spent();
    for number in 0..DELTAS {
        let delta = RoutingDelta {
            from: table.generation(),
            generation: table.generation() + 1,
            apps: [(app(number), serves(number, LABELS))].into(),
            ..RoutingDelta::default()
        };
        table = table.after(&delta).expect("it fits");
    }
    (spent() - begun) / u32::try_from(DELTAS).unwrap_or(u32::MAX)
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
    let wildcards = (0..100).map(|number| rule(format!("*.wild{number}.example.net"), number));
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

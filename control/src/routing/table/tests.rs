//! Whatever is changed, in whatever order: a delta turns the snapshot before into the snapshot after, and says no more.

use super::*;
use miren_api::id::VersionId;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

fn app(number: u32) -> AppName {
    AppName::from_text(format!("app-{number}"))
}

fn route(host: &str, to: u32) -> Route {
    Route {
        host: host.to_owned(),
        app: app(to),
        service: "web".into(),
        default: host == DEFAULT_HOST,
        wildcard: host.starts_with("*."),
        derived: false,
        timeout_ms: None,
        maintenance: None,
    }
}

fn serving(number: u32, seq: u64) -> ActiveRecord {
    ActiveRecord {
        app: app(number),
        version: VersionId::from_text(format!("app-{number}-v{}", seq / 2)),
        seq,
        web: !seq.is_multiple_of(7),
    }
}

fn labelled(number: u32, seq: u64) -> EphemeralRoute {
    EphemeralRoute {
        label: format!("pr{}", seq % 3),
        version: VersionId::from_text(format!("app-{number}-pr{}", seq / 2)),
        expires_at: jiff::Timestamp::from_second(1_000).unwrap(),
    }
}

/// What a follower makes of a delta.
fn applied(snapshot: &RoutingSnapshot, delta: &RoutingDelta) -> RoutingSnapshot {
    let mut after = snapshot.clone();
    after.generation = delta.generation;
    after.default = delta.default.clone();
    let replaced = |rule: &RouteRule| delta.routes.iter().any(|new| new.host == rule.host);
    after
        .routes
        .retain(|rule| !delta.removed_routes.contains(&rule.host) && !replaced(rule));
    after.routes.extend(delta.routes.iter().cloned());
    after.routes.sort_by(|a, b| a.host.cmp(&b.host));
    after.apps.retain(|app, _| !delta.removed_apps.contains(app));
    after.apps.extend(delta.apps.clone());
    after
}

fn change(table: &mut Table, random: &mut StdRng, seq: u64) {
    let number = random.random_range(0..6);
    let host = match random.random_range(0..15) {
        0 => DEFAULT_HOST.to_owned(),
        1 => "*.example.com".to_owned(),
        12..15 => format!("app-{}.apps.test", random.random_range(0..6)),
        host => format!("host-{host}.example.com"),
    };
    match random.random_range(0..14) {
        10 | 11 => table.label(&app(number), labelled(number, seq)),
        12 | 13 => table.remove_label(&app(number), &labelled(number, seq).label),
        0..=3 => table.set(route(&host, number)),
        4 | 5 => table.remove(&host),
        6..=8 => table.install(serving(number, seq)),
        _ => drop(table.remove_app(&app(number))),
    }
}

/// Below a domain of apps; one of them would be called as the ingress is.
fn named() -> Table {
    Table::default().under(Names::new(Some("app-3.apps.test"), Some("apps.test")))
}

#[test]
fn any_changes_make_a_delta_that_leads_from_one_snapshot_to_the_other() {
    for seed in 0..200 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut table = named();
        for generation in 1..20 {
            let before = table.clone();
            for step in 0..random.random_range(0..5) {
                change(&mut table, &mut random, generation * 5 + step);
            }
            let (old, new) = (before.snapshot(generation), table.snapshot(generation));
            let delta = table.delta(&before);
            assert_eq!(delta.is_some(), old != new, "seed {seed}: {delta:?}");
            let delta = delta.map(|delta| RoutingDelta {
                from: generation,
                generation,
                ..delta
            });
            let followed = delta.map_or(old.clone(), |delta| applied(&old, &delta));
            assert_eq!(followed, new, "seed {seed}");
        }
    }
}

#[test]
fn the_hosts_of_an_app_are_those_of_its_routes() {
    for seed in 0..50 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut table = named();
        for step in 0..60 {
            change(&mut table, &mut random, step);
            for number in 0..6 {
                let app = app(number);
                let routes = table.routes().into_iter();
                let scanned: Vec<&str> = routes
                    .filter(|route| route.app == app && !route.derived)
                    .map(|route| route.host.as_str())
                    .collect();
                assert_eq!(table.hosts_of(&app).collect::<Vec<_>>(), scanned, "seed {seed}");
            }
        }
    }
}

#[test]
fn a_delta_names_what_changed_and_nothing_else() {
    let mut table = Table::default();
    for number in 0..1_000 {
        table.set(route(&format!("host-{number}.example.com"), number));
        table.install(serving(number, 1));
    }
    let before = table.clone();
    table.set(route("host-7.example.com", 8));
    table.remove("host-9.example.com");
    table.install(serving(3, 9));
    table.label(&app(5), labelled(5, 1));
    let delta = table.delta(&before).unwrap();
    assert_eq!(delta.routes, [rule(&route("host-7.example.com", 8))]);
    assert_eq!(delta.removed_routes, ["host-9.example.com"]);
    assert_eq!(delta.apps.keys().collect::<Vec<_>>(), [&app(3), &app(5)]);
    let beside = &delta.apps[&app(5)];
    assert_eq!(
        (beside.active.is_some(), &beside.ephemeral[..]),
        (true, &[labelled(5, 1)][..])
    );
}

#[test]
fn e6_a_label_has_one_version_and_goes_with_its_app() {
    let mut table = Table::default();
    table.label(&app(1), labelled(1, 0));
    table.label(&app(1), labelled(1, 6));
    let of_app = |table: &Table| table.snapshot(1).apps.remove(&app(1));
    let only = AppRouting {
        active: None,
        ephemeral: vec![labelled(1, 6)],
    };
    assert_eq!(of_app(&table), Some(only), "active or not");
    table.install(serving(1, 1));
    let before = table.clone();
    table.remove_label(&app(1), "pr0");
    assert!(of_app(&table).is_some_and(|serves| serves.active.is_some() && serves.ephemeral.is_empty()));
    assert!(table.delta(&before).is_some());
    table.label(&app(1), labelled(1, 2));
    table.remove_app(&app(1));
    assert_eq!(of_app(&table), None);
}

#[test]
fn g15_an_app_that_serves_has_the_host_of_its_name_unless_that_is_led_elsewhere() {
    for seed in 0..100 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut table = named();
        for step in 0..60 {
            change(&mut table, &mut random, step);
            for number in 0..6 {
                let (app, host) = (app(number), format!("app-{number}.apps.test"));
                let serves = table.active(&app).is_some_and(|active| active.web) || table.labels_of(&app).count() > 0;
                let expected = match table.settled(&host) {
                    Some(set) => Some((set.app.clone(), false)),
                    None if serves && number != 3 => Some((app.clone(), true)),
                    None => None,
                };
                let found = table.get(&host).map(|route| (route.app.clone(), route.derived));
                assert_eq!(found, expected, "seed {seed}, step {step}: {host}");
                let own = table.derived_of(&app).map(|route| route.host.clone());
                assert_eq!(
                    own,
                    expected.filter(|(_, derived)| *derived).map(|_| host),
                    "seed {seed}"
                );
            }
            let snapshot = table.snapshot(1);
            assert!(snapshot.routes.is_sorted_by(|a, b| a.host < b.host), "{snapshot:?}");
            let renamed = table.clone().under(table.names().clone());
            assert_eq!(
                renamed.snapshot(1),
                snapshot,
                "seed {seed}: what a start finds is what there was"
            );
            let unnamed = table.clone().under(Names::default());
            assert!(unnamed.routes().iter().all(|route| !route.derived));
        }
    }
}

#[test]
fn g15_what_an_app_without_web_serves_has_no_host_by_its_name() {
    let mut table = named();
    table.install(ActiveRecord {
        web: false,
        ..serving(1, 1)
    });
    assert_eq!(table.get("app-1.apps.test"), None);
    table.label(&app(1), labelled(1, 1));
    assert!(table.get("app-1.apps.test").is_some(), "a label is before it");
    table.install(serving(1, 2));
    let before = table.clone();
    table.install(serving(1, 3));
    let delta = table.delta(&before);
    assert_eq!(delta, None, "the same version again is no change of any host");
}

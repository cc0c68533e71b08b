//! The order in which routes are tried, and what expiry means.

use super::*;
use miren_api::routing::EphemeralRoute;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn to(app: &str) -> RouteDestination {
    RouteDestination {
        app: AppName::from_text(app),
        service: "web".into(),
    }
}

fn label(label: &str, version: &str, expires_at: i64) -> EphemeralRoute {
    EphemeralRoute {
        label: label.into(),
        version: VersionId::from_text(version),
        expires_at: at(expires_at),
    }
}

/// `shop.example.com` and `*.example.com` are routed, `docs.example.org` leads to an app without a version.
fn snapshot() -> RoutingSnapshot {
    let rule = |host: &str, app: &str| RouteRule {
        host: host.into(),
        to: to(app),
    };
    let app = |version: Option<&str>, ephemeral| AppRouting {
        active: version.map(VersionId::from_text),
        ephemeral,
    };
    RoutingSnapshot {
        generation: 7,
        routes: vec![
            rule("shop.example.com", "shop"),
            rule("*.example.com", "wild"),
            rule("docs.example.org", "docs"),
            rule("gone.example.org", "deleted"),
        ],
        default: None,
        apps: [
            (
                AppName::from_text("shop"),
                app(Some("shop-v1"), vec![label("pr1", "shop-pr1", 100)]),
            ),
            (
                AppName::from_text("wild"),
                app(Some("wild-v1"), vec![label("pr1", "wild-pr1", 100)]),
            ),
            (
                AppName::from_text("docs"),
                app(None, vec![label("pr2", "docs-pr2", 100)]),
            ),
            (AppName::from_text("home"), app(Some("home-v1"), vec![])),
        ]
        .into(),
    }
}

fn resolve(snapshot: &RoutingSnapshot, host: &str, now: i64) -> Result<String, Miss> {
    RouteTable::new(snapshot)
        .resolve(host, at(now))
        .map(|target| target.version.to_string())
}

#[test]
fn an_exact_route_wins_over_a_wildcard_that_fits_too() {
    assert_eq!(resolve(&snapshot(), "shop.example.com", 1), Ok("shop-v1".into()));
    assert_eq!(resolve(&snapshot(), "other.example.com", 1), Ok("wild-v1".into()));
}

#[test]
fn case_port_and_trailing_dot_do_not_matter() {
    for host in [
        "SHOP.Example.com",
        "shop.example.com:8080",
        "shop.example.com.",
        "Shop.example.com.:80",
    ] {
        assert_eq!(resolve(&snapshot(), host, 1), Ok("shop-v1".into()), "{host}");
    }
}

#[test]
fn e2_a_label_before_an_exact_route_is_ephemeral() {
    assert_eq!(resolve(&snapshot(), "pr1.shop.example.com", 1), Ok("shop-pr1".into()));
    assert_eq!(
        resolve(&snapshot(), "PR1.shop.example.com:80", 1),
        Ok("shop-pr1".into())
    );
    assert_eq!(
        resolve(&snapshot(), "pr2.docs.example.org", 1),
        Ok("docs-pr2".into()),
        "active or not"
    );
}

#[test]
fn e2_a_matched_wildcard_is_never_read_as_a_label() {
    assert_eq!(
        resolve(&snapshot(), "pr1.example.com", 1),
        Ok("wild-v1".into()),
        "the wildcard, not its label pr1"
    );
    assert_eq!(
        resolve(&snapshot(), "pr1.other.example.com", 1),
        Err(Miss::Host),
        "not a label of the wildcard's app"
    );
}

#[test]
fn e3_a_label_that_does_not_exist_never_falls_through_to_the_default_app() {
    let mut snapshot = snapshot();
    snapshot.default = Some(to("home"));
    assert_eq!(resolve(&snapshot, "nope.shop.example.com", 1), Err(Miss::Label));
    assert_eq!(resolve(&snapshot, "docs.example.org", 1), Err(Miss::Version));
    assert_eq!(resolve(&snapshot, "gone.example.org", 1), Err(Miss::Version));
    assert_eq!(resolve(&snapshot, "elsewhere.net", 1), Ok("home-v1".into()));
}

#[test]
fn e8_expired_means_unroutable_at_that_moment() {
    assert_eq!(resolve(&snapshot(), "pr1.shop.example.com", 99), Ok("shop-pr1".into()));
    assert_eq!(resolve(&snapshot(), "pr1.shop.example.com", 100), Err(Miss::Label));
}

#[test]
fn e8_an_expired_row_never_hides_a_live_one_with_the_same_label() {
    for live_first in [true, false] {
        let mut snapshot = snapshot();
        let mut rows = vec![label("pr1", "old", 10), label("pr1", "new", 200)];
        if live_first {
            rows.reverse();
        }
        snapshot.apps.get_mut(&AppName::from_text("shop")).unwrap().ephemeral = rows;
        assert_eq!(resolve(&snapshot, "pr1.shop.example.com", 50), Ok("new".into()));
    }
}

#[test]
fn hosts_without_a_route_lead_nowhere_unless_there_is_a_default() {
    for host in ["elsewhere.net", "localhost", "127.0.0.1:8080", "[::1]:80", ""] {
        assert_eq!(resolve(&snapshot(), host, 1), Err(Miss::Host), "{host}");
    }
    let mut snapshot = snapshot();
    snapshot.default = Some(to("home"));
    assert_eq!(resolve(&snapshot, "127.0.0.1:8080", 1), Ok("home-v1".into()));
    assert_eq!(resolve(&snapshot, "[::1]:80", 1), Ok("home-v1".into()));
}

#[test]
fn a_normal_host_is_not_copied() {
    assert!(matches!(lower_case("shop.example.com"), Cow::Borrowed(_)));
    assert_eq!(lower_case("Shop"), "shop");
}

#[test]
fn the_targets_of_a_table_are_all_that_requests_can_reach() {
    let table = RouteTable::new(&snapshot());
    let mut versions: Vec<&str> = table.targets().map(|target| target.version.as_str()).collect();
    versions.sort_unstable();
    assert_eq!(versions, ["docs-pr2", "shop-pr1", "shop-v1", "wild-pr1", "wild-v1"]);
}

/// What turns `before` into `after`, found the slow way.
fn delta(before: &RoutingSnapshot, after: &RoutingSnapshot) -> RoutingDelta {
    let is_new = |rule: &&RouteRule| !before.routes.contains(rule);
    let has_gone = |rule: &&RouteRule| !after.routes.iter().any(|new| new.host == rule.host);
    let changed = after
        .apps
        .iter()
        .filter(|(app, new)| before.apps.get(*app) != Some(*new));
    RoutingDelta {
        from: before.generation,
        generation: after.generation,
        routes: after.routes.iter().filter(is_new).cloned().collect(),
        removed_routes: before
            .routes
            .iter()
            .filter(has_gone)
            .map(|rule| rule.host.clone())
            .collect(),
        default: after.default.clone(),
        apps: changed.map(|(app, new)| (app.clone(), new.clone())).collect(),
        removed_apps: before
            .apps
            .keys()
            .filter(|app| !after.apps.contains_key(*app))
            .cloned()
            .collect(),
    }
}

/// Any of a few routes, apps and labels.
fn anything(generation: u64, random: &mut StdRng) -> RoutingSnapshot {
    let hosts = [
        "*.example.com",
        "a.example.com",
        "b.example.com",
        "c.example.com",
        "d.example.com",
    ];
    let app = |random: &mut StdRng| format!("app-{}", random.random_range(0..4));
    let mut snapshot = RoutingSnapshot {
        generation,
        ..RoutingSnapshot::default()
    };
    for host in hosts {
        if random.random_bool(0.6) {
            let mut to = to(&app(random));
            to.service = ["web", "admin"][random.random_range(0..2)].into();
            snapshot.routes.push(RouteRule { host: host.into(), to });
        }
    }
    snapshot.default = random.random_bool(0.5).then(|| to(&app(random)));
    for _ in 0..3 {
        let (app, version) = (app(random), random.random_range(0..3));
        let routing = AppRouting {
            active: Some(VersionId::from_text(format!("{app}-v{version}"))),
            ephemeral: vec![label("pr1", &format!("{app}-pr{version}"), 100)],
        };
        snapshot.apps.insert(AppName::from_text(app), routing);
    }
    snapshot
}

#[test]
fn a_table_after_deltas_answers_as_one_made_of_the_last_snapshot() {
    for seed in 0..100 {
        let random = &mut StdRng::seed_from_u64(seed);
        let mut before = anything(1, random);
        let mut table = RouteTable::new(&before);
        for generation in 2..20 {
            let after = anything(generation, random);
            let last = std::mem::take(&mut table);
            table = last.after(&delta(&before, &after)).unwrap();
            let whole = RouteTable::new(&after);
            assert_eq!(table.snapshot(), after, "seed {seed}");
            for host in [
                "a.example.com",
                "pr1.b.example.com",
                "d.example.com",
                "x.example.com",
                "y.org",
            ] {
                assert_eq!(
                    table.resolve(host, at(1)),
                    whole.resolve(host, at(1)),
                    "seed {seed}: {host}"
                );
            }
            for target in last.targets().chain(whole.targets()) {
                let is_routed = whole.targets().any(|routed| routed == target);
                assert_eq!(table.has(target), is_routed, "seed {seed}: {target:?}");
                let is_led_to = after.default.iter().chain(after.routes.iter().map(|rule| &rule.to));
                assert_eq!(
                    table.leads_to(&target.app),
                    is_led_to.into_iter().any(|to| to.app == target.app)
                );
            }
            before = after;
        }
    }
}

#[test]
fn a_delta_that_begins_elsewhere_does_not_fit() {
    let before = snapshot();
    let mut after = before.clone();
    after.generation += 2;
    let mut delta = delta(&before, &after);
    assert!(RouteTable::new(&before).after(&delta).is_some());
    delta.from += 1;
    assert!(RouteTable::new(&before).after(&delta).is_none());
}

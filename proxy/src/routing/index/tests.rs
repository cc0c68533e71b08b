//! The order in which routes are tried, and what expiry means.

use super::*;
use miren_api::resource::Maintenance;
use miren_api::routing::EphemeralRoute;

mod model;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn to(app: &str) -> RouteDestination {
    RouteDestination::new(AppName::from_text(app), "web")
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
        lineage: "one".into(),
        routes: vec![
            rule("shop.example.com", "shop"),
            rule("*.example.com", "wild"),
            rule("docs.example.org", "docs"),
            rule("gone.example.org", "deleted"),
        ],
        default: None,
        cluster_host: None,
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
        .map(|found| found.target.version.to_string())
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
        resolve(&snapshot(), "shop-v1.example.com", 1),
        Ok("wild-v1".into()),
        "nor any other"
    );
}

#[test]
fn e2_a_label_before_a_host_that_a_wildcard_matches_is_its_apps() {
    assert_eq!(resolve(&snapshot(), "pr1.other.example.com", 1), Ok("wild-pr1".into()));
    assert_eq!(resolve(&snapshot(), "pr9.other.example.com", 1), Err(Miss::Label));
    assert_eq!(
        resolve(&snapshot(), "x.pr1.other.example.com", 1),
        Err(Miss::Host),
        "a wildcard stands for one label"
    );
    let mut nested = snapshot();
    nested.routes.push(RouteRule {
        host: "*.other.example.com".into(),
        to: to("home"),
    });
    assert_eq!(
        resolve(&nested, "pr1.other.example.com", 1),
        Ok("home-v1".into()),
        "the wildcard that says more"
    );
}

#[test]
fn e13_below_the_clusters_own_host_an_app_needs_no_route() {
    let mut snapshot = snapshot();
    snapshot.default = Some(to("home"));
    let label_of_docs = "pr2.docs.edge.example.net";
    assert_eq!(resolve(&snapshot, label_of_docs, 1), Ok("home-v1".into()));
    snapshot.cluster_host = Some("Edge.example.net.".into());
    snapshot.routes.retain(|rule| rule.host != "docs.example.org");
    assert_eq!(resolve(&snapshot, label_of_docs, 1), Ok("docs-pr2".into()));
    assert_eq!(resolve(&snapshot, label_of_docs, 100), Err(Miss::Expired(at(100))));
    assert_eq!(resolve(&snapshot, "pr1.docs.edge.example.net", 1), Err(Miss::Label));
    for unrouted in [
        "shop.edge.example.net",
        "pr2.nobody.edge.example.net",
        "pr1.home.edge.example.net",
        "edge.example.net",
    ] {
        assert_eq!(resolve(&snapshot, unrouted, 1), Ok("home-v1".into()), "{unrouted}");
    }
    let table = RouteTable::new(&snapshot);
    let reached = |version: &str| Target {
        app: AppName::from_text("docs"),
        version: VersionId::from_text(version),
        service: "web".into(),
    };
    assert!(table.leads_to(&AppName::from_text("docs")) && table.has(&reached("docs-pr2")));
    snapshot.routes.push(RouteRule {
        host: "*.edge.example.net".into(),
        to: to("shop"),
    });
    assert_eq!(
        resolve(&snapshot, label_of_docs, 1),
        Err(Miss::Label),
        "a route counts more"
    );
}

#[test]
fn e2_a_label_before_the_clusters_own_host_is_the_default_routes_if_it_has_it() {
    let mut snapshot = snapshot();
    snapshot.cluster_host = Some("edge.example.net".into());
    let label_of_default = "pr1.edge.example.net";
    assert_eq!(resolve(&snapshot, label_of_default, 1), Err(Miss::Host), "no default");
    snapshot.default = Some(RouteDestination {
        timeout_ms: Some(5),
        maintenance: Some(Maintenance { retry_after: 9 }),
        ..RouteDestination::new(AppName::from_text("shop"), "admin")
    });
    let table = RouteTable::new(&snapshot);
    let found = table.resolve(label_of_default, at(1)).unwrap();
    let target = Target {
        app: AppName::from_text("shop"),
        version: VersionId::from_text("shop-pr1"),
        service: "admin".into(),
    };
    assert_eq!(
        (&**found.target, found.timeout),
        (&target, Some(Duration::from_millis(5)))
    );
    assert_eq!(resolve(&snapshot, label_of_default, 100), Err(Miss::Expired(at(100))));
    snapshot.default.as_mut().unwrap().maintenance = None;
    for unrouted in ["pr2.edge.example.net", "edge.example.net", "pr1.pr1.edge.example.net"] {
        assert_eq!(resolve(&snapshot, unrouted, 1), Ok("shop-v1".into()), "{unrouted}");
    }
    for host in [
        "*.example.net",
        "edge.example.net",
        "pr1.edge.example.net",
        "*.edge.example.net",
    ] {
        let mut routed = snapshot.clone();
        let rule = RouteRule {
            host: host.into(),
            to: to("wild"),
        };
        routed.routes.push(rule);
        let found = resolve(&routed, label_of_default, 1).unwrap();
        assert!(
            found.starts_with("wild-"),
            "a route counts more: {host} leads to {found}"
        );
    }
}

#[test]
fn a_route_in_maintenance_turns_its_own_requests_away_and_serves_labels_before_it() {
    let mut snapshot = snapshot();
    snapshot.default = Some(to("home"));
    let all = snapshot
        .routes
        .iter_mut()
        .map(|rule| &mut rule.to)
        .chain(&mut snapshot.default);
    for (seconds, to) in (10..).zip(all) {
        to.maintenance = Some(Maintenance { retry_after: seconds });
    }
    for (host, seconds) in [
        ("shop.example.com", 10),
        ("other.example.com", 11),
        ("docs.example.org", 12),
        ("elsewhere.net", 14),
    ] {
        assert_eq!(resolve(&snapshot, host, 1), Err(Miss::Maintenance(seconds)), "{host}");
    }
    assert_eq!(resolve(&snapshot, "pr1.shop.example.com", 1), Ok("shop-pr1".into()));
    assert_eq!(resolve(&snapshot, "pr1.other.example.com", 1), Ok("wild-pr1".into()));
}

#[test]
fn a_routes_own_timeout_is_that_of_its_labels_too() {
    let mut snapshot = snapshot();
    snapshot.routes[0].to.timeout_ms = Some(250);
    let table = RouteTable::new(&snapshot);
    let timeout = |host| table.resolve(host, at(1)).unwrap().timeout;
    let own = Some(Duration::from_millis(250));
    assert_eq!(["shop.example.com", "pr1.shop.example.com"].map(timeout), [own, own]);
    assert_eq!(
        ["other.example.com", "pr1.other.example.com"].map(timeout),
        [None, None]
    );
}

#[test]
fn routes_of_one_app_share_what_it_serves_also_after_a_delta() {
    let mut snapshot = snapshot();
    snapshot.routes.push(RouteRule {
        host: "second.example.org".into(),
        to: to("shop"),
    });
    snapshot.default = Some(to("shop"));
    let table = RouteTable::new(&snapshot);
    let active = Some(VersionId::from_text("shop-v2"));
    let routing = AppRouting {
        active,
        ephemeral: Vec::new(),
    };
    let delta = RoutingDelta {
        from: 7,
        from_lineage: "one".into(),
        generation: 8,
        lineage: "one".into(),
        default: snapshot.default.clone(),
        apps: [(AppName::from_text("shop"), routing)].into(),
        ..RoutingDelta::default()
    };
    let of_another_history = RoutingDelta {
        from_lineage: "another".into(),
        ..delta.clone()
    };
    assert!(
        table.after(&of_another_history).is_none(),
        "f10: the same number says nothing"
    );
    let after = table.after(&delta).unwrap();
    for (table, version) in [(&table, "shop-v1"), (&after, "shop-v2")] {
        let of = |host| table.resolve(host, at(1)).unwrap().target;
        let [one, second, default] = ["shop.example.com", "second.example.org", "elsewhere.net"].map(of);
        assert_eq!(one.version.as_str(), version);
        assert!(Arc::ptr_eq(one, second) && Arc::ptr_eq(one, default));
    }
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
    for later in [100, 101] {
        assert_eq!(
            resolve(&snapshot(), "pr1.shop.example.com", later),
            Err(Miss::Expired(at(100)))
        );
    }
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
        assert_eq!(
            resolve(&snapshot, "pr1.shop.example.com", 200),
            Err(Miss::Expired(at(200)))
        );
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

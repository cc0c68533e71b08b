//! The order in which routes are tried, and what expiry means.

use super::*;
use miren_api::routing::{AppRouting, EphemeralRoute, RouteRule};

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

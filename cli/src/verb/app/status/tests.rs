//! What is told of an app that is well, crashed, or only previewed.

use super::*;
use jiff::{SignedDuration, Timestamp};
use miren_api::resource::PoolState;
use miren_api::{PoolId, VersionId};

fn pool(version: &str) -> Pool {
    Pool {
        id: PoolId::from_text("pool-1"),
        app: AppName::parse("shop").unwrap(),
        service: "web".into(),
        spec_hash: "abc".into(),
        versions: vec![VersionId::from_text(version)],
        desired: 1,
        current: 1,
        ready: 0,
        crash_count: 3,
        last_crash: Some("exited with code 1\nlast words".into()),
        cooldown_until: Some(Timestamp::now() + SignedDuration::from_secs(45)),
        state: PoolState::Cooldown,
        node_fault: None,
    }
}

fn status(health: Health, pools: Vec<Pool>) -> Status {
    Status {
        app: App {
            name: AppName::parse("shop").unwrap(),
            version: Some(VersionId::from_text("shop-v1")),
            health,
            ready: 0,
            desired: 1,
            routes: vec!["shop.example.com".into(), "www.example.com".into()],
            routes_down: vec!["www.example.com".into()],
            urls: vec!["http://shop.example.com".into(), "http://shop.localhost:8080".into()],
        },
        pools,
        deploys: Vec::new(),
        ephemeral: Vec::new(),
    }
}

#[test]
fn a_crashed_app_says_why_and_when_it_is_tried_again() {
    let crashed = fields(&status(Health::Crashed, vec![pool("shop-v1")]));
    let (_, health) = crashed.iter().find(|(name, _)| *name == "Health").unwrap();
    assert!(
        health.starts_with("crashed: web crashed 3x, next attempt in 4"),
        "{health}"
    );
    assert!(health.ends_with(" UTC)"), "{health}");
    assert!(crashed.contains(&("Last crash", "exited with code 1\nlast words".into())));
}

#[test]
fn a_route_that_is_down_says_so() {
    let fields = fields(&status(Health::Healthy, Vec::new()));
    assert!(fields.contains(&("Routes", "shop.example.com, www.example.com (down)".into())));
}

#[test]
fn e10_a_preview_that_crashes_says_nothing_of_the_app() {
    let well = fields(&status(Health::Healthy, vec![pool("shop-v2")]));
    assert!(well.contains(&("Health", "healthy".into())), "{well:?}");
    assert!(well.iter().all(|(name, _)| *name != "Last crash"), "{well:?}");
}

#[test]
fn e13_urls_are_those_of_the_server_and_the_document_keeps_its_keys() {
    let status = status(Health::Idle, vec![pool("shop-v1")]);
    let urls = "http://shop.example.com\nhttp://shop.localhost:8080";
    assert!(fields(&status).contains(&("URLs", urls.into())));
    let document = serde_json::to_value(&status).unwrap();
    for key in [
        "name",
        "version",
        "health",
        "ready",
        "desired",
        "routes",
        "urls",
        "pools",
        "deploys",
        "ephemeral",
    ] {
        assert!(document.get(key).is_some(), "{key}: {document}");
    }
}

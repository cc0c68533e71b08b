//! The document and the exit code a deploy ends with.

use super::*;

fn deploy(status: DeployStatus) -> Deploy {
    Deploy {
        id: DeployId::from_text("dep-1"),
        app: AppName::parse("shop").unwrap(),
        version: Some(VersionId::from_text("shop-v1")),
        seq: 4,
        status,
        pool: Some(PoolId::from_text("pool-1")),
        reused: false,
        urls: vec!["http://shop.example.com".into()],
        default_route: false,
        started_at: "2026-01-02T03:04:05Z".parse().unwrap(),
        finished_at: None,
        error: None,
        progress: None,
        steps: Vec::new(),
    }
}

#[test]
fn the_summary_has_the_documented_keys_in_order() {
    let mut failed = deploy(DeployStatus::Failed);
    failed.error = Some("exited with code 1".into());
    let took = Duration::from_millis(1234);
    assert_eq!(
        serde_json::to_string(&summary(&failed, took)).unwrap(),
        r#"{"app":"shop","version":"shop-v1","deploy":"dep-1","seq":4,"status":"FAILED","pool":"pool-1","reused":false,"urls":["http://shop.example.com"],"duration_ms":1234,"error":"exited with code 1"}"#
    );
    let whole = serde_json::to_value(summary(&deploy(DeployStatus::Succeeded), took)).unwrap();
    assert!(whole.get("error").is_none());
}

#[test]
fn only_success_and_a_detached_deploy_exit_with_0() {
    let table = [
        (DeployStatus::Succeeded, 0),
        (DeployStatus::Accepted, 0),
        (DeployStatus::Failed, 1),
        (DeployStatus::RolledBack, 1),
        (DeployStatus::Superseded, 4),
    ];
    for (status, exit) in table {
        assert_eq!(exit_of(status).code(), exit, "{status:?}");
        assert_eq!(failure(&deploy(status)).is_some(), exit != 0, "{status:?}");
    }
}

#[test]
fn e13_where_an_app_is_reached_beside_its_urls_is_said_once() {
    let mut deploy = deploy(DeployStatus::Succeeded);
    assert_eq!(reach(&deploy), None, "the URLs say it all");
    deploy.urls.clear();
    let none = reach(&deploy).unwrap();
    assert!(
        none.starts_with("shop has no route yet\n  try: miren route set HOST shop"),
        "{none}"
    );
    deploy.default_route = true;
    assert_eq!(
        reach(&deploy).unwrap(),
        "shop is the default route: every host without a route of its own leads to it"
    );
    deploy.status = DeployStatus::Failed;
    assert_eq!(reach(&deploy), None);
}

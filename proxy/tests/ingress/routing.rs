//! Hosts lead to versions, snapshots are followed, acknowledged and kept.

use crate::app::App;
use crate::client::{ask, get};
use crate::stage::{HOST, LINEAGE, Stage, becomes, pause, snapshot, with_label, with_label_until};
use jiff::{SignedDuration, Timestamp};
use miren_api::routing::{AppRouting, RoutingDelta};
use miren_api::{AppName, VersionId};
use miren_loader::State;

#[tokio::test(flavor = "multi_thread")]
async fn a_request_reaches_the_active_version_and_the_snapshot_is_acknowledged() {
    let stage = Stage::new("").await;
    let app = App::start("one").await;
    stage.grant("shop-v1", &app, 10);
    let response = stage.get("/").await;
    assert_eq!((response.status, response.body.as_str()), (200, "one"));
    assert_eq!(response.header("x-from"), Some("app"), "{response:?}");
    assert_eq!(response.header("x-request-id").map(str::len), Some(32), "{response:?}");
    stage.acknowledged(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_lead_nowhere_say_why() {
    let stage = Stage::new("").await;
    for (host, code) in [
        ("nowhere.net", "no_route"),
        ("empty.example.com", "no_active_version"),
        ("pr1.shop.example.com", "no_such_ephemeral"),
    ] {
        let response = ask(stage.address(), &get(host, "/")).await;
        assert_eq!((response.status, response.error()), (404, code));
        assert!(response.header("x-request-id").is_some());
    }
    let html = ask(
        stage.address(),
        "GET / HTTP/1.1\r\nHost: nowhere.net\r\nAccept: text/html\r\n\r\n",
    )
    .await;
    assert!(html.body.starts_with("<!doctype html>"), "{html:?}");
    let json = ask(
        stage.address(),
        "GET / HTTP/1.1\r\nHost: nowhere.net\r\nAccept: application/json\r\n\r\n",
    )
    .await;
    let body: serde_json::Value = serde_json::from_str(&json.body).unwrap();
    assert_eq!(body["error"]["code"], "no_route");
    assert_eq!(body["error"]["request_id"].as_str(), json.header("x-request-id"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_request_leaves_the_connection_usable() {
    let stage = Stage::new("").await;
    let mut client = stage.client().await;
    assert_eq!(client.ask(&get("nowhere.net", "/")).await.status, 404);
    assert_eq!(client.ask(&get("nowhere.net", "/")).await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_health_path_answers_without_a_route_or_control() {
    let stage = Stage::without_snapshot("").await;
    let response = ask(stage.address(), &get("anything", "/.well-known/miren/health")).await;
    assert_eq!((response.status, response.body.as_str()), (200, "ok\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_snapshot_nothing_is_known_and_the_proxy_is_not_ready() {
    let mut stage = Stage::without_snapshot("").await;
    let response = stage.get("/").await;
    assert_eq!(
        (response.status, response.error(), response.header("retry-after")),
        (503, "starting", Some("1"))
    );
    assert_eq!(
        ask(stage.proxy.addresses.admin, &get("localhost", "/readyz"))
            .await
            .status,
        503
    );
    assert!(stage.proxy.ready.try_recv().is_err());
    stage.control.publish(&snapshot(1, "shop-v1"));
    stage.proxy.wait_until_ready().await;
    assert_eq!(
        ask(stage.proxy.addresses.admin, &get("localhost", "/readyz"))
            .await
            .status,
        200
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_snapshot_moves_traffic_without_closing_client_connections() {
    let stage = Stage::new("").await;
    let (old, new) = (App::start("old").await, App::start("new").await);
    stage.grant("shop-v1", &old, 10);
    stage.grant("shop-v2", &new, 10);
    let mut client = stage.client().await;
    assert_eq!(client.ask(&get(HOST, "/")).await.body, "old");
    stage.serve(&snapshot(2, "shop-v2")).await;
    assert_eq!(client.ask(&get(HOST, "/")).await.body, "new");
    assert_eq!(
        old.requests(),
        1,
        "i3: nothing reaches the old version after the acknowledgement"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_snapshot_is_not_applied() {
    let stage = Stage::new("").await;
    let (old, new) = (App::start("old").await, App::start("new").await);
    stage.grant("shop-v1", &old, 10);
    let first = stage.grant("shop-v3", &new, 10);
    stage.serve(&snapshot(3, "shop-v3")).await;
    assert_eq!(stage.get("/").await.body, "new");
    // What comes after it on the same stream shows that it was read.
    let newer = App::start("newer").await;
    stage.revoke("shop-v3", first);
    stage.grant("shop-v3", &newer, 10);
    stage.control.publish(&snapshot(2, "shop-v1"));
    stage.control.send("pool", r#"{"pool":"pool-shop-v3"}"#.to_owned());
    stage.moves("new", "newer").await;
    stage.acknowledged(3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn e10_active_and_ephemeral_traffic_never_mix() {
    let stage = Stage::new("").await;
    let (active, preview) = (App::start("active").await, App::start("preview").await);
    stage.grant("shop-v1", &active, 50);
    stage.grant("shop-pr1", &preview, 50);
    stage
        .serve(&with_label(snapshot(2, "shop-v1"), "pr1", "shop-pr1"))
        .await;
    let address = stage.address();
    let tasks = (0..40).map(|index| {
        let (host, wanted) = if index % 2 == 0 {
            (HOST, "active")
        } else {
            ("pr1.shop.example.com", "preview")
        };
        tokio::spawn(async move {
            for _ in 0..10 {
                assert_eq!(ask(address, &get(host, "/")).await.body, wanted);
            }
        })
    });
    crate::stage::all(tasks.collect()).await;
    assert_eq!((active.requests(), preview.requests()), (200, 200));
}

#[tokio::test(flavor = "multi_thread")]
async fn i7_a_restart_without_control_routes_by_the_kept_snapshot() {
    let mut stage = Stage::new("").await;
    becomes("kept", true, || stage.folder.path().join("data/routing").exists()).await;
    stage.control.kill(&stage.socket());
    stage.restart_proxy().await;
    stage.proxy.wait_until_ready().await;
    let response = ask(stage.address(), &get("empty.example.com", "/")).await;
    assert_eq!(response.error(), "no_active_version", "the kept snapshot is known");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_copy_falls_back_to_the_one_before_and_is_counted() {
    let mut stage = Stage::new("").await;
    let kept = stage.folder.path().join("data/routing");
    becomes("kept", true, || kept.exists()).await;
    stage.control.publish(&snapshot(2, "shop-v1"));
    becomes("kept twice", true, || {
        stage.folder.path().join("data/routing.1").exists() && kept.exists()
    })
    .await;
    stage.control.kill(&stage.socket());
    std::fs::write(&kept, b"garbage").unwrap();
    stage.restart_proxy().await;
    stage.proxy.wait_until_ready().await;
    assert_eq!(
        ask(stage.address(), &get("empty.example.com", "/")).await.error(),
        "no_active_version"
    );
    assert_eq!(stage.metric("miren_proxy_damaged_snapshots_total").await, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn i2_no_change_of_routes_versions_or_sandboxes_closes_a_clients_connection() {
    let stage = Stage::new("").await;
    let (one, two) = (App::start("one").await, App::start("two").await);
    let old = stage.grant("shop-v1", &one, 10);
    stage.grant("shop-v2", &two, 10);
    let mut client = stage.client().await;
    assert_eq!(client.ask(&get(HOST, "/")).await.body, "one");
    stage.serve(&snapshot(2, "shop-v2")).await;
    assert_eq!(client.ask(&get(HOST, "/")).await.body, "two");
    stage.advance(old, State::Dead);
    assert_eq!(client.ask(&get(HOST, "/")).await.body, "two");
    let mut without = snapshot(3, "shop-v2");
    without.routes.clear();
    without.default = None;
    stage.serve(&without).await;
    assert_eq!(client.ask(&get(HOST, "/")).await.error(), "no_route");
    stage.serve(&snapshot(4, "shop-v2")).await;
    assert_eq!(client.ask(&get(HOST, "/")).await.body, "two");
}

/// The active version of `shop` becomes `version`.
fn switch(from: u64, version: &str) -> String {
    let routing = AppRouting {
        active: Some(VersionId::from_text(version)),
        ephemeral: Vec::new(),
    };
    let delta = RoutingDelta {
        from,
        from_lineage: LINEAGE.into(),
        generation: from + 1,
        lineage: LINEAGE.into(),
        default: snapshot(1, version).default,
        apps: [(AppName::from_text("shop"), routing)].into(),
        ..RoutingDelta::default()
    };
    serde_json::to_string(&delta).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn i2_deltas_move_traffic_and_are_kept_on_disk() {
    let mut stage = Stage::new("").await;
    let (old, new) = (App::start("old").await, App::start("new").await);
    stage.grant("shop-v1", &old, 10);
    stage.grant("shop-v2", &new, 10);
    stage.keeps("routing", "shop-v1").await;
    let mut client = stage.client().await;
    assert_eq!(client.ask(&get(HOST, "/")).await.body, "old");
    stage.control.send("delta", switch(1, "shop-v2"));
    stage.acknowledged(2).await;
    assert_eq!(client.ask(&get(HOST, "/")).await.body, "new");
    stage.keeps("routing.changes.", "shop-v2").await;
    stage.keeps("leases", "shop-v2").await;
    let copy = std::fs::read_to_string(stage.folder.path().join("data/routing")).unwrap();
    assert!(!copy.contains("shop-v2"), "a change costs what it changes");
    stage.control.kill(&stage.socket());
    stage.restart_proxy().await;
    stage.proxy.wait_until_ready().await;
    assert_eq!(stage.get("/").await.body, "new");
}

#[tokio::test(flavor = "multi_thread")]
async fn e1_a_delta_brings_a_label_beside_the_active_version() {
    let stage = Stage::new("").await;
    let (shop, preview) = (App::start("shop").await, App::start("preview").await);
    stage.grant("shop-v1", &shop, 10);
    stage.grant("shop-pr1", &preview, 10);
    let labelled = with_label(snapshot(2, "shop-v1"), "pr1", "shop-pr1");
    let delta = RoutingDelta {
        from: 1,
        from_lineage: LINEAGE.into(),
        generation: 2,
        lineage: LINEAGE.into(),
        apps: labelled.apps,
        ..RoutingDelta::default()
    };
    stage.control.send("delta", serde_json::to_string(&delta).unwrap());
    stage.acknowledged(2).await;
    let preview = get(&format!("PR1.{HOST}.:80"), "/");
    assert_eq!(ask(stage.address(), &preview).await.body, "preview");
    assert_eq!(stage.get("/").await.body, "shop");
    let unknown = ask(stage.address(), &get(&format!("pr2.{HOST}"), "/")).await;
    assert_eq!(
        unknown.body.trim(),
        "This preview does not exist or has expired. (no_such_ephemeral)"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn e8_the_proxy_alone_ends_a_label_at_its_instant_and_says_when_that_was() {
    let mut stage = Stage::new("").await;
    let (shop, preview) = (App::start("shop").await, App::start("preview").await);
    stage.grant("shop-v1", &shop, 10);
    stage.grant("shop-pr1", &preview, 10);
    let mut routes = snapshot(2, "shop-v1");
    routes.default = Some(routes.routes[0].to.clone());
    stage.serve(&with_label(routes.clone(), "pr1", "shop-pr1")).await;
    let request = get(&format!("pr1.{HOST}"), "/");
    assert_eq!(ask(stage.address(), &request).await.body, "preview");
    // What has leases goes on without control.
    assert_eq!(stage.get("/").await.body, "shop");
    routes.generation = 3;
    let expires_at = Timestamp::now() + SignedDuration::from_secs(1);
    stage
        .serve(&with_label_until(expires_at, routes, "pr1", "shop-pr1"))
        .await;
    stage.control.kill(&stage.socket());
    let patience = Timestamp::now() + SignedDuration::from_secs(20);
    let refused = loop {
        let asked = Timestamp::now();
        let response = ask(stage.address(), &request).await;
        if response.status != 200 {
            assert!(Timestamp::now() >= expires_at, "too early: {response:?}");
            break response;
        }
        assert_eq!(response.body, "preview", "another version");
        assert!(asked < expires_at && asked < patience, "served after its end");
        pause().await;
    };
    assert_eq!((refused.status, refused.error()), (404, "no_such_ephemeral"));
    let told = expires_at.strftime("This preview expired on %Y-%m-%d at %H:%M:%S UTC. (no_such_ephemeral)");
    assert_eq!(refused.body.trim(), told.to_string());
    assert_eq!(ask(stage.address(), &get("elsewhere.net", "/")).await.body, "shop");
}

#[tokio::test(flavor = "multi_thread")]
async fn r5_a_delta_that_does_not_fit_changes_nothing_and_brings_a_whole_snapshot() {
    let stage = Stage::new("").await;
    let (old, new) = (App::start("old").await, App::start("new").await);
    stage.grant("shop-v1", &old, 10);
    stage.grant("shop-v9", &new, 10);
    assert_eq!(stage.get("/").await.body, "old");
    // The stream that is made anew begins with the newest snapshot, which the one in use was never told.
    stage.control.skip(&snapshot(8, "shop-v1"));
    stage.control.send("delta", switch(8, "shop-v9"));
    stage.acknowledged(9).await;
    assert_eq!(stage.get("/").await.body, "new");
    assert_eq!(stage.metric("miren_proxy_routing_gaps_total").await, 1.0);
}

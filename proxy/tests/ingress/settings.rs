//! What a route says of its own: that it is down for maintenance, and how long its app may take.

use crate::app::App;
use crate::client::{ask, get};
use crate::stage::{HOST, LINEAGE, Stage, all, becomes, snapshot, with_label};
use crate::waiting::{WAITING, ask_often};
use miren_api::AppName;
use miren_api::lease::AcquireRequest;
use miren_api::resource::Maintenance;
use miren_api::routing::{RouteDestination, RouteRule, RoutingDelta};

const PREVIEW: &str = "shop-pr1";

/// To the app of the tests.
fn plain() -> RouteDestination {
    RouteDestination::new(AppName::from_text("shop"), "web")
}

fn down_for(retry_after: u64) -> RouteDestination {
    RouteDestination {
        maintenance: Some(Maintenance { retry_after }),
        ..plain()
    }
}

fn within_ms(timeout: u64) -> RouteDestination {
    RouteDestination {
        timeout_ms: Some(timeout),
        ..plain()
    }
}

fn route(host: &str, to: RouteDestination) -> RouteRule {
    RouteRule { host: host.into(), to }
}

/// The route at [`HOST`] says something else, and nothing else has changed; waits until that is served.
async fn changes(stage: &Stage, from: u64, to: RouteDestination) {
    let delta = RoutingDelta {
        from,
        from_lineage: LINEAGE.into(),
        generation: from + 1,
        lineage: LINEAGE.into(),
        routes: vec![route(HOST, to)],
        ..RoutingDelta::default()
    };
    stage.control.send("delta", serde_json::to_string(&delta).unwrap());
    stage.acknowledged(from + 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_in_maintenance_turns_its_requests_away_and_serves_its_labels() {
    let stage = Stage::new("").await;
    let (shop, preview) = (App::start("shop").await, App::start("preview").await);
    stage.grant("shop-v1", &shop, 10);
    stage.grant(PREVIEW, &preview, 10);
    let mut begun = stage.client().await;
    begun.send(&get(HOST, "/hold")).await;
    becomes("requests", 1, || shop.requests()).await;
    let mut routes = with_label(snapshot(2, "shop-v1"), "pr1", PREVIEW);
    routes.routes = vec![
        route(HOST, down_for(120)),
        route("*.example.org", down_for(30)),
        route("open.example.com", plain()),
    ];
    routes.default = Some(down_for(5));
    stage.serve(&routes).await;
    for (host, seconds) in [(HOST, "120"), ("any.example.org", "30"), ("elsewhere.net", "5")] {
        let response = ask(stage.address(), &get(host, "/")).await;
        assert_eq!((response.status, response.error()), (503, "maintenance"), "{host}");
        let headers = ["retry-after", "cache-control"].map(|name| response.header(name));
        assert_eq!(headers, [Some(seconds), Some("no-store")], "{host}");
        let text = "This site is down for maintenance. Try again later. (maintenance)";
        assert_eq!(response.body.trim(), text, "{host}");
    }
    let in_json = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nAccept: application/json\r\n\r\n");
    let body: serde_json::Value = serde_json::from_str(&ask(stage.address(), &in_json).await.body).unwrap();
    assert_eq!(body["error"]["code"], "maintenance");
    for (host, served) in [
        (format!("pr1.{HOST}"), "preview"),
        ("pr1.any.example.org".into(), "preview"),
        ("open.example.com".into(), "shop"),
    ] {
        assert_eq!(ask(stage.address(), &get(&host, "/")).await.body, served, "{host}");
    }
    shop.state.release.add_permits(1);
    assert_eq!(begun.response().await.body, "shop", "it was in flight");
}

#[tokio::test(flavor = "multi_thread")]
async fn maintenance_ends_the_wait_for_a_sandbox_and_holds_while_control_is_away() {
    let mut stage = Stage::new("").await;
    let waiting = ask_often(stage.address(), 5, &get(HOST, "/"));
    stage.metric_becomes(WAITING, 5.0).await;
    changes(&stage, 1, down_for(60)).await;
    for response in all(waiting).await {
        assert_eq!((response.status, response.error()), (503, "maintenance"));
    }
    stage.keeps("routing", "retry_after").await;
    stage.control.kill(&stage.socket());
    assert_eq!(stage.get("/").await.error(), "maintenance");
    stage.restart_proxy().await;
    stage.proxy.wait_until_ready().await;
    let response = stage.get("/").await;
    assert_eq!(
        (response.error(), response.header("retry-after")),
        ("maintenance", Some("60"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delta_with_nothing_but_a_routes_settings_drops_no_lease() {
    let stage = Stage::new("").await;
    let app = App::start("app").await;
    let sandbox = stage.grant("shop-v1", &app, 10);
    let for_requests = |ask: &&AcquireRequest| ask.demand.queued > 0;
    let acquires = || {
        stage
            .control
            .change(|inner| inner.acquires.iter().filter(for_requests).count())
    };
    assert_eq!(stage.get("/").await.body, "app");
    let before = acquires();
    changes(&stage, 1, within_ms(5_000)).await;
    assert_eq!(stage.get("/").await.body, "app");
    changes(&stage, 2, down_for(1)).await;
    assert_eq!(stage.get("/").await.error(), "maintenance");
    changes(&stage, 3, plain()).await;
    assert_eq!(stage.get("/").await.body, "app");
    assert_eq!(acquires(), before, "no lease was asked for anew");
    assert!(!stage.was_given_back(sandbox));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_routes_own_timeout_is_that_of_its_requests_and_labels_and_of_no_others() {
    let stage = Stage::new("").await;
    let (shop, preview) = (App::start("shop").await, App::start("preview").await);
    stage.grant("shop-v1", &shop, 10);
    stage.grant(PREVIEW, &preview, 10);
    let mut routes = with_label(snapshot(2, "shop-v1"), "pr1", PREVIEW);
    routes.routes = vec![route(HOST, within_ms(300)), route("patient.example.com", plain())];
    stage.serve(&routes).await;
    let mut streaming = stage.client().await;
    streaming.send(&get(HOST, "/events")).await;
    assert!(streaming.read_past("data: first").await);
    let mut patient = stage.client().await;
    patient.send(&get("patient.example.com", "/hold")).await;
    becomes("requests", 2, || shop.requests()).await;
    // These are asked for after the others, and end before.
    for host in [HOST.to_owned(), format!("pr1.{HOST}")] {
        let response = ask(stage.address(), &get(&host, "/hold")).await;
        assert_eq!((response.status, response.error()), (504, "upstream_timeout"), "{host}");
    }
    // The one that was given up takes a permit too.
    shop.state.release.add_permits(2);
    let response = patient.response().await;
    assert_eq!((response.status, response.body.as_str()), (200, "shop"));
    shop.state.finish.notify_one();
    assert!(
        streaming.read_past("data: last").await,
        "an answer that began has no limit"
    );
}

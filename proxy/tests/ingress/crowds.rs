//! More connections than there are places: who asks is served, who is silent is not missed.

use crate::app::App;
use crate::client::{Client, PATIENCE, ask, get};
use crate::stage::{HOST, Stage, becomes};
use std::time::Instant;

/// Few places, all of which one address may have.
const FEW: &str = "limits.connections = 20\nlimits.connections_per_ip = 1000";

async fn silent(stage: &Stage, count: usize, begin: &str) -> Vec<Client> {
    let mut crowd = Vec::new();
    for _ in 0..count {
        let mut client = stage.client().await;
        if !begin.is_empty() {
            client.send(begin).await;
        }
        crowd.push(client);
    }
    crowd
}

/// Requests, readiness and metrics work beside a crowd of which each has sent `begin`.
async fn is_served_beside(settings: &str, begin: &str) {
    let stage = Stage::new(settings).await;
    let app = App::start("app").await;
    stage.grant("shop-v1", &app, 10);
    for _ in 0..5 {
        let crowd = silent(&stage, 40, begin).await;
        assert_eq!(stage.get("/").await.status, 200);
        for page in ["/readyz", "/metrics"] {
            let admin = stage.proxy.addresses.admin;
            assert_eq!(ask(admin, &get("localhost", page)).await.status, 200, "{page}");
        }
        drop(crowd);
    }
    stage
        .metric_reaches("miren_proxy_connections_evicted_total", 100.0)
        .await;
    assert_eq!(stage.metric("miren_proxy_connections_refused_total").await, 0.0);
    stage.metric_becomes("miren_proxy_open_connections", 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f13_a_crowd_of_silent_connections_stops_no_request() {
    is_served_beside(FEW, "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f13_a_crowd_of_unfinished_heads_stops_no_request() {
    is_served_beside(FEW, "GET / HTTP/1.1\r\nX-Drip: ").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f13_a_crowd_of_one_address_stops_no_request_of_the_same_address() {
    is_served_beside("limits.connections = 20", "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f13_a_kept_connection_gives_way_when_it_is_the_oldest() {
    let stage = Stage::new("limits.connections = 2\nlimits.connections_per_ip = 1000\ntimeouts.idle = \"600s\"").await;
    let (mut first, mut second) = (stage.client().await, stage.client().await);
    for client in [&mut first, &mut second] {
        assert_eq!(client.ask(&get("nowhere.net", "/")).await.status, 404);
    }
    let mut third = stage.client().await;
    assert_eq!(third.ask(&get("nowhere.net", "/")).await.status, 404);
    first.closed().await;
    assert_eq!(second.ask(&get("nowhere.net", "/")).await.status, 404, "it stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn f13_requests_under_way_are_never_cut_for_new_connections() {
    let stage = Stage::new("limits.connections = 2\nlimits.connections_per_ip = 1000").await;
    let app = App::start("app").await;
    stage.grant("shop-v1", &app, 10);
    let (mut first, mut second) = (stage.client().await, stage.client().await);
    for client in [&mut first, &mut second] {
        client.send(&get(HOST, "/hold")).await;
    }
    becomes("requests", 2, || app.requests()).await;
    for _ in 0..5 {
        stage.client().await.closed().await;
    }
    stage.metric_reaches("miren_proxy_connections_refused_total", 5.0).await;
    app.state.release.add_permits(2);
    for client in [&mut first, &mut second] {
        assert_eq!(client.response().await.status, 200);
    }
    // They are idle now: one of them gives way.
    let begun = Instant::now();
    while !knocks(&stage).await {
        assert!(begun.elapsed() < PATIENCE, "nobody is let in although nobody is busy");
    }
}

async fn knocks(stage: &Stage) -> bool {
    let mut client = stage.client().await;
    client.send(&get("nowhere.net", "/")).await;
    client.read_past("404").await
}

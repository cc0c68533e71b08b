//! Requests without a sandbox wait, bounded, and always get an answer that says why.

use crate::app::App;
use crate::client::{Client, Response, ask, get};
use crate::control::Inner;
use crate::stage::{HOST, Stage, all, becomes, snapshot};
use miren_api::{ApiError, ErrorCode};
use miren_loader::State;
use std::net::SocketAddr;
use tokio::task::JoinHandle;

pub const WAITING: &str = "miren_proxy_waiting_requests{app=\"shop\"}";

fn ask_many(address: SocketAddr, count: usize, path: &'static str) -> Vec<JoinHandle<Response>> {
    ask_often(address, count, &get(HOST, path))
}

/// The same request, from as many clients at once.
pub fn ask_often(address: SocketAddr, count: usize, request: &str) -> Vec<JoinHandle<Response>> {
    let one = |request: String| tokio::spawn(async move { ask(address, &request).await });
    (0..count).map(|_| one(request.to_owned())).collect()
}

/// Acquires for a version that wait for their answer, and the most there ever were at once.
pub fn acquiring(stage: &Stage, version: &str) -> (usize, usize) {
    let counted = |inner: &mut Inner| inner.acquiring.get(version).copied();
    stage.control.change(counted).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cold_request_waits_for_the_first_sandbox_with_one_acquire_for_all() {
    let stage = Stage::new("").await;
    let waiting = ask_many(stage.address(), 20, "/");
    stage.metric_becomes(WAITING, 20.0).await;
    becomes("acquires under way", 1, || acquiring(&stage, "shop-v1").0).await;
    let acquires = stage.control.change(|inner| inner.acquires.clone());
    for acquire in &acquires {
        assert_eq!((acquire.version.as_str(), acquire.service.as_str()), ("shop-v1", "web"));
    }
    assert!(
        acquires.iter().any(|acquire| acquire.demand.queued > 0),
        "it carries the demand"
    );
    let app = App::start("app").await;
    stage.grant("shop-v1", &app, 100);
    for response in all(waiting).await {
        assert_eq!((response.status, response.body.as_str()), (200, "app"));
    }
    assert_eq!(acquiring(&stage, "shop-v1").1, 1, "most acquires at once");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_requests_than_its_capacity_are_in_one_sandbox_and_the_rest_wait_their_turn() {
    let stage = Stage::new("").await;
    let app = App::start("app").await;
    stage.grant("shop-v1", &app, 2);
    let waiting = ask_many(stage.address(), 10, "/hold");
    becomes("requests", 2, || app.requests()).await;
    stage.metric_becomes(WAITING, 8.0).await;
    assert_eq!(app.requests(), 2);
    for served in 1..=10 {
        app.state.release.add_permits(1);
        becomes("requests", (served + 2).min(10), || app.requests()).await;
    }
    assert!(all(waiting).await.iter().all(|response| response.status == 200));
    stage.metric_becomes(WAITING, 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_queue_is_bounded_in_requests() {
    let stage = Stage::new("limits.waiting_requests = 3").await;
    let waiting = ask_many(stage.address(), 3, "/");
    stage.metric_becomes(WAITING, 3.0).await;
    let response = stage.get("/").await;
    assert_eq!(
        (response.status, response.error(), response.header("retry-after")),
        (503, "queue_full", Some("1"))
    );
    let app = App::start("app").await;
    stage.grant("shop-v1", &app, 100);
    assert!(all(waiting).await.iter().all(|response| response.status == 200));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_queue_is_bounded_in_bytes() {
    let stage = Stage::new("limits.waiting_bytes = \"1KiB\"").await;
    let large = format!(
        "GET / HTTP/1.1\r\nHost: {HOST}\r\nX-Large: {}\r\n\r\n",
        "x".repeat(1000)
    );
    assert_eq!(ask(stage.address(), &large).await.error(), "queue_full");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_longer_than_wait_for_capacity() {
    let stage = Stage::new("timeouts.wait_for_capacity = \"3s\"").await;
    let response = stage.get("/").await;
    assert_eq!((response.status, response.error()), (503, "wait_timeout"));
    assert!(response.header("retry-after").is_some());
    let app = App::start("app").await;
    stage.grant("shop-v1", &app, 1);
    let mut busy = stage.client().await;
    busy.send(&get(HOST, "/hold")).await;
    becomes("requests", 1, || app.requests()).await;
    assert_eq!(
        stage.get("/").await.error(),
        "at_capacity",
        "there is a sandbox, but no room in it"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reason_from_control_is_what_every_waiting_client_gets() {
    for (code, expected) in [
        (ErrorCode::BootFailed, "boot_failed"),
        (ErrorCode::Cooldown, "cooldown"),
        (ErrorCode::AtCapacity, "at_capacity"),
        (ErrorCode::Draining, "draining"),
    ] {
        let stage = Stage::new("").await;
        let waiting = ask_many(stage.address(), 5, "/");
        stage.metric_becomes(WAITING, 5.0).await;
        let refusal = ApiError::new(code, "no").retry_after(7);
        stage
            .control
            .change(|inner| inner.refusals.insert("shop-v1".into(), refusal));
        for response in all(waiting).await {
            assert_eq!(
                (response.status, response.error(), response.header("retry-after")),
                (503, expected, Some("7"))
            );
            assert!(!response.body.contains("shop-v1"), "no internal ids: {}", response.body);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_vanishes_from_the_queue_with_its_client() {
    let stage = Stage::new("").await;
    let mut client = Client::connect(stage.address()).await;
    client.send(&get(HOST, "/")).await;
    stage.metric_becomes(WAITING, 1.0).await;
    drop(client);
    stage.metric_becomes(WAITING, 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_requests_follow_their_host_to_another_version() {
    let stage = Stage::new("").await;
    let waiting = ask_many(stage.address(), 5, "/");
    stage.metric_becomes(WAITING, 5.0).await;
    let app = App::start("new").await;
    stage.grant("shop-v2", &app, 100);
    stage.control.publish(&snapshot(2, "shop-v2"));
    for response in all(waiting).await {
        assert_eq!((response.status, response.body.as_str()), (200, "new"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_request_survives_a_restart_of_control() {
    let mut stage = Stage::new("").await;
    let waiting = ask_many(stage.address(), 1, "/");
    stage.metric_becomes(WAITING, 1.0).await;
    // As a control that is being stopped: it refuses once, then it is gone for a while.
    let refusal = ApiError::new(ErrorCode::Draining, "control is stopping");
    stage
        .control
        .change(|inner| inner.one_refusal.insert("shop-v1".into(), refusal));
    becomes("refused", true, || {
        stage.control.change(|inner| inner.one_refusal.is_empty())
    })
    .await;
    stage.control.kill(&stage.socket());
    let app = App::start("app").await;
    stage.grant("shop-v1", &app, 10);
    stage.control.start(&stage.socket());
    assert_eq!(all(waiting).await[0].body, "app");
}

/// What control says of the node is for the operator; who asks is told that it is not the app, and those who wait go on.
#[tokio::test(flavor = "multi_thread")]
async fn f9_who_waits_in_vain_because_of_the_node_is_told_so_and_no_more() {
    let stage = Stage::new("timeouts.wait_for_capacity = \"3s\"").await;
    let detail = "the node cannot start a sandbox of pool-1: disk_full: /var/lib/miren: No space left on device";
    let fault = ApiError::new(ErrorCode::NodeFault, detail).retry_after(7);
    stage
        .control
        .change(|inner| inner.refusals.insert("shop-v1".to_owned(), fault));
    let mut client = stage.client().await;
    let response = client.ask(&get(HOST, "/")).await;
    assert_eq!((response.status, response.error()), (503, "node_fault"));
    assert_eq!(response.header("retry-after"), Some("7"));
    for told in ["disk", "/var", "No space", "pool-1"] {
        assert!(!response.body.contains(told), "{}", response.body);
    }
    // It is over while somebody waits: that one is served, and nothing is left of the fault.
    client.send(&get(HOST, "/")).await;
    stage.metric_becomes(WAITING, 1.0).await;
    stage.control.change(|inner| inner.refusals.clear());
    let app = App::start("app").await;
    let sandbox = stage.grant("shop-v1", &app, 1);
    assert_eq!(client.response().await.status, 200);
    stage.revoke("shop-v1", sandbox);
    stage.advance(sandbox, State::Dead);
    assert_eq!(client.ask(&get(HOST, "/")).await.error(), "wait_timeout");
}

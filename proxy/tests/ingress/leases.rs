//! A request is only ever sent to a sandbox that is RUNNING; what is lost is noticed and replaced.

use crate::app::{App, Nobody};
use crate::client::{Client, ask, get, post};
use crate::stage::{HOST, Stage, becomes, snapshot};
use miren_api::id::NodeId;
use miren_api::routing::SandboxHint;
use miren_loader::State;
use std::sync::atomic::Ordering;

#[tokio::test(flavor = "multi_thread")]
async fn i1_no_request_is_sent_to_a_generation_whose_word_is_not_running() {
    for state in [State::Draining, State::Stopping, State::Stopped, State::Dead] {
        let stage = Stage::new("").await;
        let (first, second) = (App::start("first").await, App::start("second").await);
        let sandbox = stage.grant("shop-v1", &first, 10);
        assert_eq!(stage.get("/").await.body, "first");
        stage.revoke("shop-v1", sandbox);
        stage.grant("shop-v1", &second, 10);
        stage.advance(sandbox, state);
        // At once: nobody told the proxy, and the app still answers on its port.
        assert_eq!(stage.get("/").await.body, "second", "{state}");
        assert_eq!(first.requests(), 1, "{state}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r4_connections_of_a_dead_generation_are_closed_without_a_request() {
    let stage = Stage::new("").await;
    let app = App::start("app").await;
    let sandbox = stage.grant("shop-v1", &app, 10);
    assert_eq!(stage.get("/").await.status, 200);
    assert_eq!(app.open_connections(), 1, "kept for the next request");
    stage.advance(sandbox, State::Dead);
    becomes("open connections", 0, || app.open_connections()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r7_a_refused_connect_drops_the_lease_and_any_method_is_sent_elsewhere() {
    let stage = Stage::new("").await;
    let nobody = Nobody::new();
    let sandbox = stage.run(nobody.address);
    stage.grant_lease("shop-v1", sandbox, nobody.address, 10);
    let address = stage.address();
    let asked = tokio::spawn(async move { ask(address, &post(HOST, "/", &"x".repeat(200_000))).await });
    // Control goes on granting the one nobody listens on; a second one comes along.
    stage.told_as_dropped(sandbox).await;
    let app = App::start("app").await;
    stage.revoke("shop-v1", sandbox);
    stage.grant("shop-v1", &app, 10);
    let response = asked.await.unwrap();
    if response.status == 200 {
        assert_eq!(app.last().body, 200_000, "the whole body was sent");
    } else {
        assert_eq!(
            response.error(),
            "upstream_unreachable",
            "all attempts were used up before"
        );
    }
    assert_eq!(stage.get("/").await.body, "app");
}

#[tokio::test(flavor = "multi_thread")]
async fn r7_with_a_second_sandbox_a_refused_connect_costs_no_request() {
    let stage = Stage::new("").await;
    let nobody = Nobody::new();
    let app = App::start("app").await;
    stage.grant_lease("shop-v1", stage.run(nobody.address), nobody.address, 10);
    stage.grant("shop-v1", &app, 10);
    for _ in 0..20 {
        let response = ask(stage.address(), &post(HOST, "/", "body")).await;
        assert_eq!((response.status, response.body.as_str()), (200, "app"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i6_address_and_port_reused_by_another_generation_never_get_the_old_connection() {
    let stage = Stage::new("").await;
    let app = App::start("app").await;
    let first = stage.grant("shop-v1", &app, 10);
    assert_eq!(stage.get("/").await.status, 200);
    assert_eq!(app.last().connection, 1);
    stage.revoke("shop-v1", first);
    stage.advance(first, State::Dead);
    let second = stage.run_in(first.key.slot, app.address);
    stage.grant_lease("shop-v1", second, app.address, 10);
    assert_ne!(first.key.generation, second.key.generation);
    assert_eq!(stage.get("/").await.status, 200);
    assert_eq!(
        app.last().connection,
        2,
        "same address, same port, another generation: another connection"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draining_sandbox_finishes_what_it_has_and_is_then_released() {
    let stage = Stage::new("").await;
    let (old, new) = (App::start("old").await, App::start("new").await);
    let sandbox = stage.grant("shop-v1", &old, 10);
    let mut busy = stage.client().await;
    busy.send(&get(HOST, "/hold")).await;
    becomes("requests of the old one", 1, || old.requests()).await;
    stage.revoke("shop-v1", sandbox);
    stage.grant("shop-v1", &new, 10);
    stage.advance(sandbox, State::Draining);
    let hint = SandboxHint {
        node: NodeId::FIRST,
        slot: sandbox.key.slot,
        generation: sandbox.key.generation,
        state: "DRAINING".into(),
    };
    stage.control.send("sandbox", serde_json::to_string(&hint).unwrap());
    assert_eq!(stage.get("/").await.body, "new");
    assert!(!stage.was_given_back(sandbox), "not before its last request has ended");
    old.state.release.add_permits(1);
    assert_eq!(busy.response().await.body, "old");
    stage.given_back(sandbox).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i9_a_tunnel_counts_as_a_request_until_it_ends() {
    let stage = Stage::new("").await;
    let app = App::start("app").await;
    let sandbox = stage.grant("shop-v1", &app, 10);
    let mut tunnel = crate::protocol::websocket(&stage).await;
    stage.advance(sandbox, State::Draining);
    stage.metric_reaches("miren_proxy_leases_closed_total", 1.0).await;
    tunnel.send("still here").await;
    assert!(tunnel.read_past("still here").await);
    assert!(!stage.was_given_back(sandbox));
    drop(tunnel);
    stage.given_back(sandbox).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_a_sandbox_that_dies_is_cut_off_not_ended() {
    let stage = Stage::new("").await;
    let app = App::start("app").await;
    let sandbox = stage.grant("shop-v1", &app, 10);
    let mut client = stage.client().await;
    client.send(&get(HOST, "/partial")).await;
    becomes("half answers", 1, || app.state.halves.load(Ordering::SeqCst)).await;
    stage.advance(sandbox, State::Dead);
    let response = client.response().await;
    assert_eq!(
        (response.status, response.body.as_str(), response.complete),
        (200, "half", false)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_get_on_a_sandbox_that_dies_is_sent_to_another_and_a_post_is_not() {
    let stage = Stage::new("").await;
    let (first, second) = (App::start("first").await, App::start("second").await);
    let sandbox = stage.grant("shop-v1", &first, 10);
    let (mut reads, mut writes) = (stage.client().await, stage.client().await);
    reads.send(&get(HOST, "/hold")).await;
    writes.send(&post(HOST, "/hold", "body")).await;
    becomes("requests", 2, || first.requests()).await;
    stage.revoke("shop-v1", sandbox);
    stage.grant("shop-v1", &second, 10);
    second.state.release.add_permits(1);
    stage.advance(sandbox, State::Dead);
    assert_eq!(reads.response().await.body, "second");
    let response = writes.response().await;
    assert_eq!((response.status, response.error()), (502, "upstream_closed"));
    assert_eq!(second.requests(), 1, "the POST was not sent twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_get_that_met_a_closing_connection_is_retried_and_a_post_is_not() {
    let stage = Stage::new("").await;
    let app = App::start("app").await;
    stage.grant("shop-v1", &app, 10);
    assert_eq!(stage.get("/").await.status, 200);
    let response = stage.get("/break").await;
    assert_eq!((response.status, response.error()), (502, "upstream_closed"));
    assert_eq!(app.requests(), 1 + 3, "three attempts");
    assert_eq!(stage.get("/").await.status, 200);
    let response = ask(stage.address(), &post(HOST, "/break", "body")).await;
    assert_eq!((response.status, response.error()), (502, "upstream_closed"));
    assert_eq!(app.requests(), 1 + 3 + 1 + 1, "one attempt");
}

#[tokio::test(flavor = "multi_thread")]
async fn i7_with_control_dead_running_sandboxes_serve_on() {
    let mut stage = Stage::new("").await;
    let (first, second) = (App::start("first").await, App::start("second").await);
    let sandbox = stage.grant("shop-v1", &first, 10);
    stage.grant("shop-v1", &second, 10);
    assert_eq!(stage.get("/").await.status, 200);
    stage.control.kill(&stage.socket());
    stage.metric_becomes("miren_proxy_control_connected", 0.0).await;
    let mut client = Client::connect(stage.address()).await;
    for _ in 0..20 {
        assert_eq!(client.ask(&get(HOST, "/")).await.status, 200);
    }
    // The kernel goes on telling which of them live.
    stage.advance(sandbox, State::Dead);
    let before = first.requests();
    for _ in 0..20 {
        assert_eq!(client.ask(&get(HOST, "/")).await.body, "second");
    }
    assert_eq!(first.requests(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_event_brings_new_sandboxes_into_use() {
    let stage = Stage::new("").await;
    let (first, second) = (App::start("first").await, App::start("second").await);
    stage.grant("shop-v1", &first, 10);
    assert_eq!(stage.get("/").await.body, "first");
    stage.grant("shop-v1", &second, 10);
    stage.control.send("pool", r#"{"pool":"pool-shop-v1"}"#.to_owned());
    stage.metric_becomes("miren_proxy_leases", 2.0).await;
    for _ in 0..40 {
        assert_eq!(stage.get("/").await.status, 200);
    }
    assert!(second.requests() > 0, "two random leases, the less loaded of them");
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_of_a_version_without_routes_are_given_back() {
    let stage = Stage::new("").await;
    let (old, new) = (App::start("old").await, App::start("new").await);
    let sandbox = stage.grant("shop-v1", &old, 10);
    stage.grant("shop-v2", &new, 10);
    assert_eq!(stage.get("/").await.body, "old");
    stage.control.publish(&snapshot(2, "shop-v2"));
    stage.given_back(sandbox).await;
    becomes("open connections", 0, || old.open_connections()).await;
}

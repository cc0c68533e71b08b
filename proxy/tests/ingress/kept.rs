//! Leases outlive the proxy and control: what is kept on disk serves at once, and only as long as it is true.

use crate::app::App;
use crate::client::get;
use crate::stage::{HOST, Sandbox, Stage, becomes, snapshot};
use miren_api::lease::{HeldLease, LeaseKey};
use miren_loader::State;
use std::path::PathBuf;

fn file(stage: &Stage) -> PathBuf {
    stage.folder.path().join("data/leases")
}

/// A proxy that has served a request and kept the lease, with control gone.
async fn served(settings: &str, app: &App) -> (Stage, Sandbox) {
    let mut stage = Stage::new(settings).await;
    let sandbox = stage.grant("shop-v1", app, 7);
    assert_eq!(stage.get("/").await.status, 200);
    stage.keeps("leases", "shop-v1").await;
    stage.keeps("routing", "shop-v1").await;
    stage.control.kill(&stage.socket());
    (stage, sandbox)
}

fn share(held: &HeldLease) -> (LeaseKey, u32) {
    (held.key(), held.capacity)
}

async fn restart(stage: &mut Stage) {
    stage.restart_proxy().await;
    stage.proxy.wait_until_ready().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i7_a_proxy_that_starts_without_control_serves_under_kept_leases_and_renews_them_first() {
    let app = App::start("app").await;
    let (mut stage, sandbox) = served("", &app).await;
    for _ in 0..2 {
        restart(&mut stage).await;
        assert_eq!(stage.get("/").await.body, "app");
    }
    let before = stage.control.change(|inner| {
        inner.renewals.clear();
        inner.acknowledged.clear();
        inner.holds_renewals = true;
        inner.acquires.len()
    });
    let socket = stage.socket();
    stage.control.start(&socket);
    becomes("renewed", true, || {
        stage.control.change(|inner| !inner.renewals.is_empty())
    })
    .await;
    becomes("followed", true, || {
        stage.control.change(|inner| !inner.acknowledged.is_empty())
    })
    .await;
    assert_eq!(stage.get("/").await.body, "app");
    stage.control.change(|inner| {
        let held: Vec<_> = inner.renewals[0].held.iter().map(share).collect();
        assert_eq!(held, [(sandbox.key, 7)]);
        assert_eq!(inner.acquires.len(), before, "not before control knows what it has");
        inner.holds_renewals = false;
    });
    becomes("asked again, now that control knows", true, || {
        stage.control.change(|inner| inner.acquires.len() > before)
    })
    .await;
    assert_eq!(stage.get("/").await.body, "app");
}

#[tokio::test(flavor = "multi_thread")]
async fn i1_k5_a_kept_lease_is_not_used_when_the_slot_is_another_generation_or_not_running() {
    for (state, is_replaced) in [(State::Dead, true), (State::Dead, false), (State::Draining, false)] {
        let app = App::start("app").await;
        let (mut stage, sandbox) = served("timeouts.wait_for_capacity = \"3s\"", &app).await;
        stage.advance(sandbox, state);
        if is_replaced {
            let next = stage.run_in(sandbox.key.slot, app.address);
            assert_ne!(next.key.generation, sandbox.key.generation);
        }
        restart(&mut stage).await;
        let response = stage.get("/").await;
        assert_eq!((response.status, response.error()), (503, "wait_timeout"), "{state}");
        assert_eq!(app.requests(), 1, "{state}: none since the restart");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i3_a_kept_lease_of_a_version_that_no_route_leads_to_is_not_used() {
    let app = App::start("app").await;
    let mut stage = Stage::new("timeouts.wait_for_capacity = \"3s\"").await;
    stage.grant("shop-v1", &app, 7);
    assert_eq!(stage.get("/").await.status, 200);
    stage.keeps("leases", "shop-v1").await;
    let kept = std::fs::read(file(&stage)).unwrap();
    stage.control.publish(&snapshot(2, "shop-v2"));
    stage.keeps("routing", "shop-v2").await;
    becomes("shop-v1", false, || {
        std::fs::read_to_string(file(&stage)).is_ok_and(|text| text.contains("shop-v1"))
    })
    .await;
    stage.control.kill(&stage.socket());
    // As if the proxy had been killed before it wrote them down again.
    std::fs::write(file(&stage), kept).unwrap();
    restart(&mut stage).await;
    assert_eq!(stage.get("/").await.error(), "wait_timeout");
    assert_eq!(stage.metric("miren_proxy_leases").await, 0.0);
    assert_eq!(app.requests(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_share_that_comes_with_a_renewal_is_kept_to_and_what_is_above_it_runs_out() {
    let app = App::start("app").await;
    let (mut stage, sandbox) = served("", &app).await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut client = stage.client().await;
        client.send(&get(HOST, "/hold")).await;
        clients.push(client);
    }
    becomes("requests", 4, || app.requests()).await;
    // Nothing comes with acquires.
    stage.revoke("shop-v1", sandbox);
    stage.control.change(|inner| inner.shares.insert(sandbox.key, 1));
    let socket = stage.socket();
    stage.control.start(&socket);
    stage.keeps("leases", "\"capacity\":1}").await;
    let mut late = stage.client().await;
    late.send(&get(HOST, "/hold")).await;
    stage
        .metric_becomes("miren_proxy_waiting_requests{app=\"shop\"}", 1.0)
        .await;
    assert_eq!(app.requests(), 4, "more than its share is in flight");
    app.state.release.add_permits(3);
    for client in &mut clients {
        assert_eq!(client.response().await.status, 200);
    }
    becomes("requests", 5, || app.requests()).await;
    app.state.release.add_permits(1);
    assert_eq!(late.response().await.status, 200);
}

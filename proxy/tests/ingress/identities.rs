//! What control says is believed by those only who read its slot table, and of two histories with the same numbers the one counts
//! that control goes by.

use crate::app::App;
use crate::client::get;
use crate::stage::{HOST, LINEAGE, Stage, becomes, snapshot};
use crate::waiting::{WAITING, ask_often};
use miren_api::routing::RoutingSnapshot;
use miren_proxy::Ended;

const OTHER: &str = "file-of-another-life";

/// What the proxy has ended for.
fn other_table(stage: &Stage) -> Ended {
    Ended::OtherTable {
        own: stage.table.table().to_string(),
        controls: OTHER.into(),
    }
}

/// Another control takes the place of this one, and writes another slot table.
fn writes_another_table(stage: &mut Stage) {
    stage.control.kill(&stage.socket());
    stage.control.change(|inner| {
        inner.acks.clear();
        inner.renewals.clear();
        inner.released.clear();
    });
    stage.control.says(OTHER);
    let socket = stage.socket();
    stage.control.start(&socket);
}

#[tokio::test(flavor = "multi_thread")]
async fn f10_a_proxy_of_another_table_finishes_what_it_has_takes_nothing_more_and_ends_for_a_successor() {
    let mut stage = Stage::new("").await;
    let app = App::start("app").await;
    let sandbox = stage.grant("shop-v1", &app, 2);
    let (mut busy, mut kept) = (stage.client().await, stage.client().await);
    busy.send(&get(HOST, "/hold")).await;
    kept.send(&get(HOST, "/hold")).await;
    becomes("requests", 2, || app.requests()).await;
    let waiting = ask_often(stage.address(), 1, &get(HOST, "/"));
    stage.metric_becomes(WAITING, 1.0).await;

    writes_another_table(&mut stage);
    for response in crate::stage::all(waiting).await {
        assert_eq!((response.status, response.error()), (503, "draining"));
        assert_eq!(response.header("retry-after"), Some("1"));
    }
    app.state.release.add_permits(1);
    let (first, mut second) = tokio::select! {
        response = busy.response() => (response, kept),
        response = kept.response() => (response, busy),
    };
    assert_eq!((first.status, first.body.as_str()), (200, "app"));
    app.state.release.add_permits(1);
    assert_eq!(second.response().await.status, 200, "what was in flight is finished");
    let (ended, asked) = (other_table(&stage), app.requests());
    let Stage { proxy, control, .. } = stage;
    assert_eq!(proxy.ended().await, ended);
    assert_eq!(asked, 2, "no request was sent by a table that nobody writes");
    control.change(|inner| {
        assert_eq!(inner.acks, [], "it serves nothing of this control's");
        assert_eq!(inner.renewals.len(), 0, "slots of another table");
        assert!(!inner.released.contains(&sandbox.key), "slots of another table");
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn f10_leases_of_another_table_are_not_used_however_running_their_slots_look() {
    let stage = Stage::new("").await;
    let app = App::start("app").await;
    let waiting = ask_often(stage.address(), 1, &get(HOST, "/"));
    stage.metric_becomes(WAITING, 1.0).await;
    // The stream is another control's still: the answer itself has to say it.
    stage.control.says(OTHER);
    stage.grant("shop-v1", &app, 10);
    for response in crate::stage::all(waiting).await {
        assert_eq!((response.status, response.error()), (503, "draining"));
    }
    let ended = other_table(&stage);
    assert_eq!(stage.proxy.ended().await, ended);
    assert_eq!(app.requests(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn f10_a_proxy_that_starts_on_another_table_than_controls_serves_nothing_and_ends() {
    let mut stage = Stage::new("").await;
    let app = App::start("app").await;
    stage.grant("shop-v1", &app, 10);
    assert_eq!(stage.get("/").await.status, 200);
    stage.keeps("leases", "shop-v1").await;
    writes_another_table(&mut stage);
    stage.restart_proxy().await;
    let ended = other_table(&stage);
    assert_eq!(stage.proxy.ended().await, ended);
    assert_eq!(app.requests(), 1);
}

/// A control on another store takes the place of this one.
fn goes_by(stage: &mut Stage, told: &RoutingSnapshot) {
    stage.control.kill(&stage.socket());
    stage.control.forget();
    stage.control.change(|inner| inner.acks.clear());
    stage.control.publish(told);
    let socket = stage.socket();
    stage.control.start(&socket);
}

#[tokio::test(flavor = "multi_thread")]
async fn f10_routing_of_another_history_is_taken_whatever_its_number_and_acknowledged_as_such() {
    // A store that was put back goes on from an earlier number, or has reached the same one, or a higher one, by other changes.
    for (lineage, generation) in [
        ("restored", 3),
        ("restored", 8),
        ("restored", 9),
        (LINEAGE, 3),
        ("", 3),
        ("", 8),
    ] {
        let mut stage = Stage::new("").await;
        let (old, new) = (App::start("old").await, App::start("new").await);
        stage.grant("shop-v1", &old, 10);
        stage.grant("shop-v2", &new, 10);
        stage.serve(&snapshot(8, "shop-v1")).await;
        assert_eq!(stage.get("/").await.body, "old");
        let told = RoutingSnapshot {
            lineage: lineage.into(),
            ..snapshot(generation, "shop-v2")
        };
        goes_by(&mut stage, &told);
        let acks = || stage.control.change(|inner| inner.acks.clone());
        let last = Some((lineage.to_owned(), generation));
        becomes("acknowledged", last, || acks().last().cloned()).await;
        assert_eq!(stage.get("/").await.body, "new", "{lineage} {generation}");
        stage.keeps("routing", "shop-v2").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f10_a_restart_of_control_changes_nothing_that_is_served() {
    let mut stage = Stage::new("").await;
    let app = App::start("app").await;
    stage.grant("shop-v1", &app, 10);
    stage.serve(&snapshot(8, "shop-v1")).await;
    let mut client = stage.client().await;
    assert_eq!(client.ask(&get(HOST, "/")).await.body, "app");
    goes_by(&mut stage, &snapshot(8, "shop-v1"));
    let acks = || stage.control.change(|inner| inner.acks.clone());
    becomes("acknowledged", Some((LINEAGE.to_owned(), 8)), || acks().last().cloned()).await;
    assert_eq!(client.ask(&get(HOST, "/")).await.body, "app");
    assert_eq!(app.last().connection, 1, "the same lease, and its connection");
}

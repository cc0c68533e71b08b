//! Sandboxes that take requests and answer nothing.

use crate::app::App;
use crate::client::{PATIENCE, Response, ask, get, post};
use crate::stage::{HOST, Stage, all, becomes, snapshot, with_label};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

const MOVED: &str = "miren_proxy_stalled_requests_total";
const RESTS: &str = "miren_proxy_sandbox_rests_total";

/// Two apps whose pace is known; `/hold` is answered by the second one only.
async fn one_of_two_is_stuck() -> (Stage, App, App) {
    let stage = Stage::new("").await;
    let (stuck, well) = (App::start("stuck").await, App::start("well").await);
    stage.grant("shop-v1", &stuck, 100);
    stage.grant("shop-v1", &well, 100);
    for _ in 0..50 {
        assert_eq!(stage.get("/").await.status, 200);
    }
    well.state.release.add_permits(10_000);
    (stage, stuck, well)
}

#[tokio::test(flavor = "multi_thread")]
async fn r4_what_may_be_repeated_leaves_a_stuck_sandbox_which_then_rests_until_it_answers() {
    let (stage, stuck, well) = one_of_two_is_stuck().await;
    let begun = Instant::now();
    while stage.metric(RESTS).await < 1.0 {
        let response = stage.get("/hold").await;
        assert_eq!((response.status, response.body.as_str()), (200, "well"));
        assert!(begun.elapsed() < PATIENCE, "it never rests");
    }
    assert!(stage.metric(MOVED).await >= 3.0);
    // What may not be repeated never is a trial.
    for _ in 0..20 {
        let response = ask(stage.address(), &post(HOST, "/hold", "body")).await;
        assert_eq!((response.status, response.body.as_str()), (200, "well"));
    }
    assert!(stuck.state.seen.lock().iter().all(|seen| seen.body == 0));
    stuck.state.release.add_permits(10_000);
    while stage.get("/hold").await.body != "stuck" {
        assert!(begun.elapsed() < PATIENCE, "it never comes back");
    }
    drop(well);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kind_of_request_that_is_slow_is_hurried_once_and_then_known() {
    let stage = Stage::new("").await;
    let (one, other) = (App::start("one").await, App::start("other").await);
    stage.grant("shop-v1", &one, 100);
    stage.grant("shop-v1", &other, 100);
    for _ in 0..50 {
        assert_eq!(stage.get("/").await.status, 200);
    }
    let mut moved = 0.0;
    // The first one takes so long that the later ones are far below twice of it, also on a machine that stands still for
    // seconds.
    for takes in [3_000, 200, 200].map(Duration::from_millis) {
        let mut slow = stage.client().await;
        slow.send(&get(HOST, "/hold")).await;
        let begun = Instant::now();
        while begun.elapsed() < takes {
            assert_eq!(stage.get("/").await.status, 200);
        }
        for app in [&one, &other] {
            app.state.release.add_permits(1);
        }
        assert!(slow.read_past("200 OK").await);
        // Whichever did not hold it keeps its permit; the next one is to be held by both.
        for app in [&one, &other] {
            app.state.release.forget_permits(10);
        }
        if moved == 0.0 {
            moved = stage.metric(MOVED).await;
        }
    }
    assert!(moved >= 1.0, "the first one was hurried");
    assert_eq!(stage.metric(MOVED).await, moved, "the later ones were not");
}

/// Two apps for `version`, reached at `host`, whose pace is known; `/hold` is answered by neither.
async fn two_known(stage: &Stage, version: &str, host: &str) -> [App; 2] {
    let apps = [App::start("one").await, App::start("other").await];
    for app in &apps {
        stage.grant(version, app, 100);
    }
    for _ in 0..50 {
        assert_eq!(ask(stage.address(), &get(host, "/")).await.status, 200);
    }
    for app in &apps {
        app.state.seen.lock().clear();
    }
    apps
}

fn send(stage: &Stage, request: &str) -> JoinHandle<Response> {
    let (address, request) = (stage.address(), request.to_owned());
    tokio::spawn(async move { ask(address, &request).await })
}

fn seen(apps: &[App]) -> usize {
    apps.iter().map(App::requests).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn f16_what_changes_something_is_never_asked_of_two_sandboxes() {
    let stage = Stage::new("").await;
    let apps = two_known(&stage, "shop-v1", HOST).await;
    let with = |method| send(&stage, &get(HOST, "/hold").replace("GET", method));
    let mut asked: Vec<_> = ["DELETE", "PUT", "DELETE", "PUT"].map(with).into();
    becomes("all of them are under way", 4, || seen(&apps)).await;
    // These are younger: where they were taken away, the others could have been.
    asked.extend(["GET", "OPTIONS", "GET"].map(with));
    stage.metric_becomes(MOVED, 3.0).await;
    apps.iter().for_each(|app| app.state.release.add_permits(1_000));
    assert!(all(asked).await.iter().all(|response| response.status == 200));
    let methods = apps.iter().flat_map(|app| app.state.seen.lock().clone());
    let mut methods: Vec<String> = methods.map(|seen| seen.method).collect();
    methods.sort();
    let each_that_reads_twice = "DELETE DELETE GET GET GET GET OPTIONS OPTIONS PUT PUT";
    assert_eq!(methods.join(" "), each_that_reads_twice);
}

#[tokio::test(flavor = "multi_thread")]
async fn f16_a_service_that_says_so_is_never_asked_twice() {
    let stage = Stage::new("").await;
    stage.serve(&with_label(snapshot(2, "shop-v1"), "pr1", "shop-v2")).await;
    stage.control.change(|inner| {
        inner.unhedged.insert("shop-v1".into());
    });
    let host = format!("pr1.{HOST}");
    let (off, on) = (
        two_known(&stage, "shop-v1", HOST).await,
        two_known(&stage, "shop-v2", &host).await,
    );
    let mut asked = Vec::from([(); 2].map(|()| send(&stage, &get(HOST, "/hold"))));
    becomes("both are under way", 2, || seen(&off)).await;
    asked.extend([(); 2].map(|()| send(&stage, &get(&host, "/hold"))));
    stage.metric_becomes(MOVED, 2.0).await;
    on.iter()
        .chain(&off)
        .for_each(|app| app.state.release.add_permits(1_000));
    assert!(all(asked).await.iter().all(|response| response.status == 200));
    assert_eq!((seen(&off), seen(&on)), (2, 4));
}

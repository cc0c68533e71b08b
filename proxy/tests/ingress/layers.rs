//! Three layers keep requests away from sandboxes that should get none: each does it alone, with the other two cut.
//!
//! The slot word, what control tells on its stream, and renewals with failed connects.

use crate::app::App;
use crate::client::{Client, ask, get, post};
use crate::stage::{HOST, Sandbox, Stage, becomes, snapshot, with_label};
use miren_loader::State;

/// So many requests in a row that one of two sandboxes is not passed over by chance.
const MANY: usize = 30;
const LEASES: &str = "miren_proxy_leases";
const CLOSED: &str = "miren_proxy_leases_closed_total";
const RETRIES: &str = "miren_proxy_retries_total";
const PREVIEW: &str = "pr1.shop.example.com";

async fn all_go_to(stage: &Stage, name: &str) {
    for _ in 0..MANY {
        let response = stage.get("/").await;
        assert_eq!((response.status, response.body.as_str()), (200, name));
    }
}

/// A request that the only sandbox there is has begun to serve, and that may not be sent to another one however long it takes.
async fn busy(stage: &Stage, app: &App) -> Client {
    let mut client = stage.client().await;
    client.send(&post(HOST, "/hold", "body")).await;
    becomes("requests", 1, || app.requests()).await;
    client
}

/// Requests go to "second" from now on and none to `first`, although the word of its sandbox says RUNNING.
async fn is_left(stage: &Stage, first: &App, sandbox: Sandbox) {
    let before = first.requests();
    all_go_to(stage, "second").await;
    assert_eq!(first.requests(), before);
    assert!(stage.runs(sandbox));
}

/// It ends as if nothing had happened; then the lease is given back.
async fn finishes(stage: &Stage, mut busy: Client, app: &App, sandbox: Sandbox) {
    assert!(!stage.was_given_back(sandbox), "a request is still under way");
    app.state.release.add_permits(1);
    assert_eq!(busy.response().await.status, 200);
    stage.given_back(sandbox).await;
}

/// A proxy whose renewals get no answer.
async fn without_renewals() -> Stage {
    let stage = Stage::new("").await;
    stage.control.change(|inner| inner.holds_renewals = true);
    stage
}

/// What is to be granted from now on is known to nobody: acquires find nothing.
fn grant_nothing(stage: &Stage) {
    stage.control.change(|inner| inner.leases.clear());
}

fn silence(stage: &Stage, is_silent: bool) {
    stage.control.change(|inner| inner.is_silent = is_silent);
}

// The word alone: control is dead, so that nothing is told, renewed or granted.

#[tokio::test(flavor = "multi_thread")]
async fn r4_the_word_alone_sends_the_very_next_request_elsewhere() {
    for state in [State::Draining, State::Stopping, State::Stopped, State::Dead] {
        let mut stage = Stage::new("").await;
        let (first, second) = (App::start("first").await, App::start("second").await);
        let sandbox = stage.grant("shop-v1", &first, 10);
        stage.grant("shop-v1", &second, 10);
        for _ in 0..MANY {
            assert_eq!(stage.get("/").await.status, 200);
        }
        stage.control.kill(&stage.socket());
        stage.metric_becomes("miren_proxy_control_connected", 0.0).await;
        let before = (first.requests(), first.connections());
        assert!(before.0 > 0, "both of them served");
        stage.advance(sandbox, state);
        all_go_to(&stage, "second").await;
        assert_eq!((first.requests(), first.connections()), before, "{state}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn k1_the_word_alone_lets_no_connection_be_made() {
    for state in [State::Draining, State::Dead] {
        let mut stage = Stage::new("timeouts.wait_for_capacity = \"3s\"").await;
        let app = App::start("app").await;
        let sandbox = stage.grant("shop-v1", &app, 10);
        assert_eq!(stage.get("/").await.status, 200);
        stage.control.kill(&stage.socket());
        let before = (app.requests(), app.connections());
        stage.advance(sandbox, state);
        let response = stage.get("/").await;
        assert_eq!((response.status, response.error()), (503, "wait_timeout"), "{state}");
        assert_eq!((app.requests(), app.connections()), before, "{state}");
    }
}

// The stream alone: words stay RUNNING, every sandbox goes on listening, and no renewal says that a lease is lost.

#[tokio::test(flavor = "multi_thread")]
async fn r5_a_snapshot_alone_ends_new_requests_to_the_version_before() {
    let stage = without_renewals().await;
    let (old, new) = (App::start("old").await, App::start("new").await);
    let sandbox = stage.grant("shop-v1", &old, 10);
    stage.grant("shop-v2", &new, 10);
    let busy = busy(&stage, &old).await;
    stage.control.publish(&snapshot(2, "shop-v2"));
    stage.acknowledged(2).await;
    all_go_to(&stage, "new").await;
    assert_eq!(old.requests(), 1);
    assert!(stage.runs(sandbox));
    finishes(&stage, busy, &old, sandbox).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r5_a_pool_event_alone_ends_new_requests_to_what_is_granted_no_more() {
    let stage = without_renewals().await;
    let (first, second) = (App::start("first").await, App::start("second").await);
    let sandbox = stage.grant("shop-v1", &first, 10);
    let busy = busy(&stage, &first).await;
    assert_eq!(stage.get("/").await.body, "first");
    stage.revoke("shop-v1", sandbox);
    stage.grant("shop-v1", &second, 10);
    stage.control.send("pool", r#"{"pool":"pool-shop-v1"}"#.to_owned());
    stage.moves("first", "second").await;
    is_left(&stage, &first, sandbox).await;
    finishes(&stage, busy, &first, sandbox).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r5_after_a_gap_in_the_stream_all_that_changed_meanwhile_is_known() {
    let mut stage = Stage::new("").await;
    let (one, two) = (App::start("one").await, App::start("two").await);
    let (preview, other) = (App::start("preview").await, App::start("other").await);
    let sandbox = stage.grant("shop-v1", &one, 10);
    let previewing = stage.grant("shop-pr1", &preview, 10);
    stage
        .control
        .publish(&with_label(snapshot(2, "shop-v1"), "pr1", "shop-pr1"));
    stage.acknowledged(2).await;
    assert_eq!(stage.get("/").await.body, "one");
    assert_eq!(ask(stage.address(), &get(PREVIEW, "/")).await.body, "preview");

    let socket = stage.socket();
    stage.control.kill(&socket);
    // Of all that, the stream only ever says the last snapshot.
    stage.grant("shop-v2", &two, 10);
    stage.control.publish(&snapshot(3, "shop-v2"));
    stage.revoke("shop-pr1", previewing);
    stage.grant("shop-pr1", &other, 10);
    stage.control.send("pool", r#"{"pool":"pool-shop-pr1"}"#.to_owned());
    stage.control.publish(&snapshot(4, "shop-v1"));
    stage
        .control
        .publish(&with_label(snapshot(5, "shop-v2"), "pr1", "shop-pr1"));
    let before = one.requests();
    all_go_to(&stage, "one").await;
    assert_eq!(one.requests(), before + MANY, "it serves on by what it knows");

    stage.control.start(&socket);
    stage.acknowledged(5).await;
    all_go_to(&stage, "two").await;
    assert_eq!(one.requests(), before + MANY);
    // No event says it: the proxy asks for every pool it uses.
    becomes("given back", true, || stage.was_given_back(previewing)).await;
    let before = preview.requests();
    for _ in 0..MANY {
        assert_eq!(ask(stage.address(), &get(PREVIEW, "/")).await.body, "other");
    }
    assert_eq!(preview.requests(), before);
    assert!(stage.runs(sandbox) && stage.runs(previewing));
}

#[tokio::test(flavor = "multi_thread")]
async fn r5_a_proxy_that_reads_late_goes_on_from_the_newest_state() {
    let stage = without_renewals().await;
    let (one, two, three) = (
        App::start("one").await,
        App::start("two").await,
        App::start("three").await,
    );
    let left = [stage.grant("shop-v1", &one, 10), stage.grant("shop-v2", &two, 10)];
    stage.grant("shop-v3", &three, 10);
    all_go_to(&stage, "one").await;
    silence(&stage, true);
    for (generation, version) in [(2, "shop-v2"), (3, "shop-v1"), (4, "shop-v2"), (5, "shop-v3")] {
        stage.control.publish(&snapshot(generation, version));
    }
    all_go_to(&stage, "one").await;
    silence(&stage, false);
    stage.acknowledged(5).await;
    let before = one.requests();
    all_go_to(&stage, "three").await;
    assert_eq!((one.requests(), two.requests()), (before, 0));
    assert!(left.iter().all(|sandbox| stage.runs(*sandbox)));
}

// Renewals and failed connects alone: words stay RUNNING, and the stream says nothing.

#[tokio::test(flavor = "multi_thread")]
async fn r6_a_renewal_alone_ends_a_lease_that_is_lost() {
    let mut stage = Stage::new("").await;
    let (first, second) = (App::start("first").await, App::start("second").await);
    let sandbox = stage.grant("shop-v1", &first, 10);
    let busy = busy(&stage, &first).await;
    stage.grant("shop-v1", &second, 10);
    stage.control.send("pool", r#"{"pool":"pool-shop-v1"}"#.to_owned());
    stage.metric_becomes(LEASES, 2.0).await;
    silence(&stage, true);
    grant_nothing(&stage);
    stage.control.change(|inner| inner.lost.push(sandbox.key));
    // It renews as soon as control is there again, and need not be waited for.
    let socket = stage.socket();
    stage.control.kill(&socket);
    stage.control.start(&socket);
    stage.metric_reaches(CLOSED, 1.0).await;
    is_left(&stage, &first, sandbox).await;
    finishes(&stage, busy, &first, sandbox).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r7_a_failed_connect_alone_ends_a_lease_and_costs_no_request() {
    let stage = without_renewals().await;
    let (one, other) = (App::start("one").await, App::start("other").await);
    let (at_one, at_other) = (stage.grant("shop-v1", &one, 1), stage.grant("shop-v1", &other, 1));
    let mut busy = stage.client().await;
    busy.send(&post(HOST, "/hold", "body")).await;
    becomes("requests", 1, || one.requests() + other.requests()).await;
    // The one that is busy has no room; the other one was never connected to, and now nobody is there.
    let (working, gone, dead) = match one.requests() {
        1 => (one, other, at_other),
        _ => (other, one, at_one),
    };
    let nobody = gone.stop_listening().await;
    silence(&stage, true);
    grant_nothing(&stage);
    let address = stage.address();
    let asked = tokio::spawn(async move { ask(address, &post(HOST, "/", &"x".repeat(200_000))).await });
    stage.told_as_dropped(dead).await;
    let fresh = App::start("fresh").await;
    stage.grant("shop-v1", &fresh, 10);
    let response = asked.await.unwrap();
    assert_eq!((response.status, response.body.as_str()), (200, "fresh"));
    assert_eq!(fresh.last().body, 200_000, "all of it was sent");
    all_go_to(&stage, "fresh").await;
    assert_eq!(stage.metric(RETRIES).await, 1.0, "never again where nobody was");
    assert!(stage.runs(dead), "{}", nobody.address);
    working.state.release.add_permits(1);
    assert_eq!(busy.response().await.status, 200);
}

//! What is under way to a sandbox that is retired: it has the time that control says, and then an end that cannot be mistaken.

use crate::app::App;
use crate::client::{Client, get, post};
use crate::protocol::websocket;
use crate::raw::RawApp;
use crate::stage::{HOST, Sandbox, Stage, becomes};
use miren_api::lease::ClosingLease;
use miren_api::routing::SandboxHint;
use miren_loader::State;

mod goodbyes;

/// Longer than any test.
const LONG: u64 = 86_400_000;

/// Control retires it, and says how many milliseconds there are for requests and for tunnels.
fn retire(stage: &Stage, sandbox: Sandbox, (requests_ms, tunnels_ms): (u64, u64)) {
    stage.revoke("shop-v1", sandbox);
    stage.control.change(|inner| inner.lost.push(sandbox.key));
    stage.advance(sandbox, State::Draining);
    tell(stage, sandbox, (requests_ms, tunnels_ms));
}

/// Control says it anew.
fn tell(stage: &Stage, sandbox: Sandbox, (requests_ms, tunnels_ms): (u64, u64)) {
    let (slot, generation) = (sandbox.key.slot, sandbox.key.generation);
    let closing = ClosingLease {
        node: sandbox.key.node,
        slot,
        generation,
        requests_ms,
        tunnels_ms,
    };
    stage.control.change(|inner| inner.closing.insert(sandbox.key, closing));
    hint(stage, sandbox);
}

fn hint(stage: &Stage, sandbox: Sandbox) {
    let hint = SandboxHint {
        node: sandbox.key.node,
        slot: sandbox.key.slot,
        generation: sandbox.key.generation,
        state: "DRAINING".into(),
    };
    stage.control.send("sandbox", serde_json::to_string(&hint).unwrap());
}

/// Waits until control has answered a renewal in which this sandbox was held with so much under way.
async fn renewed(stage: &Stage, sandbox: Sandbox, in_flight: u32) {
    becomes("renewed with it", true, || {
        stage.control.change(|inner| {
            let mut held = inner.renewals.iter().flat_map(|renewal| &renewal.held);
            held.any(|held| held.key() == sandbox.key && held.in_flight == in_flight)
        })
    })
    .await;
}

async fn asks(stage: &Stage, request: &str) -> Client {
    let mut client = stage.client().await;
    client.send(request).await;
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn r4_what_a_frozen_sandbox_was_sent_before_it_was_retired_leaves_it_too() {
    let stage = Stage::new("").await;
    let [frozen, well, next] = [
        App::start("frozen").await,
        App::start("well").await,
        App::start("next").await,
    ];
    let [stuck, other] = [&frozen, &well].map(|app| stage.grant("shop-v1", app, 100));
    for _ in 0..50 {
        assert_eq!(stage.get("/").await.status, 200);
    }
    well.state.release.add_permits(10_000);
    while stage.metric("miren_proxy_sandbox_rests_total").await < 1.0 {
        assert_eq!(stage.get("/hold").await.body, "well");
    }
    retire(&stage, other, (LONG, LONG));
    stage.given_back(other).await;
    // Better than none, and nobody else is there to take it over.
    let before = frozen.requests();
    let mut client = asks(&stage, &get(HOST, "/hold")).await;
    becomes("it is under way", before + 1, || frozen.requests()).await;
    retire(&stage, stuck, (LONG, LONG));
    renewed(&stage, stuck, 1).await;
    next.state.release.add_permits(1);
    stage.grant("shop-v1", &next, 100);
    // Control is asked for a lease by whoever needs one.
    assert_eq!(stage.get("/").await.body, "next");
    assert!(client.read_past("200 OK").await, "it is answered");
    assert_eq!((frozen.requests(), next.requests()), (before + 1, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn i9_before_the_head_a_request_is_answered_504_at_its_deadline_and_asked_nowhere_else() {
    let stage = Stage::new("").await;
    let (old, new) = (App::start("old").await, App::start("new").await);
    let sandbox = stage.grant("shop-v1", &old, 10);
    let body = "x".repeat(100_000);
    let unfinished = format!("POST /hold HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 200000\r\n\r\n{body}");
    let mut clients = [
        asks(&stage, &get(HOST, "/hold")).await,
        asks(&stage, &post(HOST, "/hold", "body")).await,
    ];
    becomes("requests", 2, || old.requests()).await;
    let mut uploads = asks(&stage, &unfinished).await;
    becomes("connections", 3, || old.connections()).await;
    stage.grant("shop-v1", &new, 10);
    retire(&stage, sandbox, (0, LONG));
    for client in clients.iter_mut().chain([&mut uploads]) {
        let answer = client.response().await;
        assert_eq!((answer.status, answer.error()), (504, "drain_deadline"));
    }
    stage.given_back(sandbox).await;
    assert_eq!(new.requests(), 0, "each was answered for good");
    assert_eq!(stage.get("/").await.body, "new");
}

#[tokio::test(flavor = "multi_thread")]
async fn i9_a_request_has_all_of_its_time_and_its_lease_is_given_back_behind_it() {
    let stage = Stage::new("").await;
    let app = App::start("app").await;
    let sandbox = stage.grant("shop-v1", &app, 10);
    let mut client = asks(&stage, &get(HOST, "/hold")).await;
    becomes("requests", 1, || app.requests()).await;
    retire(&stage, sandbox, (LONG, 0));
    renewed(&stage, sandbox, 1).await;
    // Told again, and more: neither ends anything.
    tell(&stage, sandbox, (LONG, LONG));
    assert!(!stage.was_given_back(sandbox));
    app.state.release.add_permits(1);
    let answer = client.response().await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "app"));
    stage.given_back(sandbox).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn l3_a_deadline_that_comes_nearer_is_kept_and_one_that_moves_away_is_not() {
    let stage = Stage::new("").await;
    let app = App::start("app").await;
    let sandbox = stage.grant("shop-v1", &app, 10);
    let mut client = asks(&stage, &get(HOST, "/hold")).await;
    becomes("requests", 1, || app.requests()).await;
    retire(&stage, sandbox, (LONG, LONG));
    renewed(&stage, sandbox, 1).await;
    tell(&stage, sandbox, (1, LONG));
    let answer = client.response().await;
    assert_eq!((answer.status, answer.error()), (504, "drain_deadline"));
}

#[tokio::test(flavor = "multi_thread")]
async fn after_its_head_an_answer_is_cut_at_the_deadline_and_never_ended() {
    let stage = Stage::new("").await;
    let app = RawApp::start(|mut conn| async move {
        let Some(request) = conn.request().await else { return };
        let head = match request.path() {
            "/chunked" => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegin\r\n",
            "/length" => "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nbegin",
            _ => "HTTP/1.1 200 OK\r\n\r\nbegin",
        };
        conn.say(head).await;
        conn.closed().await;
    })
    .await;
    let sandbox = app.granted(&stage, 10);
    let mut clients = Vec::new();
    for path in ["/chunked", "/length", "/until-close"] {
        for request in [get(HOST, path), post(HOST, path, "body")] {
            let mut client = asks(&stage, &request).await;
            assert!(client.read_past("begin").await, "{path}");
            clients.push((path, client));
        }
    }
    retire(&stage, sandbox, (0, LONG));
    for (path, client) in &mut clients {
        let rest = client.bytes(1000).await;
        let rest = String::from_utf8_lossy(&rest);
        assert!(["", "\r\n"].contains(&&*rest), "{path} was ended: {rest:?}");
    }
    stage.given_back(sandbox).await;
    becomes("open connections", 0, || app.open_connections()).await;
}

/// HTTP/1.0 knows the end of an answer without a length only by the end of its connection: a reset tells it apart.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_ends_with_its_connection_is_reset_at_the_deadline() {
    let stage = Stage::new("").await;
    let app = RawApp::start(|mut conn| async move {
        if conn.request().await.is_some() && conn.say("HTTP/1.1 200 OK\r\n\r\nbegin").await {
            conn.closed().await;
        }
    })
    .await;
    let sandbox = app.granted(&stage, 10);
    let mut client = asks(&stage, &format!("GET / HTTP/1.0\r\nHost: {HOST}\r\n\r\n")).await;
    assert!(client.read_past("begin").await);
    retire(&stage, sandbox, (0, LONG));
    let mut byte = [0];
    let end = tokio::io::AsyncReadExt::read(&mut client.stream, &mut byte);
    let end = tokio::time::timeout(crate::client::PATIENCE, end)
        .await
        .expect("an end");
    let end = end.expect_err("not an end that looks like that of the answer");
    assert_eq!(end.kind(), std::io::ErrorKind::ConnectionReset);
}

/// Control takes what it is told to be of no use for given back, and would not wait for it.
#[tokio::test(flavor = "multi_thread")]
async fn l1_a_sandbox_that_refuses_connections_is_held_for_what_is_under_way_there() {
    let stage = Stage::new("").await;
    let new = App::start("new").await;
    let old = RawApp::start(|mut conn| async move {
        if conn.request().await.is_some() {
            conn.stop_listening().await;
            conn.wait().await;
            conn.answer("old", false).await;
        }
    })
    .await;
    let sandbox = old.granted(&stage, 10);
    let mut client = asks(&stage, &get(HOST, "/")).await;
    old.at_point(1).await;
    let mut refused = asks(&stage, &get(HOST, "/")).await;
    stage
        .metric_reaches("miren_proxy_leases_dropped_total{app=\"shop\"}", 1.0)
        .await;
    stage.revoke("shop-v1", sandbox);
    stage.grant("shop-v1", &new, 10);
    assert_eq!(refused.response().await.body, "new");
    let told = stage
        .control
        .change(|inner| inner.acquires.iter().any(|ask| !ask.dropped.is_empty()));
    assert!(!told && !stage.was_given_back(sandbox), "a request is under way there");
    old.log.go.add_permits(1);
    assert_eq!(client.response().await.body, "old");
    stage.given_back(sandbox).await;
}

/// A control of an earlier release says nothing: then everything goes on until its sandbox has ended.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_word_of_control_nothing_is_ended() {
    let stage = Stage::new("").await;
    let app = App::start("app").await;
    let sandbox = stage.grant("shop-v1", &app, 10);
    let mut client = asks(&stage, &get(HOST, "/hold")).await;
    becomes("requests", 1, || app.requests()).await;
    stage.control.change(|inner| inner.lost.push(sandbox.key));
    stage.advance(sandbox, State::Draining);
    hint(&stage, sandbox);
    renewed(&stage, sandbox, 1).await;
    app.state.release.add_permits(1);
    assert_eq!(client.response().await.body, "app");
    stage.given_back(sandbox).await;
}

/// The race of I1 seen from its other end: nobody is refused for a sandbox that closed under it.
#[tokio::test(flavor = "multi_thread")]
async fn i2_requests_that_come_while_one_sandbox_after_the_other_is_retired_are_all_served() {
    let stage = Stage::new("").await;
    let app = App::start("app").await;
    let mut sandbox = stage.grant("shop-v1", &app, 10);
    let address = stage.address();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let clients = (0..4).map(|_| {
        let stopped = stopped.clone();
        tokio::spawn(async move {
            let mut client = Client::connect(address).await;
            let mut count = 0;
            while !*stopped.borrow() {
                let answer = client.ask(&get(HOST, "/")).await;
                assert_eq!(answer.status, 200, "{}", answer.error());
                count += 1;
            }
            count
        })
    });
    let clients: Vec<_> = clients.collect();
    for _ in 0..20 {
        let before = app.requests();
        let next = stage.grant("shop-v1", &app, 10);
        retire(&stage, sandbox, (LONG, LONG));
        sandbox = next;
        becomes("served by the next", true, || app.requests() > before + 20).await;
    }
    stop.send_replace(true);
    for count in crate::stage::all(clients).await {
        assert!(count > 0);
    }
}

/// A control of an earlier release refuses a word that it does not know, with all that was said along with it.
#[tokio::test(flavor = "multi_thread")]
async fn d4_tunnels_are_told_apart_to_a_control_that_hears_of_them_and_to_no_other() {
    let stage = Stage::new("").await;
    let app = App::start("app").await;
    let sandbox = stage.grant("shop-v1", &app, 10);
    let _tunnel = websocket(&stage).await;
    let last = || {
        stage.control.change(|inner| {
            let mut held = inner.renewals.iter().flat_map(|renewal| &renewal.held);
            held.rfind(|held| held.key() == sandbox.key)
                .map(|held| (held.in_flight, held.tunnels))
        })
    };
    retire(&stage, sandbox, (LONG, LONG));
    renewed(&stage, sandbox, 1).await;
    for (hears, tunnels) in [(false, 0), (true, 1), (false, 0), (true, 1)] {
        stage.control.change(|inner| inner.hears_tunnels = hears);
        becomes("what is said of it", Some((1, tunnels)), || {
            // Each has the proxy say again what it holds; what the answer before has said counts.
            hint(&stage, sandbox);
            last()
        })
        .await;
    }
}

/// One of an earlier release that takes over knows of no lease: an acquire before the renewal would be that of a newcomer.
#[tokio::test(flavor = "multi_thread")]
async fn d7_nothing_is_asked_of_a_control_of_an_earlier_release_before_it_knows_what_is_held() {
    let mut stage = Stage::new("").await;
    let app = App::start("app").await;
    let sandbox = stage.grant("shop-v1", &app, 10);
    let _tunnel = websocket(&stage).await;
    stage.control.change(|inner| inner.hears_tunnels = true);
    becomes("told of tunnels", true, || {
        hint(&stage, sandbox);
        stage.control.change(|inner| {
            let mut held = inner.renewals.iter().flat_map(|renewal| &renewal.held);
            held.any(|held| held.tunnels == 1)
        })
    })
    .await;
    let socket = stage.socket();
    stage.control.kill(&socket);
    stage.control.change(|inner| {
        (inner.hears_tunnels, inner.refuses_tunnels) = (false, true);
        inner.asked.clear();
    });
    stage.control.start(&socket);
    let asked = |stage: &Stage| stage.control.change(|inner| inner.asked.clone());
    becomes("asked for what is new", true, || asked(&stage).contains(&"acquire")).await;
    let asked = asked(&stage);
    let before = asked.split(|asked| *asked == "acquire").next().unwrap();
    assert!(before.contains(&"renewal"), "{asked:?}");
}

//! G11: clients that say they will send no more, and clients that are gone.

use super::{ROOM, plain, serves_on};
use crate::app::App;
use crate::echo::{Asked, Echo, Step, text};
use crate::protocol::websocket;
use crate::stage::{HOST, Stage, becomes};
use crate::waiting::WAITING;
use crate::wire::{Wire, told};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const IN_FLIGHT: &str = "miren_proxy_requests_in_flight";

fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: {HOST}\r\n\r\n")
}

/// Answers once it is let; its canary at once.
fn when_let(asked: &Asked) -> Vec<Step> {
    match asked.target() {
        b"/canary" => vec![Step::Send(text("/canary"))],
        _ => vec![Step::Wait, Step::Send(text("late"))],
    }
}

/// Returns when the proxy has seen a client leave that left after all that was done before: it sees ends in order.
async fn fence(stage: &Stage, waiting: f64) {
    let mut leaves = Wire::connect(stage.address()).await;
    leaves.send(get("/fence")).await;
    stage.metric_becomes(WAITING, waiting + 1.0).await;
    leaves.reset();
    stage.metric_becomes(WAITING, waiting).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn g11_whoever_sends_no_more_after_a_request_is_answered() {
    let (app, stage) = plain("").await;
    let sized = format!("POST /b HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 4\r\n\r\nbody");
    let chunks = format!("PUT /c HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n");
    let old = format!("GET /d HTTP/1.0\r\nHost: {HOST}\r\n\r\n");
    let astray = "GET / HTTP/1.1\r\nHost: nowhere.example.net\r\n\r\n".to_owned();
    let malformed = "GET / HTTP/1.1\r\n\r\n".to_owned();
    // Often, since where an end is read beside what came before depends on what is ready when.
    for _ in 0..20 {
        for (request, wanted) in [
            (get("/a"), "200 /a"),
            (sized.clone(), "200 /b body"),
            (chunks.clone(), "200 /c body"),
            (old.clone(), "200 /d"),
            (astray.clone(), "404"),
            (malformed.clone(), "400"),
        ] {
            let mut wire = Wire::connect(stage.address()).await;
            wire.send(&request).await;
            wire.half_close().await;
            assert_eq!(wire.tell().await, wanted, "{request}");
            assert_eq!(wire.rest().await, (Vec::new(), true), "{request}");
        }
    }
    assert_eq!(app.requests(), 80);
}

#[tokio::test(flavor = "multi_thread")]
async fn g11_all_requests_before_an_end_are_answered() {
    let (_app, stage) = plain("").await;
    let mut wire = Wire::connect(stage.address()).await;
    let posted = format!("POST /2 HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 4\r\n\r\nbody");
    wire.send([get("/1"), posted, get("/3")].concat()).await;
    wire.half_close().await;
    for wanted in ["200 /1", "200 /2 body", "200 /3"] {
        assert_eq!(wire.tell().await, wanted);
    }
    assert_eq!(wire.rest().await, (Vec::new(), true));
}

#[tokio::test(flavor = "multi_thread")]
async fn g11_whoever_sends_no_more_keeps_its_place_in_the_queue() {
    let app = Echo::plain().await;
    let stage = Stage::new("").await;
    let mut before = Wire::connect(stage.address()).await;
    before.send(get("/before")).await;
    before.half_close().await;
    stage.metric_becomes(WAITING, 1.0).await;
    let mut meanwhile = Wire::connect(stage.address()).await;
    meanwhile.send(get("/meanwhile")).await;
    stage.metric_becomes(WAITING, 2.0).await;
    meanwhile.half_close().await;
    fence(&stage, 2.0).await;
    app.grant(&stage, 1);
    assert_eq!(before.tell().await, "200 /before");
    assert_eq!(meanwhile.tell().await, "200 /meanwhile");
}

#[tokio::test(flavor = "multi_thread")]
async fn g11_whoever_sends_no_more_while_the_app_thinks_is_answered() {
    let app = Echo::start(when_let).await;
    let stage = app.on_stage("", 2).await;
    let posted = format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 4\r\n\r\nbody");
    let mut clients = Vec::new();
    for (asked, request) in [(1, get("/")), (2, posted)] {
        let mut wire = Wire::connect(stage.address()).await;
        wire.send(request).await;
        becomes("requests", asked, || app.requests()).await;
        wire.half_close().await;
        clients.push(wire);
    }
    // There is no room for it, so it waits until it leaves.
    fence(&stage, 0.0).await;
    assert_eq!(app.open_connections(), 2, "the app is still being waited for");
    app.state.go.add_permits(2);
    for mut wire in clients {
        assert_eq!(wire.tell().await, "200 late");
        assert_eq!(wire.rest().await, (Vec::new(), true));
    }
    serves_on(&stage).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn g11_a_long_answer_goes_on_after_the_client_ended_its_side() {
    let app = Echo::start(|_| {
        let half = "x".repeat(4 << 20);
        let first = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{half}", 8 << 20);
        vec![
            Step::Send(first.into_bytes()),
            Step::Wait,
            Step::Send(half.into_bytes()),
        ]
    })
    .await;
    let stage = app.on_stage("", ROOM).await;
    let mut wire = Wire::connect(stage.address()).await;
    wire.send(get("/")).await;
    wire.arrived(1 << 20).await;
    wire.half_close().await;
    app.state.go.add_permits(1);
    let answer = wire.answer().await.unwrap();
    assert_eq!((answer.whole, answer.body.len()), (true, 8 << 20));
    assert_eq!(wire.rest().await, (Vec::new(), true));
}

#[tokio::test(flavor = "multi_thread")]
async fn g11_an_end_passes_through_a_tunnel_and_the_other_way_stays_open() {
    let stage = Stage::new("").await;
    let app = App::start("app").await;
    stage.grant("shop-v1", &app, 1);
    let mut socket = websocket(&stage).await.stream;
    socket.write_all(b"last words").await.unwrap();
    socket.shutdown().await.unwrap();
    let mut back = Vec::new();
    let read = tokio::time::timeout(crate::client::PATIENCE, socket.read_to_end(&mut back)).await;
    read.expect("the tunnel stays open").unwrap();
    assert_eq!(back, b"last words");
    becomes("connections of the app", 0, || app.open_connections()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn g11_an_end_or_reset_where_nothing_was_asked_closes_the_connection_and_asks_nobody() {
    let (app, stage) = plain("").await;
    let sized = format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 10\r\n\r\n");
    let chunks = format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n");
    for begun in [
        String::new(),
        "\r\n".to_owned(),
        "G".to_owned(),
        format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n"),
        sized.clone(),
        sized.clone() + "half",
        chunks.clone(),
        chunks.clone() + "4\r\nha",
        chunks.clone() + "4\r\nhalf\r\n",
        chunks + "4\r\nhalf\r\n0\r\n",
    ] {
        let mut wire = Wire::connect(stage.address()).await;
        wire.send(&begun).await;
        wire.half_close().await;
        let (answer, _) = wire.rest().await;
        assert!(!answer.starts_with(b"HTTP/1.1 2"), "{begun}: {}", answer.escape_ascii());
        let mut wire = Wire::connect(stage.address()).await;
        wire.send(&begun).await;
        wire.reset();
    }
    stage.metric_becomes("miren_proxy_open_connections", 0.0).await;
    stage.metric_becomes(IN_FLIGHT, 0.0).await;
    serves_on(&stage).await;
    assert_eq!(
        app.targets(),
        ["/canary"],
        "what did not come whole was never a request to the app"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn g11_a_body_that_ends_too_early_gives_its_room_back() {
    let app = Echo::plain().await;
    let stage = app.on_stage("", 1).await;
    let half = format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 1000000\r\n\r\nhalf");
    for resets in [false, true] {
        let mut wire = Wire::connect(stage.address()).await;
        wire.send(&half).await;
        match resets {
            true => wire.reset(),
            false => wire.half_close().await,
        }
        // There is room for one.
        serves_on(&stage).await;
    }
    assert_eq!(app.targets(), ["/canary", "/canary"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn g11_an_end_between_requests_closes_the_connection() {
    let (_app, stage) = plain("").await;
    let mut wire = Wire::connect(stage.address()).await;
    wire.send(get("/")).await;
    assert_eq!(wire.tell().await, "200 /");
    wire.half_close().await;
    assert_eq!(wire.rest().await, (Vec::new(), true));
    stage.metric_becomes("miren_proxy_open_connections", 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn g11_a_client_that_is_gone_leaves_the_queue() {
    let stage = Stage::new("").await;
    let posted = format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 4\r\n\r\nbody");
    for request in [get("/"), posted, get("/1") + &get("/2")] {
        let mut wire = Wire::connect(stage.address()).await;
        wire.send(&request).await;
        stage.metric_becomes(WAITING, 1.0).await;
        wire.reset();
        stage.metric_becomes(WAITING, 0.0).await;
    }
    // Gone after it had ended its side.
    let mut wire = Wire::connect(stage.address()).await;
    wire.send(get("/")).await;
    wire.half_close().await;
    stage.metric_becomes(WAITING, 1.0).await;
    fence(&stage, 1.0).await;
    wire.reset();
    stage.metric_becomes(WAITING, 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn g11_a_client_that_is_gone_gives_its_room_back_while_the_app_thinks() {
    let app = Echo::start(when_let).await;
    let stage = app.on_stage("", 1).await;
    let posted = format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 4\r\n\r\nbody");
    for request in [get("/"), posted] {
        let before = app.requests();
        let mut wire = Wire::connect(stage.address()).await;
        wire.send(&request).await;
        becomes("requests", before + 1, || app.requests()).await;
        wire.reset();
        // There is room for one.
        serves_on(&stage).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn g11_a_client_that_is_gone_gives_its_room_back_while_the_answer_comes() {
    let app = Echo::start(|asked| match asked.target() {
        b"/canary" => vec![Step::Send(text("/canary"))],
        _ => {
            let begun = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n";
            vec![Step::Send(begun.to_vec()), Step::Wait]
        }
    })
    .await;
    let stage = app.on_stage("", 1).await;
    let mut wire = Wire::connect(stage.address()).await;
    wire.send(get("/")).await;
    wire.arrived(1).await;
    wire.reset();
    serves_on(&stage).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn g11_a_client_that_closed_after_its_request_costs_one_answer_and_no_room() {
    let app = Echo::start(when_let).await;
    let stage = app.on_stage("", 1).await;
    let mut wire = Wire::connect(stage.address()).await;
    wire.send(get("/")).await;
    becomes("requests", 1, || app.requests()).await;
    // Nobody can tell this from one that listens, until something is sent to it.
    drop(wire);
    let address = stage.address();
    let next = tokio::spawn(async move { told(address, get("/canary")).await });
    app.state.go.add_permits(1);
    assert_eq!(next.await.unwrap(), "200 /canary");
    stage.metric_becomes("miren_proxy_open_connections", 0.0).await;
}

//! Whose limits end: those of a tunnel that the app has agreed to, and of nothing else.

use super::BOUNDED;
use crate::client::{PATIENCE, ask, get};
use crate::raw::{Conn, RawApp};
use crate::stage::{HOST, Stage};
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt;

/// One request at a time, so that whoever holds the permit holds the app.
const ONE: u32 = 1;
const LIMITS: &str = "timeouts.idle = \"3s\"\ntimeouts.header = \"3s\"\ntimeouts.upstream_first_byte = \"3s\"\n\
    timeouts.wait_for_capacity = \"10m\"";

fn upgrade(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {HOST}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

/// Answers `/STATUS` with that, `/endless/STATUS` with that and a body without end, `/never` with nothing, and anything else
/// as asked.
async fn unwilling() -> RawApp {
    RawApp::start(|mut conn| async move {
        while let Some(request) = conn.request().await {
            let path = request.path().to_owned();
            conn.log.seen.lock().push(request);
            if path == "/never" {
                return conn.closed().await;
            }
            if let Some(status) = path.strip_prefix("/endless/") {
                return endless(conn, status).await;
            }
            let status = path[1..].parse().unwrap_or(200);
            let body = format!("HTTP/1.1 {status} Word\r\nContent-Length: {}\r\n\r\n{path}", path.len());
            if !conn.say(&body).await {
                return;
            }
        }
    })
    .await
}

/// More than every buffer between the app and its client takes.
async fn endless(mut conn: Conn, status: &str) {
    let length = 10_000_000_000_u64;
    let head = format!("HTTP/1.1 {status} Word\r\nContent-Length: {length}\r\n\r\n");
    let piece = "y".repeat(65_536);
    if conn.say(&head).await {
        while conn.say(&piece).await {}
    }
}

async fn stage() -> (Stage, RawApp) {
    let stage = Stage::new(LIMITS).await;
    let app = unwilling().await;
    app.granted(&stage, ONE);
    (stage, app)
}

/// Somebody else is served by the only permit there is.
async fn the_permit_is_free(stage: &Stage, what: &str) {
    let answer = stage.get("/other").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "/other"), "after {what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn f12_an_upgrade_that_is_not_answered_is_504_as_any_request() {
    let (stage, _app) = stage().await;
    for request in [upgrade("/never"), get(HOST, "/never")] {
        let answer = ask(stage.address(), &request).await;
        assert_eq!((answer.status, answer.error()), (504, "upstream_timeout"), "{request}");
        the_permit_is_free(&stage, &request).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f12_after_an_upgrade_that_was_refused_a_connection_is_one_as_any() {
    let (stage, _app) = stage().await;
    for status in [200, 204, 304, 400, 403, 404, 426, 500, 503] {
        let mut client = stage.client().await;
        client.push(upgrade(&format!("/{status}")).as_bytes()).await;
        let head = client.read_head().await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
        the_permit_is_free(&stage, &head).await;
        // Silent from now on: it is closed between requests, or was with the answer.
        client.closed().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f12_a_client_that_does_not_take_its_answer_is_cut_and_holds_nothing() {
    for status in [200, 404, 500] {
        for request in [
            upgrade(&format!("/endless/{status}")),
            get(HOST, &format!("/endless/{status}")),
        ] {
            let (stage, app) = stage().await;
            let mut silent = stage.client().await;
            silent.push(request.as_bytes()).await;
            // The app has the request, and with it the client the permit.
            crate::stage::becomes("requests", 1, || app.seen().len()).await;
            the_permit_is_free(&stage, &request).await;
            crate::stage::becomes("connections with an answer", true, || app.open_connections() <= 1).await;
            drop(silent);
        }
    }
}

/// Who takes a little now and then takes its answer: it is silence that is cut.
#[tokio::test(flavor = "multi_thread")]
async fn f12_a_client_that_takes_its_answer_slowly_is_not_cut() {
    let stage = Stage::new(LIMITS).await;
    let app = unwilling().await;
    app.granted(&stage, 10);
    let (mut slow, mut silent) = (stage.client().await, stage.client().await);
    for client in [&mut slow, &mut silent] {
        client.push(get(HOST, "/endless/200").as_bytes()).await;
    }
    crate::stage::becomes("connections to the app", 2, || app.open_connections()).await;
    let mut piece = vec![0; 65_536];
    let begun = Instant::now();
    // The app's other connection is closed once nobody has taken its bytes for the time of silence.
    while app.open_connections() != 1 {
        let taken = slow.stream.read(&mut piece).await.unwrap_or(0);
        assert!(taken > 0, "cut although it reads");
        assert!(begun.elapsed() < PATIENCE, "nobody is cut");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(
        slow.stream.read(&mut piece).await.unwrap_or(0) > 0,
        "cut although it reads"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn f12_an_upgrade_with_a_body_that_stops_is_cut() {
    for framing in [
        format!("Content-Length: 1000000\r\n\r\n{}", "x".repeat(200_000)),
        format!("Transfer-Encoding: chunked\r\n\r\nf4240\r\n{}", "x".repeat(200_000)),
        "Content-Length: 10\r\n\r\nx".to_owned(),
        "Transfer-Encoding: chunked\r\n\r\n5\r\nx".to_owned(),
    ] {
        let (stage, _app) = stage().await;
        let mut client = stage.client().await;
        let head = format!("POST /200 HTTP/1.1\r\nHost: {HOST}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n");
        client.push(format!("{head}{framing}").as_bytes()).await;
        the_permit_is_free(&stage, framing.lines().next().unwrap_or_default()).await;
        if let Some(answer) = client.answer().await {
            assert!([400, 408].contains(&answer.status), "{answer:?}");
        }
        client.closed().await;
    }
}

/// A tunnel is made of a question and its answer: an answer 101 to who did not ask is an error of the app's.
#[tokio::test(flavor = "multi_thread")]
async fn f12_nobody_is_switched_who_did_not_ask() {
    for request in [
        get(HOST, "/case"),
        format!("GET /case HTTP/1.1\r\nHost: {HOST}\r\nUpgrade: websocket\r\n\r\n"),
        format!("GET /case HTTP/1.1\r\nHost: {HOST}\r\nConnection: upgrade\r\n\r\n"),
        format!("POST /case HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 4\r\n\r\nbody"),
        format!("GET /case HTTP/1.0\r\nHost: {HOST}\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"),
    ] {
        let stage = Stage::new(BOUNDED).await;
        let app = RawApp::start(|mut conn| async move {
            if conn.request().await.is_some() {
                conn.say("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\ntunnel")
                    .await;
                conn.closed().await;
            }
        })
        .await;
        app.granted(&stage, ONE);
        let mut client = stage.client().await;
        client.push(request.as_bytes()).await;
        let answer = client.answer().await.expect("an answer");
        assert_eq!(answer.status, 502, "{request}{answer:?}");
        assert!(!answer.body.contains("tunnel"), "{answer:?}");
        assert_eq!(stage.metric("miren_proxy_tunnels").await, 0.0);
        crate::stage::becomes("open connections to the app", 0, || app.open_connections()).await;
    }
}

/// Without `Connection: upgrade` a request is an ordinary one, with all limits.
#[tokio::test(flavor = "multi_thread")]
async fn f12_half_an_upgrade_lifts_no_limit() {
    let (stage, _app) = stage().await;
    for lines in [
        "Upgrade: websocket\r\n",
        "Connection: upgrade\r\n",
        "Upgrade: h2c\r\nConnection: upgrade\r\n",
    ] {
        let never = format!("GET /never HTTP/1.1\r\nHost: {HOST}\r\n{lines}\r\n");
        let answer = ask(stage.address(), &never).await;
        assert_eq!((answer.status, answer.error()), (504, "upstream_timeout"), "{lines}");
        let endless = format!("GET /endless/200 HTTP/1.1\r\nHost: {HOST}\r\n{lines}\r\n");
        let mut silent = stage.client().await;
        silent.push(endless.as_bytes()).await;
        the_permit_is_free(&stage, lines).await;
    }
}

//! Clients that ask for something and do not finish asking hold nothing that others need.

use super::BOUNDED;
use crate::client::{Client, PATIENCE, Response, get};
use crate::raw::RawApp;
use crate::stage::{HOST, Stage, becomes};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::task::JoinHandle;

/// So many of them are more than an app with room for one request at a time serves one after the other.
const CROWD: usize = 200;
/// Their own limits are so far away that nobody is helped by them.
const PATIENT: &str = "timeouts.idle = \"10m\"\ntimeouts.header = \"10m\"\ntimeouts.upstream_first_byte = \"10m\"\n\
    timeouts.wait_for_capacity = \"30s\"";

/// A head, and what there is of its body.
fn beginnings() -> Vec<String> {
    let mut all = Vec::new();
    for method in ["POST", "PUT", "PATCH", "DELETE", "GET"] {
        for rest in [
            "Content-Length: 10\r\n\r\n",
            "Content-Length: 10\r\n\r\n123456789",
            "Content-Length: 65536\r\n\r\n",
            "Content-Length: 65536\r\n\r\nbegun",
            "Content-Length: 10\r\nExpect: 100-continue\r\n\r\n",
        ] {
            all.push(format!("{method} /case HTTP/1.1\r\nHost: {HOST}\r\n{rest}"));
        }
    }
    all
}

fn large_beginnings() -> Vec<String> {
    let mut all = Vec::new();
    for method in ["POST", "PUT", "PATCH", "DELETE", "GET"] {
        for rest in [
            "Content-Length: 1000000\r\n\r\n",
            "Content-Length: 1000000\r\n\r\nbegun",
            "Transfer-Encoding: chunked\r\n\r\n",
            "Transfer-Encoding: chunked\r\n\r\n5\r\nbe",
            "Transfer-Encoding: chunked\r\n\r\n5\r\nbegun\r\n",
            "Transfer-Encoding: chunked\r\n\r\n5\r\nbegun\r\n0\r\n",
        ] {
            all.push(format!("{method} /case HTTP/1.1\r\nHost: {HOST}\r\n{rest}"));
        }
    }
    all
}

/// A crowd of clients that have begun, and say no more.
async fn crowd(address: SocketAddr, beginnings: &[String]) -> Vec<Client> {
    let mut clients = Vec::new();
    for beginning in beginnings.iter().cycle().take(CROWD) {
        let mut client = Client::connect(address).await;
        assert!(client.push(beginning.as_bytes()).await);
        clients.push(client);
    }
    clients
}

async fn an_app_with_room_for_one_stays_reachable_beside(beginnings: &[String]) {
    let stage = Stage::new(PATIENT).await;
    let app = RawApp::strict().await;
    app.granted(&stage, 1);
    assert_eq!(stage.get("/before").await.body, "/before");
    let clients = crowd(stage.address(), beginnings).await;
    for path in ["/one", "/two", "/three"] {
        let answer = stage.get(path).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, path), "{answer:?}");
    }
    assert!(app.paths().iter().all(|path| path != "/case"), "none of them was whole");
    drop(clients);
}

#[tokio::test(flavor = "multi_thread")]
async fn f12_small_bodies_that_do_not_come_hold_no_permit() {
    an_app_with_room_for_one_stays_reachable_beside(&beginnings()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f12_large_and_chunked_bodies_that_hardly_begin_hold_no_permit() {
    an_app_with_room_for_one_stays_reachable_beside(&large_beginnings()).await;
}

/// Sends a byte now and then, for as long as somebody takes it.
fn drip(mut client: Client, byte: &'static [u8]) -> JoinHandle<()> {
    tokio::spawn(async move {
        while client.push(byte).await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn f12_a_byte_now_and_then_holds_no_permit() {
    let stage = Stage::new(PATIENT).await;
    let app = RawApp::strict().await;
    app.granted(&stage, 1);
    let mut drips = Vec::new();
    for (head, byte) in [
        ("POST /case HTTP/1.1\r\nContent-Length: 60000", &b"x"[..]),
        ("PUT /case HTTP/1.1\r\nContent-Length: 60000", b"x"),
        ("POST /case HTTP/1.1\r\nContent-Length: 1000000", b"x"),
        ("POST /case HTTP/1.1\r\nTransfer-Encoding: chunked", b"1\r\nx\r\n"),
        ("PUT /case HTTP/1.1\r\nTransfer-Encoding: chunked", b"1;e=f\r\nx\r\n"),
        ("GET /case HTTP/1.1\r\nContent-Length: 60000", b"x"),
    ] {
        let mut client = stage.client().await;
        assert!(client.push(format!("{head}\r\nHost: {HOST}\r\n\r\n").as_bytes()).await);
        drips.push(drip(client, byte));
    }
    for _ in 0..20 {
        let answer = stage.get("/other").await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "/other"), "{answer:?}");
    }
    for drip in drips {
        drip.abort();
    }
}

/// A body that does not come in time is told so, as a head is.
#[tokio::test(flavor = "multi_thread")]
async fn f12_a_body_that_stops_is_408_and_the_end_of_the_connection() {
    for rest in [
        "Content-Length: 10\r\n\r\n",
        "Content-Length: 10\r\n\r\nbegun",
        "Content-Length: 1000000\r\n\r\nbegun",
        "Transfer-Encoding: chunked\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nbegun\r\n",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nbegun\r\n0\r\nX: 1\r\n",
    ] {
        let stage = Stage::new("timeouts.idle = \"3s\"\ntimeouts.wait_for_capacity = \"10m\"").await;
        let app = RawApp::strict().await;
        app.granted(&stage, 1);
        let mut client = stage.client().await;
        client
            .push(format!("POST /case HTTP/1.1\r\nHost: {HOST}\r\n{rest}").as_bytes())
            .await;
        let answer = client
            .answer()
            .await
            .unwrap_or_else(|| panic!("closed without a word: {rest:?}"));
        assert_eq!((answer.status, answer.error()), (408, "request_timeout"), "{rest:?}");
        client.closed().await;
        assert_eq!(stage.get("/other").await.body, "/other", "{rest:?}");
        assert_eq!(app.paths(), ["/other"], "{rest:?}");
    }
}

/// Half a large body that was passed on and then stops takes its permit with it.
#[tokio::test(flavor = "multi_thread")]
async fn f12_a_large_body_that_stops_half_way_gives_its_permit_back() {
    for framing in [
        "Content-Length: 1000000\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\nf4240\r\n",
    ] {
        let stage = Stage::new("timeouts.idle = \"3s\"\ntimeouts.wait_for_capacity = \"10m\"").await;
        let app = RawApp::strict().await;
        app.granted(&stage, 1);
        let mut client = stage.client().await;
        let half = "x".repeat(500_000);
        client
            .push(format!("POST /case HTTP/1.1\r\nHost: {HOST}\r\n{framing}{half}").as_bytes())
            .await;
        becomes("connections to the app", 1, || app.connections()).await;
        assert_eq!(stage.get("/other").await.body, "/other", "{framing:?}");
        client.closed().await;
        becomes("the app's paths", vec!["/other".to_owned()], || app.paths()).await;
    }
}

/// RFC 9110 §10.1.1: who waits for a word before it sends its body gets one, also where the proxy waits for the body first.
#[tokio::test(flavor = "multi_thread")]
async fn f12_who_waits_for_100_gets_it_and_the_app_the_body() {
    let stage = Stage::new(BOUNDED).await;
    let app = RawApp::strict().await;
    app.granted(&stage, 1);
    for (framing, body) in [
        ("Content-Length: 5", "whole"),
        ("content-length: 5\r\nX: 1", "whole"),
        ("Transfer-Encoding: chunked", "5\r\nwhole\r\n0\r\n\r\n"),
    ] {
        for expect in ["100-continue", "100-Continue"] {
            let mut client = stage.client().await;
            let head = format!("POST /case HTTP/1.1\r\nHost: {HOST}\r\nExpect: {expect}\r\n{framing}\r\n\r\n");
            assert!(client.push(head.as_bytes()).await);
            let first = client.answer().await.expect("a word before the body");
            assert_eq!(first.status, 100, "{first:?}");
            assert!(client.push(body.as_bytes()).await);
            let answer = last_answer(&mut client).await;
            assert_eq!((answer.status, answer.body.as_str()), (200, "/case"), "{framing}");
            assert_eq!(app.seen().pop().unwrap().body, b"whole");
        }
    }
    // Who does not wait is not kept waiting.
    let mut client = stage.client().await;
    let eager =
        format!("POST /case HTTP/1.1\r\nHost: {HOST}\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nwhole");
    assert!(client.push(eager.as_bytes()).await);
    let answer = last_answer(&mut client).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "/case"));
    // HTTP/1.0 knows no such word.
    let mut old = stage.client().await;
    let sent = format!("POST /case HTTP/1.0\r\nHost: {HOST}\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nwhole");
    assert!(old.push(sent.as_bytes()).await);
    let answer = old.answer().await.expect("an answer");
    assert_eq!((answer.status, answer.body.as_str()), (200, "/case"));
}

/// The answer behind any `100 Continue`.
async fn last_answer(client: &mut Client) -> Response {
    loop {
        let answer = client.answer().await.expect("an answer");
        if answer.status != 100 {
            return answer;
        }
    }
}

/// A client that waits for a permit and goes gives its place to the next.
#[tokio::test(flavor = "multi_thread")]
async fn f12_clients_that_leave_in_the_middle_of_a_body_hold_nothing() {
    let stage = Stage::new(PATIENT).await;
    let app = RawApp::strict().await;
    app.granted(&stage, 1);
    for beginning in beginnings().iter().chain(&large_beginnings()) {
        let mut client = stage.client().await;
        client.push(beginning.as_bytes()).await;
        drop(client);
    }
    let other = tokio::time::timeout(PATIENCE, stage.get("/other")).await;
    assert_eq!(other.expect("nobody is served").body, "/other");
    assert_eq!(app.paths(), ["/other"]);
    let mut last = stage.client().await;
    assert_eq!(last.ask(&get(HOST, "/last")).await.body, "/last");
}

//! Headers of one connection end with it, and cannot be used to take others away. RFC 9110 §7.6.1.

use super::{BOUNDED, says_close};
use crate::client::{Client, ask, get};
use crate::raw::{RawApp, Request};
use crate::stage::{HOST, Stage};

async fn stage() -> (Stage, RawApp) {
    let stage = Stage::new(BOUNDED).await;
    let app = RawApp::strict().await;
    app.granted(&stage, 100);
    (stage, app)
}

/// What the app got of a request with these header lines and body.
async fn sent(stage: &Stage, app: &RawApp, lines: &str, body: &str) -> Request {
    let request = format!("POST /case HTTP/1.1\r\nHost: {HOST}\r\n{lines}\r\n{body}");
    let answer = ask(stage.address(), &request).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "/case"), "{lines}");
    app.seen().pop().expect("the app was asked")
}

#[tokio::test(flavor = "multi_thread")]
async fn f17_what_connection_names_is_not_passed_on() {
    let (stage, app) = stage().await;
    for lines in [
        "Connection: x-foo\r\nX-Foo: 1\r\n",
        "X-Foo: 1\r\nConnection: X-FOO\r\n",
        "Connection: close, x-foo\r\nX-Foo: 1\r\n",
        "Connection: x-bar,x-foo ,\tx-baz\r\nX-Foo: 1\r\nX-Bar: 1\r\nX-Baz: 1\r\n",
        "Connection: keep-alive\r\nConnection: x-foo\r\nX-Foo: 1\r\nX-Foo: 2\r\n",
        "Connection: ,, x-foo\r\nX-Foo: 1\r\n",
    ] {
        let request = sent(&stage, &app, &format!("Content-Length: 0\r\n{lines}"), "").await;
        for name in ["x-foo", "x-bar", "x-baz"] {
            assert!(request.all(name).is_empty(), "{lines}{}", request.head);
        }
        let connection = request.all("connection").join(",").to_ascii_lowercase();
        assert!(!connection.contains("x-"), "{lines}{}", request.head);
    }
    let kept = sent(
        &stage,
        &app,
        "Content-Length: 0\r\nConnection: x-fo\r\nX-Foo: 1\r\n",
        "",
    )
    .await;
    assert_eq!(kept.all("x-foo"), ["1"], "only what it names");
}

#[tokio::test(flavor = "multi_thread")]
async fn f17_connection_cannot_take_away_what_a_request_needs() {
    let (stage, app) = stage().await;
    for name in [
        "host",
        "Host",
        "content-length",
        "x-forwarded-for",
        "x-forwarded-proto",
        "x-forwarded-host",
        "x-request-id",
        "connection",
    ] {
        let lines = format!("Connection: close, {name}\r\nContent-Length: 3\r\n");
        let request = sent(&stage, &app, &lines, "abc").await;
        assert_eq!(request.all("host"), [HOST], "{name}");
        assert_eq!(request.body, b"abc", "{name}");
        assert_eq!(request.all("x-forwarded-for"), ["127.0.0.1"], "{name}");
        assert_eq!(request.all("x-forwarded-proto"), ["http"], "{name}");
        assert_eq!(request.all("x-forwarded-host"), [HOST], "{name}");
        assert_eq!(request.all("x-request-id").len(), 1, "{name}");
    }
    let chunked = "Connection: transfer-encoding\r\nTransfer-Encoding: chunked\r\n";
    let request = sent(&stage, &app, chunked, "3\r\nabc\r\n0\r\n\r\n").await;
    assert_eq!(request.body, b"abc");
    assert_eq!(*app.log.broken.lock(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn f17_headers_of_a_connection_end_with_it() {
    let (stage, app) = stage().await;
    for lines in [
        "Keep-Alive: timeout=5\r\n",
        "Proxy-Connection: keep-alive\r\n",
        "Connection: keep-alive, Keep-Alive\r\nKeep-Alive: 300\r\nProxy-Connection: close\r\n",
    ] {
        let request = sent(&stage, &app, &format!("Content-Length: 0\r\n{lines}"), "").await;
        for name in ["keep-alive", "proxy-connection"] {
            assert!(request.all(name).is_empty(), "{}", request.head);
        }
    }
    for (te, passed) in [
        ("trailers", &["trailers"][..]),
        ("gzip", &[]),
        ("gzip, trailers", &["trailers"]),
        ("gzip;q=0.5, deflate", &[]),
        ("chunked", &[]),
    ] {
        let lines = format!("Content-Length: 0\r\nConnection: TE\r\nTE: {te}\r\n");
        let told = sent(&stage, &app, &lines, "").await;
        // Trailers need not be offered to the app, but nothing else may be.
        assert!(told.all("te").is_empty() || told.all("te") == passed, "{}", told.head);
    }
}

/// A `Connection: close` of the client's is about its own connection.
#[tokio::test(flavor = "multi_thread")]
async fn f17_a_client_that_closes_does_not_close_the_connection_to_the_app() {
    let (stage, app) = stage().await;
    for done in 1..=5 {
        let request = sent(&stage, &app, "Content-Length: 0\r\nConnection: close\r\n", "").await;
        assert!(!request.all("connection").contains(&"close"), "{}", request.head);
        stage
            .metric_becomes("miren_proxy_request_duration_seconds_count", f64::from(done))
            .await;
    }
    assert_eq!(app.connections(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn f17_close_is_honoured_however_it_is_written() {
    let (stage, _app) = stage().await;
    for lines in [
        "Connection: close\r\n",
        "connection:CLOSE\r\n",
        "Connection: keep-alive, close\r\n",
        "Connection: close, keep-alive\r\n",
        "Connection: keep-alive\r\nConnection: close\r\n",
        "Connection: x-foo,close \r\n",
    ] {
        let mut client = stage.client().await;
        // What follows is not asked for any more.
        let request = format!(
            "GET /case HTTP/1.1\r\nHost: {HOST}\r\n{lines}\r\n{}",
            get(HOST, "/more")
        );
        client.push(request.as_bytes()).await;
        let answer = client.answer().await.expect("an answer");
        assert_eq!((answer.status, answer.body.as_str()), (200, "/case"), "{lines}");
        assert!(says_close(&answer), "{lines}{answer:?}");
        assert!(client.answer().await.is_none(), "{lines}");
        let mut other = stage.client().await;
        other
            .push(format!("GET / HTTP/1.1\r\nHost: nowhere.net\r\n{lines}\r\n").as_bytes())
            .await;
        assert_eq!(other.answer().await.map(|answer| answer.status), Some(404));
        other.closed().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f17_connections_stay_open_unless_somebody_wants_otherwise() {
    let (stage, _app) = stage().await;
    for lines in [
        "",
        "Connection: keep-alive\r\n",
        "Connection: closed\r\n",
        "Connection: x-close\r\n",
        "X-Connection: close\r\n",
        "Proxy-Connection: close\r\n",
    ] {
        let mut client: Client = stage.client().await;
        for _ in 0..3 {
            let request = format!("GET /case HTTP/1.1\r\nHost: {HOST}\r\n{lines}\r\n");
            assert!(client.push(request.as_bytes()).await, "{lines}");
            let answer = client.answer().await;
            assert_eq!(answer.map(|answer| answer.body), Some("/case".to_owned()), "{lines}");
        }
    }
}

/// An upgrade is asked for by two headers (RFC 9110 §7.8); without the second one it is none, and none is made of it.
#[tokio::test(flavor = "multi_thread")]
async fn f17_an_upgrade_without_connection_is_not_passed_and_not_made() {
    let (stage, app) = stage().await;
    for lines in [
        "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
        "Upgrade: websocket\r\nConnection: keep-alive\r\n",
        "Upgrade: websocket\r\nConnection: close\r\n",
        "Upgrade: websocket\r\nConnection: x-upgrade\r\n",
        "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
        "Upgrade: h2c\r\n",
        "Upgrade: TLS/1.3\r\nConnection: upgrade\r\n",
        "Connection: upgrade\r\n",
        "Upgrade:\r\nConnection: upgrade\r\n",
    ] {
        let request = sent(&stage, &app, &format!("Content-Length: 0\r\n{lines}"), "").await;
        assert!(request.all("upgrade").is_empty(), "{lines}{}", request.head);
        let connection = request.all("connection").join(",").to_ascii_lowercase();
        assert!(!connection.contains("upgrade"), "{lines}{}", request.head);
        assert!(
            request.all("http2-settings").is_empty() || !lines.contains("HTTP2-Settings"),
            "{}",
            request.head
        );
    }
}

//! What goes through, what is refused, and what the app is told.

use crate::app::App;
use crate::client::{Client, ask, get, post};
use crate::stage::{HOST, Stage, becomes};

/// A WebSocket to the app.
pub async fn websocket(stage: &Stage) -> Client {
    let mut client = stage.client().await;
    let upgrade = format!(
        "GET /socket HTTP/1.1\r\nHost: {HOST}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    let response = client.ask(&upgrade).await;
    assert_eq!(response.status, 101, "{response:?}");
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_passes_is_counted_and_may_be_silent() {
    let stage = Stage::new("timeouts.idle = \"3s\"\ntimeouts.upstream_first_byte = \"3s\"").await;
    let app = App::start("app").await;
    stage.grant("shop-v1", &app, 10);
    let mut socket = websocket(&stage).await;
    stage.metric_becomes("miren_proxy_tunnels", 1.0).await;
    // Another connection that may not be silent shows that the time has passed.
    let mut other = stage.client().await;
    assert_eq!(other.ask(&get(HOST, "/")).await.status, 200);
    other.closed().await;
    socket.send("hello").await;
    assert!(socket.read_past("hello").await, "still open, both ways");
    drop(socket);
    stage.metric_becomes("miren_proxy_tunnels", 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_event_of_a_stream_comes_at_once_and_the_stream_is_not_cut() {
    let stage = Stage::new("timeouts.upstream_first_byte = \"3s\"").await;
    let app = App::start("app").await;
    stage.grant("shop-v1", &app, 10);
    assert_eq!(stage.get("/").await.status, 200);
    let mut client = stage.client().await;
    client.send(&get(HOST, "/events")).await;
    // The app says nothing more until it is told to: what is here now was not held back for it.
    assert!(client.read_past("data: first\n\n").await);
    // Another request that is cut for its silence shows that the time has passed.
    assert_eq!(stage.get("/hold").await.error(), "upstream_timeout");
    app.state.finish.notify_one();
    assert!(client.read_past("data: last\n\n").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_does_not_answer_in_time_is_504_and_not_asked_again() {
    let stage = Stage::new("timeouts.upstream_first_byte = \"150ms\"").await;
    let app = App::start("app").await;
    stage.grant("shop-v1", &app, 10);
    for request in [get(HOST, "/hold"), post(HOST, "/hold", "body")] {
        let response = ask(stage.address(), &request).await;
        assert_eq!((response.status, response.error()), (504, "upstream_timeout"));
    }
    // On a busy machine the app may read a request after it was given up.
    becomes("requests", 2, || app.requests()).await;
    assert_eq!(stage.metric("miren_proxy_retries_total").await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_requests_are_400_with_the_headers_every_answer_has() {
    let stage = Stage::new("").await;
    for request in [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost:\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nBad Header: x\r\n\r\n",
        "\u{1}\u{2}\r\n\r\n",
    ] {
        let response = ask(stage.address(), request).await;
        assert_eq!((response.status, response.error()), (400, "bad_request"), "{request:?}");
        assert_eq!(response.header("x-request-id").map(str::len), Some(32), "{request:?}");
    }
    let response = ask(stage.address(), "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n").await;
    assert_eq!((response.status, response.error()), (405, "method_not_allowed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_to_head_has_no_body() {
    let stage = Stage::new("").await;
    let mut client = stage.client().await;
    client.send("HEAD / HTTP/1.1\r\nHost: nowhere.net\r\n\r\n").await;
    let head = client.read_head().await;
    assert!(
        head.starts_with("HTTP/1.1 404") && head.to_lowercase().contains("\r\ncontent-length: "),
        "{head}"
    );
    assert_eq!(
        client.ask(&get("nowhere.net", "/")).await.status,
        404,
        "the next answer follows the head at once"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_app_is_told_who_asked_and_a_stranger_cannot_pretend() {
    let pretending = "GET /head HTTP/1.1\r\nHost: Shop.Example.com:8080\r\nX-Forwarded-For: 10.1.1.1\r\n\
        X-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\nForwarded: for=10.1.1.1\r\nX-Request-Id: mine\r\n\r\n";
    for (settings, chain, proto, id) in [
        ("", "127.0.0.1", "http", None),
        (
            "trust.proxies = [\"127.0.0.0/8\"]",
            "10.1.1.1, 127.0.0.1",
            "https",
            Some("mine"),
        ),
    ] {
        let stage = Stage::new(settings).await;
        let app = App::start("app").await;
        stage.grant("shop-v1", &app, 10);
        let response = ask(stage.address(), pretending).await;
        let told = crate::client::Response {
            head: response.body.clone(),
            ..response
        };
        assert_eq!(told.header("host"), Some("Shop.Example.com:8080"), "unchanged");
        assert_eq!(told.header("x-forwarded-for"), Some(chain));
        assert_eq!(told.header("x-forwarded-proto"), Some(proto));
        assert_eq!(told.header("forwarded").is_some(), id.is_some());
        let at_app = told.header("x-request-id").unwrap().to_owned();
        assert_eq!(at_app == "mine", id.is_some(), "{at_app}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_pass_in_both_directions() {
    let stage = Stage::new("").await;
    let app = App::start(&"y".repeat(3_000_000)).await;
    stage.grant("shop-v1", &app, 10);
    let response = ask(stage.address(), &post(HOST, "/", &"x".repeat(3_000_000))).await;
    assert_eq!(
        (response.status, response.body.len(), response.complete),
        (200, 3_000_000, true)
    );
    assert_eq!(app.last().body, 3_000_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn kept_connections_to_an_app_are_used_again() {
    let stage = Stage::new("").await;
    let app = App::start("app").await;
    stage.grant("shop-v1", &app, 10);
    for done in 1..=10 {
        assert_eq!(stage.get("/").await.status, 200);
        // The client has its answer a moment before the connection to the app is kept.
        stage
            .metric_becomes("miren_proxy_request_duration_seconds_count", f64::from(done))
            .await;
    }
    assert_eq!(app.connections(), 1);
    assert_eq!(
        stage
            .metric("miren_proxy_upstream_connections_total{connection=\"reused\"}")
            .await,
        9.0
    );
}

//! Clients that would keep for themselves what others need: a thread, a place, an answer.

use crate::app::App;
use crate::client::{ask, get};
use crate::raw::RawApp;
use crate::stage::{HOST, Stage};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// The stage's proxy has two threads.
const MORE_THAN_THREADS: usize = 4;

#[tokio::test(flavor = "multi_thread")]
async fn f12_requests_without_end_on_one_connection_keep_no_thread() {
    let stage = Stage::new("").await;
    let app = App::start("app").await;
    stage.grant("shop-v1", &app, 10);
    let mut floods = Vec::new();
    for _ in 0..MORE_THAN_THREADS {
        let (mut from, mut to) = stage.client().await.stream.into_split();
        let many = get(HOST, "/.well-known/miren/health").repeat(1_000);
        let sends = tokio::spawn(async move { while to.write_all(many.as_bytes()).await.is_ok() {} });
        let reads = tokio::spawn(async move {
            let mut buffer = vec![0; 1 << 16];
            while from.read(&mut buffer).await.is_ok_and(|count| count > 0) {}
        });
        floods.extend([sends, reads]);
    }
    for _ in 0..20 {
        assert_eq!(stage.get("/").await.body, "app");
    }
    floods.iter().for_each(|flood| flood.abort());
}

#[tokio::test(flavor = "multi_thread")]
async fn f12_who_stays_in_a_tunnel_that_its_app_has_ended_gives_its_place_back() {
    let stage = Stage::new("timeouts.idle = \"3s\"").await;
    let app = RawApp::start(|mut conn| async move {
        let Some(request) = conn.request().await else { return };
        if request.path() == "/socket" {
            conn.say("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
                .await;
        } else {
            conn.answer("other", false).await;
        }
    })
    .await;
    app.granted(&stage, 1);
    let mut stays = stage.client().await;
    let upgrade = format!("GET /socket HTTP/1.1\r\nHost: {HOST}\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert_eq!(stays.ask(&upgrade).await.status, 101);
    assert_eq!(stage.get("/other").await.body, "other");
    stage.metric_becomes("miren_proxy_tunnels", 0.0).await;
    drop(stays);
}

/// A close with bytes on their way would be a reset, which overtakes the answer.
#[tokio::test(flavor = "multi_thread")]
async fn f17_a_refusal_is_not_lost_to_the_body_that_comes_behind_it() {
    let stage = Stage::new("").await;
    let mut client = stage.client().await;
    client
        .send("POST / HTTP/1.1\r\nHost: nowhere.net\r\nContent-Length: 1000000\r\n\r\n")
        .await;
    // The answer is there before the body is sent.
    client.stream.readable().await.unwrap();
    for _ in 0..100 {
        client.stream.write_all(&[b'x'; 10_000]).await.unwrap();
    }
    assert_eq!(client.response().await.status, 404);
    client.closed().await;
    assert_eq!(ask(stage.address(), &get("nowhere.net", "/")).await.status, 404);
}

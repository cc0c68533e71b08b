//! A refusal reaches a client that is still sending: the connection ends behind it, and not on it. RFC 9112 §9.6.

use super::BOUNDED;
use crate::client::Client;
use crate::raw::RawApp;
use crate::stage::{HOST, Stage};

/// More than a proxy reads before it refuses, and no more than the buffers of a connection take.
const MUCH: usize = 1_000_000;
const SETTINGS: &str = "limits.header_bytes = \"2KiB\"";

/// Sends all of it before it looks for the answer, as simple clients do.
async fn sends_all_first(stage: &Stage, sent: &str, status: u16) {
    for _ in 0..10 {
        let mut client = stage.client().await;
        client.push(sent.as_bytes()).await;
        let answer = client.answer().await;
        let got = answer.map(|answer| answer.status);
        assert_eq!(got, Some(status), "{:?}", &sent[..60]);
        client.closed().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f13_a_refused_head_is_answered_however_much_follows() {
    let stage = Stage::new(SETTINGS).await;
    let line = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nX-Large: ");
    sends_all_first(&stage, &format!("{line}{}\r\n\r\n", "x".repeat(MUCH)), 431).await;
    let broken = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nno colon\r\n\r\n{}", "x".repeat(MUCH));
    sends_all_first(&stage, &broken, 400).await;
    let lengths = format!(
        "POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: +3\r\n\r\n{}",
        "x".repeat(MUCH)
    );
    sends_all_first(&stage, &lengths, 400).await;
}

/// What the proxy itself says before a body has come: the body is not read as a request, and does not take the answer away.
#[tokio::test(flavor = "multi_thread")]
async fn f13_a_request_that_is_not_served_is_answered_however_large_its_body_is() {
    let stage = Stage::new(BOUNDED).await;
    let length = format!(
        "POST / HTTP/1.1\r\nHost: nowhere.net\r\nContent-Length: {MUCH}\r\n\r\n{}",
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(MUCH / 27)
    );
    let mut client = stage.client().await;
    client.push(length.as_bytes()).await;
    let answer = client.answer().await.expect("the refusal");
    assert_eq!(answer.status, 404, "{answer:?}");
    // The body is some bytes short: the end of the connection is all that can follow, or 408 for what is missing.
    let next = client.answer().await.map(|answer| answer.status);
    assert!(
        matches!(next, None | Some(408)),
        "a part of the body was answered {next:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn f15_an_early_answer_of_an_app_reaches_a_client_that_is_still_sending() {
    let stage = Stage::new(BOUNDED).await;
    let app = RawApp::start(|mut conn| async move {
        if conn.head().await.is_some() {
            conn.say("HTTP/1.1 413 Content Too Large\r\nContent-Length: 5\r\nConnection: close\r\n\r\nlarge")
                .await;
            // It closes as it should: behind its answer, reading on.
            let _ = tokio::io::AsyncWriteExt::shutdown(&mut conn.stream).await;
            conn.closed().await;
        }
    })
    .await;
    app.granted(&stage, 100);
    let large = format!(
        "POST /large HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {}\r\n\r\n{}",
        MUCH * 2,
        "x".repeat(MUCH)
    );
    sends_all_first(&stage, &large, 413).await;
}

/// Reading on behind a refusal has an end as well.
#[tokio::test(flavor = "multi_thread")]
async fn f13_a_client_that_never_stops_sending_is_cut() {
    let stage = Stage::new(SETTINGS).await;
    for beginning in [
        format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nX-Large: "),
        "nonsense\r\n\r\n".to_owned(),
    ] {
        let mut client: Client = stage.client().await;
        client.push(beginning.as_bytes()).await;
        let piece = vec![b'x'; 65_536];
        let end = async { while client.push(&piece).await {} };
        tokio::time::timeout(crate::client::PATIENCE, end)
            .await
            .expect("what nobody wants is read for ever");
        stage.metric_becomes("miren_proxy_open_connections", 0.0).await;
    }
}

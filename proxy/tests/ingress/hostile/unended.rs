//! Answers of which nobody knows the length, that break off: those that may be asked for again come whole, from another sandbox, and
//! none passes for whole.

use super::answers::{mortal, until_it_dies};
use crate::client::{get, post};
use crate::raw::RawApp;
use crate::stage::{HOST, Stage, becomes};
use miren_loader::State;

const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-From: mortal\r\n\r\n";
const OPEN: &str = "HTTP/1.1 200 OK\r\nX-From: mortal\r\n\r\n";

/// What a server says before it dies, and whether its end is a reset: else it may be the end of the answer.
const DEATHS: [(&[&str], bool); 9] = [
    (&[CHUNKED], false),
    (&[CHUNKED, "a\r\nmort"], false),
    (&[CHUNKED, "a\r\nmortal----\r\n"], false),
    (&[CHUNKED, "a\r\nmortal----\r\n", "a\r\nmortal----\r\n"], true),
    (&[CHUNKED, "a\r\nmortal----\r\n0\r\n"], false),
    (&[CHUNKED, "a\r\nmortal----\r\n0\r\nX-Sum: 1\r\n"], true),
    (
        &["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\nmortal----\r\n"],
        false,
    ),
    (&[OPEN], true),
    (&[OPEN, "mortal----"], true),
];

#[tokio::test(flavor = "multi_thread")]
async fn f19_a_sandbox_that_dies_within_a_small_answer_without_a_length_is_not_seen() {
    for (writes, is_reset) in DEATHS {
        for method in ["GET", "OPTIONS"] {
            let stage = Stage::new("").await;
            let (well, mortal) = (RawApp::strict().await, mortal(writes, is_reset).await);
            mortal.granted(&stage, 100);
            well.granted(&stage, 100);
            let sent = format!("{method} /case HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
            for answer in until_it_dies(&stage, &mortal, &sent).await {
                let answer = answer.unwrap_or_else(|| panic!("no answer at all after {writes:?}"));
                let shown = (answer.status, answer.body.as_str(), answer.complete);
                assert_eq!(shown, (200, "/case", true), "after {writes:?}");
                assert_eq!(answer.header("x-from"), None, "{answer:?}");
            }
        }
    }
}

/// Answers without a length, the last of them when the test lets it, and ends with its connection.
async fn ending(beginning: &'static str) -> RawApp {
    RawApp::start(move |mut conn| async move {
        let Some(request) = conn.request().await else { return };
        conn.log.seen.lock().push(request);
        conn.wait().await;
        conn.say(beginning).await;
    })
    .await
}

/// The end of a connection is also what a killed sandbox leaves: its word tells the two apart.
#[tokio::test(flavor = "multi_thread")]
async fn f19_what_a_killed_sandbox_has_said_of_an_answer_that_ends_with_it_is_not_taken_for_all() {
    for request in [get(HOST, "/case"), post(HOST, "/case", "body")] {
        let stage = Stage::new("").await;
        let killed = ending("HTTP/1.1 200 OK\r\n\r\nmortal----").await;
        let sandbox = killed.granted(&stage, 100);
        let mut client = stage.client().await;
        client.push(request.as_bytes()).await;
        killed.at_point(1).await;
        let well = RawApp::strict().await;
        well.granted(&stage, 100);
        becomes("requests", 1, || killed.seen().len()).await;
        stage.advance(sandbox, State::Dead);
        killed.log.go.add_permits(1);
        let answer = client.answer().await;
        if request.starts_with("GET") {
            let answer = answer.expect("an answer");
            let shown = (answer.status, answer.body.as_str(), answer.complete);
            assert_eq!(shown, (200, "/case", true), "{answer:?}");
        } else {
            let is_whole = answer
                .as_ref()
                .is_some_and(|answer| answer.status == 200 && answer.complete);
            assert!(!is_whole, "{answer:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f19_an_answer_that_ends_with_its_connection_is_whole_where_its_sandbox_lives() {
    let stage = Stage::new("").await;
    let app = ending("HTTP/1.1 200 OK\r\n\r\nall of it").await;
    app.granted(&stage, 100);
    app.log.go.add_permits(2);
    for request in [get(HOST, "/case"), post(HOST, "/case", "body")] {
        let mut client = stage.client().await;
        client.push(request.as_bytes()).await;
        let answer = client.answer().await.expect("an answer");
        let shown = (answer.status, answer.body.as_str(), answer.complete);
        assert_eq!(shown, (200, "all of it", true), "{answer:?}");
    }
}

/// Who says that it streams is taken at its word: of these nothing is asked again, however soon they break off.
#[tokio::test(flavor = "multi_thread")]
async fn f19_what_says_that_it_is_a_stream_is_not_held_back() {
    for says in [
        "Content-Type: text/event-stream; charset=utf-8",
        "content-type: Text/Event-Stream",
        "X-Accel-Buffering: no",
    ] {
        let stage = Stage::new("").await;
        let text = format!("HTTP/1.1 200 OK\r\n{says}\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n");
        let app = RawApp::start(move |mut conn| {
            let text = text.clone();
            async move {
                let Some(request) = conn.request().await else { return };
                conn.log.seen.lock().push(request);
                conn.say(&text).await;
                conn.wait().await;
            }
        })
        .await;
        app.granted(&stage, 100);
        let mut client = stage.client().await;
        client.push(get(HOST, "/case").as_bytes()).await;
        assert!(client.read_past("first").await, "{says}");
        app.log.go.add_permits(1);
        client.closed().await;
        assert_eq!(app.seen().len(), 1, "{says}");
    }
}

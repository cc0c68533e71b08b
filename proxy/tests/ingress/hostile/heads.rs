//! Heads are counted while they arrive: what is too long is refused at the limit, and not when it has come to an end.

use crate::client::{Client, get};
use crate::raw::RawApp;
use crate::stage::{HOST, Stage};
use std::time::Duration;

const LIMIT: usize = 2048;
/// More than the limit, and much less than what a reader would take in one go.
const BEYOND: usize = LIMIT + 512;
/// Nobody is refused for being slow.
const SETTINGS: &str = "limits.header_bytes = \"2KiB\"\ntimeouts.header = \"10m\"\ntimeouts.idle = \"10m\"";

/// Beginnings of requests that never end, each longer than a head may be, and what they are refused with.
fn endless() -> Vec<(String, &'static [u16])> {
    let line = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n");
    let pad = |text: &str| text.repeat(BEYOND.div_ceil(text.len()));
    vec![
        (format!("{line}X-Endless: {}", pad("x")), &[431]),
        (format!("{line}X-Blank: {}", pad(" ")), &[400, 431]),
        (format!("{line}{}", pad("x")), &[400, 431]),
        (format!("{line}{}", pad("A: 1\r\n")), &[431]),
        (
            format!("{line}{}", pad("X-Long-Name-Of-A-Header: with a value\r\n")),
            &[431],
        ),
        (format!("{line}{}", pad("A:\r\n")), &[431]),
        (format!("GET /{}", pad("x")), &[414, 431]),
        (format!("GET /?{}", pad("a=1&")), &[414, 431]),
        (format!("GET http://{}", pad("a.")), &[400, 414, 431]),
        (pad("GET"), &[400, 414, 431, 501]),
        (format!("GET / HTTP/{}", pad("1")), &[400, 414, 431, 505]),
        (format!("GET {}", pad(" ")), &[400, 414, 431]),
        (pad("\r\n"), &[400, 431]),
        (pad("\n"), &[400, 431]),
    ]
}

/// Sends what never ends and nothing more: the answer is there all the same.
async fn refused(client: &mut Client, sent: &str, statuses: &[u16], what: &str) {
    let shown = &sent[..sent.len().min(70)];
    client.push(sent.as_bytes()).await;
    let answer = client
        .answer()
        .await
        .unwrap_or_else(|| panic!("{what}: closed without a word: {shown:?}"));
    assert!(statuses.contains(&answer.status), "{what}: {shown:?} got {answer:?}");
    if answer.status == 431 {
        assert_eq!(answer.error(), "header_too_large");
    }
    assert_eq!(answer.header("x-request-id").map(str::len), Some(32), "{what}");
    client.closed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f13_a_first_head_that_never_ends_is_refused_at_the_limit() {
    let stage = Stage::new(SETTINGS).await;
    for (sent, statuses) in endless() {
        refused(&mut stage.client().await, &sent, statuses, "first").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f13_a_later_head_that_never_ends_is_refused_at_the_limit() {
    let stage = Stage::new(SETTINGS).await;
    let app = RawApp::strict().await;
    app.granted(&stage, 10);
    for (sent, statuses) in endless() {
        let mut client = stage.client().await;
        assert_eq!(client.ask(&get("nowhere.net", "/")).await.status, 404);
        assert_eq!(client.ask(&get(HOST, "/one")).await.body, "/one");
        refused(&mut client, &sent, statuses, "later").await;
    }
    assert!(app.paths().iter().all(|path| path == "/one"));
}

/// The default is a limit as well.
#[tokio::test(flavor = "multi_thread")]
async fn f13_the_default_limit_is_kept_while_reading_too() {
    let stage = Stage::new("timeouts.header = \"10m\"\ntimeouts.idle = \"10m\"").await;
    for unit in ["x", "\r\nA: 1"] {
        let sent = format!(
            "GET / HTTP/1.1\r\nHost: {HOST}\r\nX: {}",
            unit.repeat(66_000 / unit.len())
        );
        refused(&mut stage.client().await, &sent, &[431], "default").await;
    }
}

/// A request of exactly so many bytes.
fn sized(path: &str, bytes: usize) -> String {
    let line = format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\nX-Fill: ");
    let fill = bytes - line.len() - 4;
    format!("{line}{}\r\n\r\n", "x".repeat(fill))
}

#[tokio::test(flavor = "multi_thread")]
async fn f13_a_head_up_to_the_limit_passes_and_heads_are_counted_one_by_one() {
    let stage = Stage::new(SETTINGS).await;
    let app = RawApp::strict().await;
    app.granted(&stage, 10);
    let mut client = stage.client().await;
    for _ in 0..20 {
        assert_eq!(client.ask(&sized("/fits", LIMIT)).await.body, "/fits");
    }
    refused(&mut client, &sized("/more", LIMIT + 1), &[431], "one byte more").await;
    // In pieces it is as long as in one.
    let mut slow = stage.client().await;
    for piece in sized("/fits", LIMIT).as_bytes().chunks(100) {
        assert!(slow.push(piece).await);
        tokio::task::yield_now().await;
    }
    assert_eq!(slow.answer().await.map(|answer| answer.body), Some("/fits".to_owned()));
}

/// The body is not part of the head, also where both arrive together.
#[tokio::test(flavor = "multi_thread")]
async fn f13_a_body_behind_a_head_does_not_count() {
    let stage = Stage::new(SETTINGS).await;
    let app = RawApp::strict().await;
    app.granted(&stage, 10);
    let mut client = stage.client().await;
    for framing in [
        format!("Content-Length: 10000\r\n\r\n{}", "x".repeat(10_000)),
        format!(
            "Transfer-Encoding: chunked\r\n\r\n2710\r\n{}\r\n0\r\n\r\n",
            "x".repeat(10_000)
        ),
    ] {
        let sent = format!("POST /body HTTP/1.1\r\nHost: {HOST}\r\n{framing}");
        assert!(client.push(sent.as_bytes()).await);
        assert_eq!(
            client.answer().await.map(|answer| answer.body),
            Some("/body".to_owned())
        );
        assert_eq!(app.seen().pop().unwrap().body.len(), 10_000);
    }
}

/// The first byte of a fresh connection has the time of a head; between requests it is the idle time that counts.
#[tokio::test(flavor = "multi_thread")]
async fn f13_a_fresh_connection_that_says_nothing_has_the_time_of_a_head() {
    let stage = Stage::new("timeouts.header = \"2s\"\ntimeouts.idle = \"10m\"").await;
    let mut kept = stage.client().await;
    assert_eq!(kept.ask(&get("nowhere.net", "/")).await.status, 404);
    // An empty line is no request either.
    let (mut fresh, mut blank) = (stage.client().await, stage.client().await);
    blank.push(b"\r\n").await;
    // Two that are closed for the time of their heads, one after the other, show that the time has passed.
    for _ in 0..2 {
        let mut begun = stage.client().await;
        begun.push(b"GET / HTTP/1.1\r\nX: ").await;
        begun.closed().await;
    }
    for (what, client) in [("silent", &mut fresh), ("an empty line", &mut blank)] {
        let end = tokio::time::timeout(Duration::from_secs(1), client.closed()).await;
        assert!(end.is_ok(), "it is open: {what}");
    }
    // Opened and served before the others, and still there.
    assert_eq!(kept.ask(&get("nowhere.net", "/")).await.status, 404);
}

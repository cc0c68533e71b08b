//! WebSockets are told to go between two frames, and are cut when their sandbox ends; who said goodbye first has said it.

use super::{LONG, asks, renewed, retire, tell};
use crate::client::{Client, get};
use crate::raw::{Conn, RawApp};
use crate::stage::{HOST, Sandbox, Stage, becomes};
use miren_loader::State;
use miren_proxy::{Ended, Stop};

/// RFC 6455 §7.4.1, and the registry: the service restarts.
const RESTARTS: [u8; 2] = 1012_u16.to_be_bytes();
/// A text, a compressed text, a binary message, a fragment of one, a ping.
const FIRSTS: [u8; 5] = [0x81, 0xc1, 0x82, 0x02, 0x89];
const CLOSE: u8 = 0x88;

fn upgrade() -> String {
    format!(
        "GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

const ACCEPTED: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

/// As a server sends it.
fn frame(first: u8, length: usize) -> Vec<u8> {
    let mut bytes = vec![first];
    match length {
        0..126 => bytes.push(u8::try_from(length).unwrap()),
        126..65_536 => {
            bytes.push(126);
            bytes.extend(u16::try_from(length).unwrap().to_be_bytes());
        }
        _ => {
            bytes.push(127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    // What it carries looks like a close frame.
    bytes.extend(std::iter::repeat_n(CLOSE, length));
    bytes
}

/// As a client sends it, with a mask that changes nothing.
fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap();
    [&[first, 0x80 | length, 0, 0, 0, 0], payload].concat()
}

/// An app that agrees to every upgrade, says these bytes, waits at its point, says those, and notes what it reads then.
async fn app(before: Vec<u8>, after: Vec<u8>) -> RawApp {
    RawApp::start(move |mut conn| {
        let (before, after) = (before.clone(), after.clone());
        async move {
            if conn.head().await.is_none() || !conn.say(ACCEPTED).await || !push(&mut conn, &before).await {
                return;
            }
            conn.wait().await;
            push(&mut conn, &after).await;
            while let Some(byte) = conn.bytes(1).await {
                conn.note(&format!("{:02x}", byte[0]));
            }
        }
    })
    .await
}

async fn push(conn: &mut Conn, bytes: &[u8]) -> bool {
    tokio::io::AsyncWriteExt::write_all(&mut conn.stream, bytes)
        .await
        .is_ok()
}

/// What the app has read.
fn read_by(app: &RawApp) -> String {
    app.seen().iter().map(|byte| byte.head.as_str()).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn tunnel(stage: &Stage) -> Client {
    let mut client = asks(stage, &upgrade()).await;
    let head = client.read_head().await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    client
}

/// Reads one close frame: its code and its words.
async fn close_of(client: &mut Client) -> (Vec<u8>, String) {
    let head = client.bytes(2).await;
    assert_eq!(head.first(), Some(&CLOSE), "{head:?}");
    let mut payload = client.bytes(head[1].into()).await;
    let words = payload.split_off(2.min(payload.len()));
    (payload, String::from_utf8(words).unwrap())
}

async fn is_told(client: &mut Client) {
    let (code, words) = close_of(client).await;
    assert_eq!(
        (code.as_slice(), words.as_str()),
        (RESTARTS.as_slice(), "service restart")
    );
}

/// Nothing more comes to it.
async fn ended(client: &mut Client) {
    assert_eq!(client.bytes(1).await, Vec::<u8>::new());
}

/// The sandbox exits: what is left is cut.
async fn ends(stage: &Stage, app: &RawApp, sandbox: Sandbox) {
    stage.advance(sandbox, State::Stopped);
    becomes("open connections", 0, || app.open_connections()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i9_at_its_deadline_a_websocket_is_told_to_go_behind_what_its_app_said() {
    for first in FIRSTS {
        let said = frame(first, 100);
        let (stage, app) = (Stage::new("").await, app(said.clone(), Vec::new()).await);
        let sandbox = app.granted(&stage, 10);
        let mut client = tunnel(&stage).await;
        assert_eq!(client.bytes(said.len()).await, said);
        retire(&stage, sandbox, (LONG, 0));
        is_told(&mut client).await;
        assert!(!stage.was_given_back(sandbox) || app.open_connections() == 1);
        // Its answer is for the app, and what it says before.
        let answer = [masked(0x81, b"bye"), masked(CLOSE, &RESTARTS)].concat();
        assert!(client.push(&answer).await);
        client.closed().await;
        stage.given_back(sandbox).await;
        assert_eq!(app.open_connections(), 1, "its app has it until it ends: {first:x}");
        app.log.go.add_permits(1);
        becomes("read by the app", hex(&answer), || read_by(&app)).await;
        ends(&stage, &app, sandbox).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_goes_on_both_ways_until_its_deadline_whatever_becomes_of_requests() {
    let (stage, app) = (Stage::new("").await, app(Vec::new(), frame(0x82, 3)).await);
    let sandbox = app.granted(&stage, 10);
    let mut client = tunnel(&stage).await;
    app.at_point(1).await;
    retire(&stage, sandbox, (0, LONG));
    renewed(&stage, sandbox, 1).await;
    assert!(client.push(&masked(0x81, b"up")).await);
    app.log.go.add_permits(1);
    becomes("read by the app", hex(&masked(0x81, b"up")), || read_by(&app)).await;
    assert_eq!(client.bytes(5).await, frame(0x82, 3));
    assert!(!stage.was_given_back(sandbox), "it is waited for");
    tell(&stage, sandbox, (0, 1));
    is_told(&mut client).await;
    stage.given_back(sandbox).await;
    ends(&stage, &app, sandbox).await;
    client.closed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_said_within_a_frame_however_late_it_ends_and_nobody_waits_for_that() {
    for length in [10, 60_000, 3_000_000] {
        let whole = frame(0x82, length);
        let (begin, rest) = whole.split_at(whole.len() / 2);
        let (stage, app) = (Stage::new("").await, app(begin.to_vec(), rest.to_vec()).await);
        let sandbox = app.granted(&stage, 10);
        let mut client = tunnel(&stage).await;
        assert!(client.bytes(begin.len()).await == begin, "the first half of {length}");
        retire(&stage, sandbox, (LONG, 0));
        // Whoever waits for the end of what is under way is let go although the frame has none.
        stage.given_back(sandbox).await;
        app.log.go.add_permits(1);
        assert!(client.bytes(rest.len()).await == rest, "the second half of {length}");
        is_told(&mut client).await;
        ends(&stage, &app, sandbox).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_said_goodbye_first_has_said_it() {
    let own = [CLOSE, 2, 0x03, 0xe9];
    let (stage, app) = (Stage::new("").await, app(own.to_vec(), Vec::new()).await);
    let sandbox = app.granted(&stage, 10);
    let mut client = tunnel(&stage).await;
    assert_eq!(client.bytes(4).await, own);
    retire(&stage, sandbox, (LONG, 0));
    stage.given_back(sandbox).await;
    let answer = masked(CLOSE, &[0x03, 0xe9]);
    assert!(client.push(&answer).await);
    app.log.go.add_permits(1);
    becomes("read by the app", hex(&answer), || read_by(&app)).await;
    ends(&stage, &app, sandbox).await;
    ended(&mut client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_said_goodbye_first_has_the_answer_of_its_app() {
    let own = [CLOSE, 2, 0x03, 0xe8];
    let stage = Stage::new("").await;
    let app = RawApp::start(move |mut conn| async move {
        if conn.head().await.is_none() || !conn.say(ACCEPTED).await || conn.bytes(8).await.is_none() {
            return;
        }
        conn.wait().await;
        if push(&mut conn, &own).await {
            conn.closed().await;
        }
    })
    .await;
    let sandbox = app.granted(&stage, 10);
    let mut client = tunnel(&stage).await;
    assert!(client.push(&masked(CLOSE, &[0x03, 0xe8])).await);
    app.at_point(1).await;
    retire(&stage, sandbox, (LONG, 0));
    stage.given_back(sandbox).await;
    app.log.go.add_permits(1);
    assert_eq!(client.bytes(4).await, own);
    ends(&stage, &app, sandbox).await;
    ended(&mut client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_answer_holds_up_nothing() {
    let (stage, app) = (Stage::new("").await, app(Vec::new(), frame(0x82, 5)).await);
    let sandbox = app.granted(&stage, 10);
    let mut client = tunnel(&stage).await;
    retire(&stage, sandbox, (LONG, 0));
    is_told(&mut client).await;
    stage.given_back(sandbox).await;
    app.log.go.add_permits(1);
    ends(&stage, &app, sandbox).await;
    ended(&mut client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_is_given_back_when_both_its_requests_and_its_tunnels_are_done() {
    let stage = Stage::new("").await;
    let app = RawApp::start(|mut conn| async move {
        let Some(head) = conn.head().await else { return };
        if !head.contains("Upgrade") {
            conn.wait().await;
            conn.answer("late", false).await;
        } else if conn.say(ACCEPTED).await {
            conn.closed().await;
        }
    })
    .await;
    let sandbox = app.granted(&stage, 10);
    let mut client = tunnel(&stage).await;
    let mut request = asks(&stage, &get(HOST, "/")).await;
    app.at_point(1).await;
    retire(&stage, sandbox, (LONG, 0));
    is_told(&mut client).await;
    assert!(client.push(&masked(CLOSE, &RESTARTS)).await);
    client.closed().await;
    assert!(!stage.was_given_back(sandbox), "a request is under way");
    app.log.go.add_permits(1);
    assert_eq!(request.response().await.body, "late");
    stage.given_back(sandbox).await;
    ends(&stage, &app, sandbox).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_that_comes_about_after_the_close_has_the_deadline_of_tunnels() {
    let stage = Stage::new("").await;
    let app = RawApp::start(|mut conn| async move {
        if conn.head().await.is_some() {
            conn.wait().await;
            if conn.say(ACCEPTED).await {
                conn.closed().await;
            }
        }
    })
    .await;
    let sandbox = app.granted(&stage, 10);
    let mut client = asks(&stage, &upgrade()).await;
    app.at_point(1).await;
    retire(&stage, sandbox, (LONG, 0));
    renewed(&stage, sandbox, 1).await;
    app.log.go.add_permits(1);
    let head = client.read_head().await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    is_told(&mut client).await;
    stage.given_back(sandbox).await;
    ends(&stage, &app, sandbox).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_without_an_answer_is_a_request() {
    let stage = Stage::new("").await;
    let app = RawApp::start(|mut conn| async move {
        if conn.head().await.is_some() {
            conn.wait().await;
        }
    })
    .await;
    let sandbox = app.granted(&stage, 10);
    let mut client = asks(&stage, &upgrade()).await;
    app.at_point(1).await;
    retire(&stage, sandbox, (0, LONG));
    let answer = client.response().await;
    assert_eq!((answer.status, answer.error()), (504, "drain_deadline"));
    stage.given_back(sandbox).await;
}

/// When the proxy goes, its tunnels end with it: those that can be told are.
#[tokio::test(flavor = "multi_thread")]
async fn d4_a_proxy_that_ends_says_goodbye_to_its_websockets() {
    let stage = Stage::new("drain.request_timeout = \"200ms\"").await;
    let app = app(Vec::new(), Vec::new()).await;
    app.granted(&stage, 10);
    let mut client = tunnel(&stage).await;
    stage.proxy.stop.send_replace(Stop::Finish);
    is_told(&mut client).await;
    assert!(client.push(&masked(CLOSE, &RESTARTS)).await);
    client.closed().await;
    assert_eq!(stage.proxy.ended().await, Ended::Cut);
}

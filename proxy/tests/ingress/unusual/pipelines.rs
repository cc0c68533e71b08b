//! G12: requests that are sent before the answers to those ahead of them.

use super::{plain, serves_on};
use crate::app::App;
use crate::echo::{Echo, Step, text};
use crate::stage::{HOST, Stage, becomes};
use crate::wire::Wire;

fn request(method: &str, target: &str, more: &str) -> String {
    format!("{method} {target} HTTP/1.1\r\nHost: {HOST}\r\n{more}\r\n")
}

/// One request of many kinds, and what it is answered with: by number, so that none passes for another.
fn one_of_many(number: usize) -> (String, &'static str, String) {
    let target = format!("/{number}");
    let body = format!("body-{number}");
    let length = body.len();
    match number % 5 {
        0 => (request("GET", &target, ""), "GET", format!("200 {target}")),
        1 => (
            request("POST", &target, &format!("Content-Length: {length}\r\n")) + &body,
            "POST",
            format!("200 {target} {body}"),
        ),
        2 => (request("HEAD", &target, ""), "HEAD", "200".to_owned()),
        3 => (
            request("POST", &target, "Transfer-Encoding: chunked\r\n") + &format!("{length:x}\r\n{body}\r\n0\r\n\r\n"),
            "POST",
            format!("200 {target} {body}"),
        ),
        _ => (
            request("GET", &target, "Connection: keep-alive\r\n"),
            "GET",
            format!("200 {target}"),
        ),
    }
}

async fn answers(wire: &mut Wire, wanted: &[(&str, String)]) {
    for (at, (method, wanted)) in wanted.iter().enumerate() {
        assert_eq!(wire.tell_of(method).await, *wanted, "answer {at}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn g12_pipelined_requests_of_all_kinds_are_answered_in_order() {
    let (app, stage) = plain("").await;
    for count in [2, 5, 100, 1000] {
        let all: Vec<_> = (0..count).map(one_of_many).collect();
        let bytes: String = all.iter().map(|(bytes, ..)| bytes.as_str()).collect();
        let wanted: Vec<_> = all.into_iter().map(|(_, method, wanted)| (method, wanted)).collect();
        let before = app.requests();
        let mut wire = Wire::connect(stage.address()).await;
        wire.send(bytes).await;
        answers(&mut wire, &wanted).await;
        let targets: Vec<_> = (0..count).map(|number| format!("/{number}")).collect();
        assert_eq!(app.targets()[before..], targets);
        // And the connection goes on.
        wire.send(request("GET", "/more", "")).await;
        assert_eq!(wire.tell().await, "200 /more");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn g12_where_the_pieces_end_does_not_matter() {
    let (app, stage) = plain("").await;
    let first = request("POST", "/1", "Content-Length: 3\r\n") + "abc";
    let second = request("POST", "/2", "Transfer-Encoding: chunked\r\n") + "3\r\ndef\r\n0\r\n\r\n";
    let third = request("GET", "/3", "");
    let bytes = [first.as_str(), &second, &third].concat();
    for at in 1..bytes.len() {
        let mut wire = Wire::connect(stage.address()).await;
        wire.send(&bytes[..at]).await;
        // What is whole is answered before the rest is sent, so that this is read apart from it.
        let mut whole = 0;
        let all = [
            (first.len(), "200 /1 abc"),
            (first.len() + second.len(), "200 /2 def"),
            (bytes.len(), "200 /3"),
        ];
        while all[whole].0 <= at {
            assert_eq!(wire.tell().await, all[whole].1, "cut at {at}");
            whole += 1;
        }
        wire.send(&bytes[at..]).await;
        for (_, wanted) in &all[whole..] {
            assert_eq!(wire.tell().await, *wanted, "cut at {at}");
        }
    }
    assert_eq!(app.requests(), 3 * (bytes.len() - 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn g12_requests_that_come_a_byte_at_a_time_are_answered_in_order() {
    let (_app, stage) = plain("").await;
    let all: Vec<_> = (0..5).map(one_of_many).collect();
    let mut wire = Wire::connect(stage.address()).await;
    for (bytes, ..) in &all {
        for byte in bytes.as_bytes() {
            wire.send([*byte]).await;
            tokio::task::yield_now().await;
        }
    }
    let wanted: Vec<_> = all.into_iter().map(|(_, method, wanted)| (method, wanted)).collect();
    answers(&mut wire, &wanted).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn g12_keep_alive_said_in_words_does_not_drop_what_follows() {
    let (_app, stage) = plain("").await;
    let kept = |target: &str| request("GET", target, "Connection: keep-alive\r\n");
    let old = |target: &str| format!("GET {target} HTTP/1.0\r\nHost: {HOST}\r\nConnection: keep-alive\r\n\r\n");
    let mut wire = Wire::connect(stage.address()).await;
    wire.send([kept("/1"), kept("/2"), old("/3"), old("/4"), kept("/5")].concat())
        .await;
    for number in 1..=5 {
        assert_eq!(wire.tell().await, format!("200 /{number}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn g12_nothing_is_answered_after_a_request_that_ends_the_connection() {
    let (app, stage) = plain("").await;
    let old = format!("GET /1 HTTP/1.0\r\nHost: {HOST}\r\n\r\n");
    for first in [
        request("GET", "/1", "Connection: close\r\n"),
        request("GET", "/1", "Connection: x, CLOSE\r\n"),
        request("GET", "/1", "Connection: close, keep-alive\r\n"),
        request("GET", "/1", "Connection: keep-alive\r\nConnection: close\r\n"),
        request("POST", "/1", "Connection: close\r\nContent-Length: 0\r\n"),
        old,
    ] {
        let before = app.requests();
        let mut wire = Wire::connect(stage.address()).await;
        wire.send(first.clone() + &request("POST", "/2", "Content-Length: 4\r\n") + "body")
            .await;
        assert_eq!(wire.tell().await, "200 /1", "{first}");
        assert_eq!(wire.rest().await.0, b"", "{first}");
        assert_eq!(app.requests(), before + 1, "{first}");
    }
    serves_on(&stage).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn g12_a_refused_request_keeps_its_place_and_a_malformed_one_is_the_last() {
    let (app, stage) = plain("").await;
    let astray = "GET / HTTP/1.1\r\nHost: nowhere.example.net\r\n\r\n";
    let mut wire = Wire::connect(stage.address()).await;
    wire.send([&request("GET", "/1", ""), astray, &request("GET", "/2", "")].concat())
        .await;
    for wanted in ["200 /1", "404", "200 /2"] {
        assert_eq!(wire.tell().await, wanted);
    }
    for malformed in [
        "GET / HTTP/1.1\r\n\r\n",
        "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
        "\u{1}\r\n\r\n",
    ] {
        let before = app.requests();
        let mut wire = Wire::connect(stage.address()).await;
        wire.send([&request("GET", "/1", ""), malformed, &request("GET", "/2", "")].concat())
            .await;
        assert_eq!(wire.tell().await, "200 /1", "{malformed}");
        assert_eq!(wire.tell().await, "400", "{malformed}");
        assert_eq!(wire.rest().await.0, b"", "{malformed}");
        assert_eq!(app.requests(), before + 1, "{malformed}");
    }
}

/// Whoever is refused may not have its body read; then it is told that nothing follows.
#[tokio::test(flavor = "multi_thread")]
async fn g12_a_refused_body_is_no_request_and_what_follows_is_answered_or_told_off() {
    let (app, stage) = plain("").await;
    let hidden = request("GET", "/hidden", "");
    for (framing, body) in [
        (format!("Content-Length: {}", hidden.len()), hidden.clone()),
        (
            "Transfer-Encoding: chunked".to_owned(),
            format!("{:x}\r\n{hidden}\r\n0\r\n\r\n", hidden.len()),
        ),
    ] {
        let astray = format!("POST / HTTP/1.1\r\nHost: nowhere.example.net\r\n{framing}\r\n\r\n{body}");
        let mut wire = Wire::connect(stage.address()).await;
        wire.send([request("GET", "/1", ""), astray, request("GET", "/2", "")].concat())
            .await;
        assert_eq!(wire.tell().await, "200 /1");
        let refused = wire.answer().await.unwrap();
        assert_eq!(refused.tell(), "404");
        match refused.values("connection").concat().eq_ignore_ascii_case(b"close") {
            true => assert_eq!(wire.rest().await.0, b"", "{framing}"),
            false => assert_eq!(wire.tell().await, "200 /2", "{framing}"),
        }
    }
    assert!(app.targets().iter().all(|target| target != "/hidden"));
}

#[tokio::test(flavor = "multi_thread")]
async fn g12_a_slow_answer_is_not_overtaken() {
    let app = Echo::start(|asked| {
        let answer = Step::Send(text(&String::from_utf8_lossy(asked.target())));
        match asked.target() {
            b"/slow" => vec![Step::Wait, answer],
            _ => vec![answer],
        }
    })
    .await;
    let stage = app.on_stage("", 10).await;
    let mut wire = Wire::connect(stage.address()).await;
    wire.send([request("GET", "/slow", ""), request("GET", "/fast", "")].concat())
        .await;
    becomes("asked for the slow one", true, || {
        app.targets().iter().any(|target| target == "/slow")
    })
    .await;
    app.state.go.add_permits(1);
    assert_eq!(wire.tell().await, "200 /slow");
    assert_eq!(wire.tell().await, "200 /fast");
}

#[tokio::test(flavor = "multi_thread")]
async fn g12_those_that_wait_for_room_are_answered_in_order_too() {
    let app = Echo::plain().await;
    let stage = Stage::new("").await;
    let mut wire = Wire::connect(stage.address()).await;
    wire.send(
        [
            request("GET", "/1", ""),
            request("GET", "/2", ""),
            request("GET", "/3", ""),
        ]
        .concat(),
    )
    .await;
    stage.metric_becomes(crate::waiting::WAITING, 1.0).await;
    app.grant(&stage, 1);
    for number in 1..=3 {
        assert_eq!(wire.tell().await, format!("200 /{number}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn g12_empty_lines_between_requests_are_passed_over() {
    let (_app, stage) = plain("").await;
    let mut wire = Wire::connect(stage.address()).await;
    // As browsers once sent them behind the body of a POST.
    let first = request("POST", "/1", "Content-Length: 4\r\n") + "body\r\n";
    wire.send(first + &request("GET", "/2", "") + "\r\n" + &request("GET", "/3", ""))
        .await;
    for wanted in ["200 /1 body", "200 /2", "200 /3"] {
        assert_eq!(wire.tell().await, wanted);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn g12_an_app_that_ends_each_connection_does_not_end_the_clients() {
    let app = Echo::start(|asked| {
        let body = String::from_utf8_lossy(asked.target()).into_owned();
        let head = format!(
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        vec![Step::Send(head.into_bytes()), Step::Close]
    })
    .await;
    let stage = app.on_stage("", 10).await;
    let mut wire = Wire::connect(stage.address()).await;
    let all: Vec<_> = (0..10)
        .map(|number| request("GET", &format!("/{number}"), ""))
        .collect();
    wire.send(all.concat()).await;
    for number in 0..10 {
        assert_eq!(wire.tell().await, format!("200 /{number}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn g12_a_word_before_a_body_that_is_there_already_disturbs_nobody() {
    let (_app, stage) = plain("").await;
    let mut wire = Wire::connect(stage.address()).await;
    let first = request("POST", "/1", "Content-Length: 4\r\nExpect: 100-continue\r\n") + "body";
    wire.send(first + &request("GET", "/2", "")).await;
    let mut found = wire.tell().await;
    while found == "100" {
        found = wire.tell().await;
    }
    assert_eq!(found, "200 /1 body");
    assert_eq!(wire.tell().await, "200 /2");
}

#[tokio::test(flavor = "multi_thread")]
async fn g12_what_follows_an_upgrade_is_the_tunnels_or_the_next_request() {
    let upgrade = request(
        "GET",
        "/",
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
    );
    let (_app, stage) = plain("").await;
    let mut wire = Wire::connect(stage.address()).await;
    wire.send(upgrade.clone() + &request("GET", "/2", "")).await;
    assert_eq!(wire.tell().await, "200 /", "declined");
    assert_eq!(wire.tell().await, "200 /2");
    let stage = Stage::new("").await;
    let app = App::start("app").await;
    stage.grant("shop-v1", &app, 1);
    let mut wire = Wire::connect(stage.address()).await;
    wire.send(upgrade + "first words").await;
    assert_eq!(wire.answer().await.unwrap().status(), 101);
    assert!(wire.read_past(b"first words").await);
}

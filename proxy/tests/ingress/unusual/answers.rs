//! G13: whatever an app sends, its client gets an answer or sees that there is none, in bounded time, and the next one gets its own.

use super::cases::{BAD_GATEWAY, Case, FAILS, check, outcome, request, script};
use super::{ROOM, serves_on};
use crate::echo::{Echo, Step, text};
use crate::stage::{Stage, becomes};
use crate::wire::{Wire, exchange, told};
use std::sync::Arc;

/// More than sockets between two processes hold, and far less than a flood would come to.
const FLOOD_MAX: usize = 64 << 20;

fn garbage(what: &'static str, line: &str) -> Case {
    let bytes = format!("{line}\r\nContent-Length: 5\r\n\r\nhello");
    Case::last(what, bytes.as_bytes(), BAD_GATEWAY)
}

#[tokio::test(flavor = "multi_thread")]
async fn g13_what_is_no_status_line_is_a_bad_gateway() {
    for method in ["GET", "POST"] {
        let cases = vec![
            garbage("words", "I am a teapot"),
            garbage("no status", "HTTP/1.1"),
            garbage("an empty status", "HTTP/1.1 "),
            garbage("two digits", "HTTP/1.1 20 OK"),
            garbage("four digits", "HTTP/1.1 2000 OK"),
            garbage("1000", "HTTP/1.1 1000 Much"),
            garbage("099", "HTTP/1.1 099 Little"),
            garbage("000", "HTTP/1.1 000 Nothing"),
            garbage("letters", "HTTP/1.1 abc OK"),
            garbage("a sign", "HTTP/1.1 -20 OK"),
            garbage("no blank behind", "HTTP/1.1 200OK"),
            garbage("HTTP/2", "HTTP/2 200 OK"),
            garbage("HTTP/2.0", "HTTP/2.0 200 OK"),
            garbage("HTTP/0.9", "HTTP/0.9 200 OK"),
            garbage("another protocol", "ICY 200 OK"),
            garbage("small letters", "http/1.1 200 OK"),
            garbage("a zero byte", "HTTP/1.1 200 O\0K"),
            garbage("a bare carriage return", "HTTP/1.1 200 O\rK"),
            garbage("TLS", "\u{16}\u{3}\u{1}\u{2}"),
            garbage("mail", "220 mail.example.com ESMTP"),
            Case::last("a body alone", b"<html>hello</html>", BAD_GATEWAY).then(Step::Close),
            Case::last("half a head", b"HTTP/1.1 200 OK\r\nContent-", BAD_GATEWAY).then(Step::Close),
        ];
        check(method, "", cases).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn g13_status_lines_that_are_only_unusual_pass() {
    let line = |what, line: &[u8], wanted| {
        let bytes = [line, b"\r\nContent-Length: 5\r\n\r\nhello"].concat();
        Case::last(what, &bytes, wanted).again()
    };
    let cases = vec![
        line("no reason", b"HTTP/1.1 200 ", &["200 hello"]),
        line("no blank before no reason", b"HTTP/1.1 200", &["200 hello"]),
        line(
            "a reason that is not ASCII",
            b"HTTP/1.1 200 gr\xfc\xdfe",
            &["200 hello"],
        ),
        line(
            "a long reason",
            &[b"HTTP/1.1 200 ", "x".repeat(1000).as_bytes()].concat(),
            &["200 hello"],
        ),
        line("a status nobody knows", b"HTTP/1.1 299 Odd", &["299 hello"]),
        line("a client's fault nobody knows", b"HTTP/1.1 499 Odd", &["499 hello"]),
        line("a status of no class", b"HTTP/1.1 600 Odd", &["600 hello"]),
        line("999", b"HTTP/1.1 999 Request denied", &["999 hello"]),
    ];
    check("GET", "", cases).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn g13_a_switch_of_protocols_that_nobody_asked_for_is_a_bad_gateway() {
    let switch = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello";
    for method in ["GET", "POST", "HEAD"] {
        let cases = vec![
            Case::last("to a websocket", switch, BAD_GATEWAY),
            Case::last("to nothing", b"HTTP/1.1 101 Switching Protocols\r\n\r\n", BAD_GATEWAY),
        ];
        check(method, "", cases).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn g13_header_lines_that_are_none_are_a_bad_gateway() {
    let head = |what, line: &[u8]| {
        let bytes = [b"HTTP/1.1 200 OK\r\n", line, b"\r\nContent-Length: 5\r\n\r\nhello"].concat();
        Case::last(what, &bytes, BAD_GATEWAY)
    };
    let cases = vec![
        head("a zero byte in a value", b"X-A: a\0b"),
        head("a zero byte in a name", b"X\0A: b"),
        head("a bare carriage return", b"X-A: a\rb"),
        head("no colon", b"X-A"),
        head("no name", b": b"),
        head("a blank in a name", b"X A: b"),
        head("a bracket in a name", b"X(A): b"),
        head("a name that is not ASCII", b"X-\xe9: b"),
        head("a line that goes on in the next", b"X-A: a\r\n b"),
        head("a line that goes on after a tab", b"X-A: a\r\n\tb"),
        head("a first line that begins with a blank", b" X-A: a"),
    ];
    check("GET", "", cases).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn g13_header_lines_that_are_only_unusual_pass() {
    let app = Echo::start(|asked| {
        vec![Step::Send(match asked.target() {
            b"/lines" => b"HTTP/1.1 200 OK\nX-A: b\nContent-Length: 5\n\nhello".to_vec(),
            b"/colon" => b"HTTP/1.1 200 OK\r\nX-A : b\r\nContent-Length\t: 5\r\n\r\nhello".to_vec(),
            _ => text("/canary"),
        })]
    })
    .await;
    let stage = app.on_stage("", ROOM).await;
    for target in ["/lines", "/colon"] {
        let answer = exchange(stage.address(), request("GET", target)).await.expect(target);
        assert_eq!(
            (answer.tell().as_str(), answer.values("x-a")),
            ("200 hello", vec![b"b".to_vec()]),
            "{target}"
        );
        let lines = answer.head.split(|byte| *byte == b'\n');
        assert!(
            lines.clone().all(|line| line.is_empty() || line.ends_with(b"\r")),
            "{}",
            answer.head.escape_ascii()
        );
    }
    serves_on(&stage).await;
}

fn flood(what: &'static str, begin: &[u8], again: &str, wanted: &'static [&'static str]) -> Case {
    Case::last(what, begin, wanted).then(Step::Flood(again.repeat(8192 / again.len() + 1).into_bytes()))
}

#[tokio::test(flavor = "multi_thread")]
async fn g13_what_never_ends_is_cut_off_before_it_costs_anything() {
    let chunks = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
    let cases = Arc::new(vec![
        flood("a status line", b"HTTP/1.1 200 ", "x", BAD_GATEWAY),
        flood("garbage", b"", "x", BAD_GATEWAY),
        flood("headers", b"HTTP/1.1 200 OK\r\n", "X-A: b\r\n", BAD_GATEWAY),
        flood("headers of no length", b"HTTP/1.1 200 OK\r\n", "a:\r\n", BAD_GATEWAY),
        flood("a header", b"HTTP/1.1 200 OK\r\nX-A: ", "b", BAD_GATEWAY),
        flood(
            "words before an answer",
            b"",
            "HTTP/1.1 103 Early Hints\r\n\r\n",
            BAD_GATEWAY,
        ),
        flood("100s", b"", "HTTP/1.1 100 Continue\r\n\r\n", BAD_GATEWAY),
        flood("a chunk size", chunks, "0", FAILS),
        flood(
            "what may follow a chunk size",
            &[chunks, &b"5;"[..]].concat(),
            "a",
            FAILS,
        ),
        flood("trailers", &[chunks, &b"0\r\n"[..]].concat(), "X-A: b\r\n", FAILS),
        flood("a trailer", &[chunks, &b"0\r\nX-A: "[..]].concat(), "b", FAILS),
    ]);
    let app = Echo::start(script(Arc::clone(&cases))).await;
    let stage = app.on_stage("", ROOM).await;
    let mut wrong = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        let before = app.state.flooded.load(std::sync::atomic::Ordering::SeqCst);
        let found = outcome(stage.address(), "GET", &format!("/{number}")).await;
        if !case.allows(&found) {
            wrong.push(format!("{}: {found}, not {:?}", case.what, case.wanted));
            continue;
        }
        let left = format!("connections of the app after {}", case.what);
        becomes(&left, 0, || app.open_connections()).await;
        let flooded = app.state.flooded.load(std::sync::atomic::Ordering::SeqCst) - before;
        if flooded > FLOOD_MAX {
            wrong.push(format!("{}: {flooded} bytes were taken", case.what));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n")
    );
    serves_on(&stage).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn g13_a_head_that_comes_a_byte_at_a_time_has_to_be_there_in_time() {
    let drip = |what, begin: &[u8], again: &str| {
        let drip = Step::Drip(again.as_bytes().to_vec());
        Case::last(what, begin, &["504"]).then(drip)
    };
    let cases = vec![
        drip("headers", b"HTTP/1.1 200 OK\r\n", "X-A: b\r\n"),
        drip("a header", b"HTTP/1.1 200 OK\r\nX-A: ", "b"),
        drip("a status line", b"HTTP/1.1 200 ", "x"),
        drip(
            "words before an answer",
            b"HTTP/1.1 103 Early Hints\r\n\r\n",
            "HTTP/1.1 103 Early Hints\r\n\r\n",
        ),
        Case::last("half a head", b"HTTP/1.1 200 OK\r\nX-A: b\r\n", &["504"]),
        Case::last("words before no answer", b"HTTP/1.1 103 Early Hints\r\n\r\n", &["504"]),
    ];
    check("POST", "timeouts.upstream_first_byte = \"3s\"", cases).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn g13_what_an_app_says_on_a_kept_connection_is_nobodys_answer() {
    let app = Echo::start(|asked| match asked.target() {
        b"/canary" => vec![Step::Send(text("/canary"))],
        _ => {
            let stale = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 5\r\n\r\nstale".to_vec();
            vec![Step::Send(text("first")), Step::Wait, Step::Send(stale)]
        }
    })
    .await;
    let stage: Stage = app.on_stage("", 1).await;
    for round in 1..=10 {
        assert_eq!(told(stage.address(), request("GET", "/")).await, "200 first");
        app.state.go.add_permits(1);
        // Three steps for the first request, and one for the canary of each round before.
        becomes("steps", 4 * round - 1, || app.steps()).await;
        // Whatever tells the proxy of its connections has told it of this one when it has told it of a later one.
        assert_eq!(
            told(stage.address(), "GET / HTTP/1.1\r\nHost: nowhere.example.net\r\n\r\n").await,
            "404"
        );
        serves_on(&stage).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn g13_what_there_is_of_an_answer_does_not_wait_for_the_rest() {
    let app = Echo::start(|asked| {
        let head = match asked.target() {
            b"/length" => "Content-Length: 1000000\r\n\r\n",
            b"/chunks" => "Transfer-Encoding: chunked\r\n\r\n4\r\n",
            b"/end" => "X-A: b\r\n\r\n",
            _ => return vec![Step::Send(text("/canary"))],
        };
        vec![
            Step::Send(format!("HTTP/1.1 200 OK\r\n{head}half").into_bytes()),
            Step::Wait,
        ]
    })
    .await;
    let stage = app.on_stage("", ROOM).await;
    for target in ["/length", "/chunks", "/end"] {
        for method in ["GET", "POST"] {
            let mut wire = Wire::connect(stage.address()).await;
            wire.send(request(method, target)).await;
            assert!(wire.read_past(b"\r\n\r\n").await, "{method} {target}: no head");
            assert!(wire.read_past(b"half").await, "{method} {target}: nothing of the body");
        }
    }
    serves_on(&stage).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn g13_what_an_app_says_to_its_neighbour_alone_is_not_passed_on() {
    let app = Echo::start(|_| {
        let said = "Connection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\n\
                    Server: odd/1\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nContent-Length: 5";
        vec![Step::Send(format!("HTTP/1.1 200 OK\r\n{said}\r\n\r\nhello").into_bytes())]
    })
    .await;
    let stage = app.on_stage("", ROOM).await;
    let answer = exchange(stage.address(), request("GET", "/")).await.unwrap();
    assert_eq!(answer.tell(), "200 hello");
    for (name, wanted) in [
        ("x-hop", &[][..]),
        ("keep-alive", &[]),
        ("proxy-connection", &[]),
        ("server", &[b"odd/1".to_vec()]),
        ("date", &[b"Thu, 01 Jan 1970 00:00:00 GMT".to_vec()]),
    ] {
        assert_eq!(answer.values(name), wanted, "{name}");
    }
}

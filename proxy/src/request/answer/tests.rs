//! Which answers can be shown, and how they look to their clients.

use super::*;

fn asked(line: &str) -> Head {
    Head::parse(Bytes::from(format!("{line}\r\nHost: a\r\n\r\n"))).unwrap()
}

fn parse(text: &str, line: &str) -> Result<Answer, Unreadable> {
    Answer::parse(&Bytes::from(text.to_owned()), &asked(line))
}

/// What the client of `line` gets, without the id.
fn shown(text: &str, line: &str, keeps: bool) -> String {
    let mut out = Vec::new();
    let answer = parse(text, line).unwrap();
    answer.write_head(
        &mut out,
        &asked(line),
        &RequestId::Taken(Bytes::from_static(b"id")),
        keeps,
    );
    String::from_utf8(out).unwrap().replacen("X-Request-Id: id\r\n", "", 1)
}

const GET: &str = "GET / HTTP/1.1";
const GET_10: &str = "GET / HTTP/1.0";
const HEAD: &str = "HEAD / HTTP/1.1";

#[test]
fn g13_only_what_has_one_meaning_is_an_answer() {
    for text in [
        "HTTP/1.1 200 OK\r\nA b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: b\rC: d\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: b\0\r\n\r\n",
        "HTTP/1.1 099 Low\r\n\r\n",
        "HTTP/1.1 1000 High\r\n\r\n",
        "HTTP/1.1 abc\r\n\r\n",
        "HTTP/1.1 20\r\n\r\n",
        "HTTP/1.1  200 OK\r\n\r\n",
        "HTTP/2 200 OK\r\n\r\n",
        "ICY 200 OK\r\n\r\n",
        "garbage\r\n\r\n",
        "\r\n",
    ] {
        assert!(parse(text, GET).is_err(), "{text:?}");
    }
    for text in [
        "HTTP/1.1 200\r\n\r\n",
        "HTTP/1.1 200 \r\n\r\n",
        "HTTP/1.1 200 OK\nA : b\n\n",
        "HTTP/1.0 404 Not \u{e4} Found\r\n\r\n",
    ] {
        assert!(parse(text, GET).is_ok(), "{text:?}");
    }
}

#[test]
fn what_an_app_says_arrives_in_its_order_and_letter_case() {
    let lines = "Set-Cookie: a\r\nserver: x\r\nset-cookie: b\r\nX_Y: 1\r\n";
    let text = format!("HTTP/1.1 200 Fine\r\n{lines}Content-Length: 1\r\n\r\n");
    assert_eq!(
        shown(&text, GET, true),
        format!("HTTP/1.1 200 Fine\r\n{lines}Content-Length: 1\r\n\r\n")
    );
    let hop = "HTTP/1.1 200 OK\r\nConnection: close, x-mine\r\nKeep-Alive: 5\r\nX-Mine: 1\r\nContent-Length: 1\r\n\r\n";
    assert_eq!(shown(hop, GET, true), "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n");
}

#[test]
fn g9_an_answer_is_adapted_to_its_client() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let open = "HTTP/1.1 200 OK\r\n\r\n";
    for text in [chunked, open] {
        assert_eq!(shown(text, GET, true), chunked);
        assert_eq!(
            shown(text, GET_10, false),
            "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
        );
    }
    let length = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n";
    let kept = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: keep-alive\r\n\r\n";
    assert_eq!(shown(length, GET_10, true), kept);
}

#[test]
fn an_answer_without_a_body_says_what_a_body_would_have_had() {
    let length = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n";
    assert_eq!(parse(length, HEAD).unwrap().body, Framing::None);
    assert_eq!(shown(length, HEAD, true), length);
    let nothing = "HTTP/1.1 204 No Content\r\nContent-Length: 3\r\n\r\n";
    assert_eq!(shown(nothing, GET, true), "HTTP/1.1 204 No Content\r\n\r\n");
    let chunked = "HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(shown(chunked, GET, true), "HTTP/1.1 304 Not Modified\r\n\r\n");
}

#[test]
fn f15_a_connection_is_kept_only_behind_a_clear_end() {
    for (text, keeps) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", true),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: Close\r\n\r\n",
            false,
        ),
        ("HTTP/1.1 200 OK\r\n\r\n", false),
        ("HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\n", false),
        (
            "HTTP/1.0 200 OK\r\nContent-Length: 3\r\nConnection: keep-alive\r\n\r\n",
            true,
        ),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", true),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
            false,
        ),
    ] {
        assert_eq!(parse(text, GET).unwrap().keeps(), keeps, "{text:?}");
    }
}

#[test]
fn f19_only_what_says_so_is_a_stream() {
    for (line, is_stream) in [
        ("Content-Type: text/event-stream", true),
        ("content-type: Text/Event-Stream;charset=utf-8", true),
        ("X-Accel-Buffering: no", true),
        ("X-Accel-Buffering: yes", false),
        ("Content-Type: text/html", false),
        ("Accept: text/event-stream", false),
    ] {
        let answer = parse(&format!("HTTP/1.1 200 OK\r\n{line}\r\n\r\n"), GET).unwrap();
        assert_eq!(answer.is_stream(), is_stream, "{line}");
    }
}

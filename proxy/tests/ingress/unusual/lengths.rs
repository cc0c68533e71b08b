//! G13: how long an answer is, when the app says it twice, wrongly, or not as it is.

use super::cases::{BAD_GATEWAY, Case, FAILS, check};
use super::{ROOM, serves_on};
use crate::echo::{Echo, Step, text};
use crate::stage::HOST;
use crate::wire::{Wire, exchange};

const WHOLE: &[&str] = &["200 hello"];

/// An answer of which these lines tell the length.
fn framed(what: &'static str, lines: &str, body: &str, wanted: &'static [&'static str]) -> Case {
    let bytes = format!("HTTP/1.1 200 OK\r\n{lines}\r\n\r\n{body}");
    Case::last(what, bytes.as_bytes(), wanted)
}

#[tokio::test(flavor = "multi_thread")]
async fn g13_one_length_said_in_other_words_is_one_length() {
    let sized = |what, lines| framed(what, lines, "hello", WHOLE).again();
    for method in ["GET", "POST"] {
        let cases = vec![
            sized("two equal lines", "Content-Length: 5\r\nContent-Length: 5"),
            sized(
                "three, of other letters",
                "Content-Length: 5\r\ncontent-length: 5\r\nCONTENT-LENGTH:5",
            ),
            sized("a list", "Content-Length: 5, 5"),
            sized("a tight list", "Content-Length: 5,5,5"),
            sized(
                "a list and a line",
                "Content-Length: 5 , 5\r\nX-A: b\r\nContent-Length: 5",
            ),
            sized("a zero in front", "Content-Length: 05"),
        ];
        check(method, "", cases).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn g13_a_length_that_is_none_is_a_bad_gateway() {
    let sized = |what, lines| framed(what, lines, "hello", BAD_GATEWAY);
    for method in ["GET", "POST", "HEAD"] {
        let cases = vec![
            sized("two lines", "Content-Length: 5\r\nContent-Length: 6"),
            sized("a list of two", "Content-Length: 5, 6"),
            sized("a list of equal ones that are none", "Content-Length: x, x"),
            sized("less than nothing", "Content-Length: -5"),
            sized("a sign", "Content-Length: +5"),
            sized("half a byte", "Content-Length: 5.0"),
            sized("of sixteen", "Content-Length: 0x5"),
            sized("a blank", "Content-Length: 5 5"),
            sized("a word", "Content-Length: five"),
            sized("nothing", "Content-Length:"),
            sized("a parameter", "Content-Length: 5;q=1"),
            sized("more than numbers hold", "Content-Length: 99999999999999999999999"),
            sized("as much as goes round once", "Content-Length: 18446744073709551621"),
        ];
        check(method, "", cases).await;
    }
}

const CHUNKS: &str = "5\r\nhello\r\n0\r\n\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn g13_codings_that_nobody_asked_for_are_a_bad_gateway() {
    let refused = |what, lines| framed(what, lines, CHUNKS, BAD_GATEWAY);
    for method in ["GET", "POST", "HEAD"] {
        let cases = vec![
            refused("gzip and chunked", "Transfer-Encoding: gzip, chunked"),
            refused(
                "gzip and chunked in lines",
                "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked",
            ),
            refused("gzip alone", "Transfer-Encoding: gzip"),
            refused("gzip and a length", "Transfer-Encoding: gzip\r\nContent-Length: 15"),
            refused("chunked twice", "Transfer-Encoding: chunked, chunked"),
            refused(
                "chunked in two lines",
                "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            ),
            refused("chunked and then more", "Transfer-Encoding: chunked, gzip"),
            refused("nearly chunked", "Transfer-Encoding: xchunked"),
            refused("quoted", "Transfer-Encoding: \"chunked\""),
            refused("with a parameter", "Transfer-Encoding: chunked;q=1"),
            refused("two words", "Transfer-Encoding: chunked identity"),
            // RFC 9112, section 6.1: framing that is faulty, since a server of HTTP/1.0 knows no chunks.
            Case::last(
                "chunked of HTTP/1.0",
                format!("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{CHUNKS}").as_bytes(),
                BAD_GATEWAY,
            ),
        ];
        check(method, "", cases).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn g13_one_word_counts_where_an_app_says_two_on_where_its_answer_ends() {
    let closed = |what, lines| framed(what, lines, "hello", WHOLE).then(Step::Close);
    let old = |what, lines: &str, body: &str| {
        Case::last(
            what,
            format!("HTTP/1.0 200 OK\r\n{lines}\r\n\r\n{body}").as_bytes(),
            WHOLE,
        )
    };
    for method in ["GET", "POST"] {
        let cases = vec![
            framed("in other letters", "transfer-encoding: CHUNKED", CHUNKS, WHOLE).again(),
            framed(
                "a length first",
                "Content-Length: 5\r\nTransfer-Encoding: chunked",
                CHUNKS,
                WHOLE,
            ),
            framed(
                "a length behind",
                "Transfer-Encoding: chunked\r\nContent-Length: 15",
                CHUNKS,
                WHOLE,
            ),
            framed(
                "identity and a length",
                "Transfer-Encoding: identity\r\nContent-Length: 5",
                "hello",
                WHOLE,
            )
            .again(),
            framed(
                "Identity and a length",
                "Content-Length: 5\r\nTransfer-Encoding: Identity",
                "hello",
                WHOLE,
            )
            .again(),
            closed("identity and an end", "Transfer-Encoding: identity"),
            closed("nothing and an end", "X-A: b"),
            closed("keep-alive, nothing, and an end", "Connection: keep-alive"),
            old("a length of HTTP/1.0", "Content-Length: 5", "hello"),
            old(
                "a length of HTTP/1.0 that is kept",
                "Connection: Keep-Alive\r\nContent-Length: 5",
                "hello",
            )
            .again(),
        ];
        check(method, "", cases).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn g13_chunks_that_go_wrong_break_the_answer_off() {
    let begun = |what, rest: &str| {
        framed(
            what,
            "Transfer-Encoding: chunked",
            &format!("5\r\nhello\r\n{rest}"),
            FAILS,
        )
    };
    for method in ["GET", "POST"] {
        let cases = vec![
            begun("letters", "zz\r\nhello\r\n0\r\n\r\n"),
            begun("a sign", "+5\r\nhello\r\n0\r\n\r\n"),
            begun("less than nothing", "-1\r\n\r\n0\r\n\r\n"),
            begun("as in programs", "0x5\r\nhello\r\n0\r\n\r\n"),
            begun("nothing", "\r\nhello\r\n0\r\n\r\n"),
            begun("a parameter alone", ";a=b\r\n\r\n0\r\n\r\n"),
            begun("two sizes", "5 5\r\nhello\r\n0\r\n\r\n"),
            begun("more than numbers hold", "FFFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n"),
            begun("as much as goes round once", "10000000000000005\r\nhello\r\n0\r\n\r\n"),
            begun("more than was said", "2\r\nhello\r\n0\r\n\r\n"),
            begun("less than was said", "9\r\nhello\r\n0\r\n\r\n").then(Step::Close),
            begun("no end of a chunk", "5\r\nhello0\r\n\r\n"),
            begun("no last chunk", "5\r\nhello\r\n").then(Step::Close),
            begun("no last chunk and a reset", "5\r\nhello\r\n").then(Step::Reset),
            begun("a bare carriage return", "5\rhello\r\n0\r\n\r\n"),
        ];
        check(method, "", cases).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn g13_chunks_that_are_only_unusual_are_read() {
    let read = |what, body: &str| framed(what, "Transfer-Encoding: chunked", body, WHOLE).again();
    let cases = vec![
        read("a parameter", "5;a=b\r\nhello\r\n0\r\n\r\n"),
        read("a parameter in quotes", "5;a=\"b;c\"\r\nhello\r\n0;d\r\n\r\n"),
        read("zeros", "0005\r\nhello\r\n000\r\n\r\n"),
        read("trailers", "5\r\nhello\r\n0\r\nX-Sum: 1\r\nX-More: 2\r\n\r\n"),
        read("many", "1\r\nh\r\n1\r\ne\r\n1\r\nl\r\n1\r\nl\r\n1\r\no\r\n0\r\n\r\n"),
    ];
    check("GET", "", cases).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn g13_a_body_that_is_not_as_long_as_was_said_is_never_passed_for_whole() {
    let sized = |what, length: usize, body: &str, wanted| {
        let bytes = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}");
        Case::last(what, bytes.as_bytes(), wanted)
    };
    let second = "hello".to_owned() + std::str::from_utf8(&text("second")).unwrap();
    for method in ["GET", "POST"] {
        let cases = vec![
            sized("shorter", 10, "hello", FAILS).then(Step::Close),
            sized("shorter, and a reset", 10, "hello", FAILS).then(Step::Reset),
            sized("nothing of it", 10, "", FAILS).then(Step::Close),
            sized("much shorter", 1 << 40, &"x".repeat(1 << 20), FAILS).then(Step::Close),
            sized("longer", 5, "hello, world", WHOLE),
            sized("longer by a line", 5, "hello\r\n", WHOLE),
            sized("a second answer", 5, &second, WHOLE),
            sized("a body that should be none", 0, "hello", &["200"]),
            framed(
                "chunks and more",
                "Transfer-Encoding: chunked",
                "5\r\nhello\r\n0\r\n\r\nmore",
                WHOLE,
            ),
        ];
        check(method, "", cases).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn g13_a_body_where_none_may_be_is_dropped_and_its_connection_left() {
    let head = |what, line: &str, lines: &str, wanted| {
        let bytes = format!("HTTP/1.1 {line}\r\n{lines}\r\n\r\nhello");
        Case::last(what, bytes.as_bytes(), wanted)
    };
    for method in ["GET", "POST"] {
        let cases = vec![
            head("204 with a length", "204 No Content", "Content-Length: 5", &["204"]),
            head("204 without", "204 No Content", "X-A: b", &["204"]),
            head(
                "204 in chunks",
                "204 No Content",
                "Transfer-Encoding: chunked\r\n\r\n5",
                &["204"],
            ),
            head("304 with a length", "304 Not Modified", "Content-Length: 5", &["304"]),
            head("304 without", "304 Not Modified", "X-A: b", &["304"]),
        ];
        check(method, "", cases).await;
    }
    let cases = vec![
        head("a length", "200 OK", "Content-Length: 5", &["200"]),
        head("no length", "200 OK", "X-A: b", &["200"]),
        head("chunks", "200 OK", "Transfer-Encoding: chunked\r\n\r\n5", &["200"]),
        head("a fault", "404 Not Found", "Content-Length: 5", &["404"]),
    ];
    check("HEAD", "", cases).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn g13_an_answer_without_a_body_says_no_length_that_it_has_not() {
    let app = Echo::start(|asked| {
        let head = match asked.target() {
            b"/204" => "HTTP/1.1 204 No Content\r\nContent-Length: 5",
            b"/204/0" => "HTTP/1.1 204 No Content\r\nContent-Length: 0",
            b"/204/chunked" => "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked",
            b"/304" => "HTTP/1.1 304 Not Modified\r\nContent-Length: 5",
            b"/length" => "HTTP/1.1 200 OK\r\nContent-Length: 5",
            _ => return vec![Step::Send(text("/canary"))],
        };
        vec![Step::Send(format!("{head}\r\n\r\n").into_bytes())]
    })
    .await;
    let stage = app.on_stage("", ROOM).await;
    for (target, length) in [
        ("/204", &[][..]),
        ("/204/0", &[]),
        ("/204/chunked", &[]),
        ("/304", &[b"5".to_vec()]),
    ] {
        let request = format!("GET {target} HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
        let answer = exchange(stage.address(), request).await.expect(target);
        assert_eq!(answer.values("content-length"), length, "{target}");
        assert_eq!(answer.values("transfer-encoding").len(), 0, "{target}");
    }
    let mut wire = Wire::connect(stage.address()).await;
    wire.send(format!("HEAD /length HTTP/1.1\r\nHost: {HOST}\r\n\r\n"))
        .await;
    let answer = wire.answer_to("HEAD").await.unwrap();
    assert_eq!(answer.values("content-length"), [b"5"], "what GET would have got");
    serves_on(&stage).await;
}

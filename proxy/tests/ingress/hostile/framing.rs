//! How long a body is: one reading, or none. RFC 9112 §6.

use super::{BAD, Bench, Fate, Open, Refused, Served};
use crate::client::{ask, get};
use crate::raw::RawApp;
use crate::stage::{HOST, Stage};

/// A POST whose body would be framed by these header lines.
fn framed(lines: &str, body: &str) -> Vec<u8> {
    format!("POST /case HTTP/1.1\r\nHost: {HOST}\r\n{lines}\r\n{body}").into_bytes()
}

async fn check(cases: &[(&str, &str, Fate)]) {
    let mut bench = Bench::new().await;
    for (lines, body, fate) in cases {
        bench.case(&framed(lines, body), *fate).await;
    }
    bench.done();
}

#[tokio::test(flavor = "multi_thread")]
async fn f17_a_length_is_digits_once() {
    // §6.3: a list of equal lengths may be refused or made one; passed on as it came it may not be.
    let equal = Open(&[400], "abc");
    check(&[
        ("Content-Length: 3\r\n", "abc", Served("abc")),
        ("Content-Length: 0\r\n", "", Served("")),
        ("content-LENGTH:3\r\n", "abc", Served("abc")),
        ("Content-Length: \t 3 \t\r\n", "abc", Served("abc")),
        ("Content-Length: 3, 3\r\n", "abc", equal),
        ("Content-Length: 3,3,3\r\n", "abc", equal),
        ("Content-Length: 3\r\nContent-Length: 3\r\n", "abc", equal),
        ("Content-Length: 003\r\n", "abc", equal),
        ("Content-Length: 3,4\r\n", "abcd", BAD),
        ("Content-Length: 3, \r\n", "abc", BAD),
        ("Content-Length: , 3\r\n", "abc", BAD),
        ("Content-Length: 3\r\nContent-Length: 4\r\n", "abcd", BAD),
        ("Content-Length: 3\r\nContent-Length:\r\n", "abc", BAD),
        ("Content-Length: 0\r\nContent-Length: 3\r\n", "abc", BAD),
        ("Content-Length: +3\r\n", "abc", BAD),
        ("Content-Length: -3\r\n", "abc", BAD),
        ("Content-Length: -0\r\n", "", BAD),
        ("Content-Length: 0x3\r\n", "abc", BAD),
        ("Content-Length: 3;\r\n", "abc", BAD),
        ("Content-Length: 3.0\r\n", "abc", BAD),
        ("Content-Length: 3e0\r\n", "abc", BAD),
        ("Content-Length: 3 3\r\n", "abc", BAD),
        ("Content-Length: \"3\"\r\n", "abc", BAD),
        ("Content-Length: \u{663}\r\n", "abc", BAD),
        ("Content-Length: three\r\n", "abc", BAD),
        ("Content-Length:\r\n", "", BAD),
        ("Content-Length: 3\u{b}\r\n", "abc", BAD),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f17_a_length_that_fits_in_no_number_is_refused_and_never_a_small_one() {
    let huge = Refused(&[400, 413]);
    check(&[
        ("Content-Length: 111111111111111111111111111111\r\n", "abc", huge),
        // 2^64 + 3, 2^63 + 3 with its sign cut off, 2^32 + 3 as 128 bits.
        ("Content-Length: 18446744073709551619\r\n", "abc", huge),
        (
            "Content-Length: 340282366920938463463374607431768211459\r\n",
            "abc",
            huge,
        ),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f17_the_only_coding_is_chunked_once() {
    let body = "3\r\nabc\r\n0\r\n\r\n";
    // §6.1: 501 for a coding that is not understood; §6.3: 400 where chunked is not the last one.
    let unknown = Refused(&[400, 501]);
    check(&[
        ("Transfer-Encoding: chunked\r\n", body, Served("abc")),
        ("Transfer-Encoding: Chunked\r\n", body, Served("abc")),
        ("transfer-encoding:CHUNKED\r\n", body, Served("abc")),
        ("Transfer-Encoding:  \tchunked \t\r\n", body, Served("abc")),
        ("Transfer-Encoding: chunked, chunked\r\n", body, unknown),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            body,
            unknown,
        ),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
            body,
            unknown,
        ),
        (
            "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n",
            body,
            unknown,
        ),
        ("Transfer-Encoding: chunked, identity\r\n", body, unknown),
        ("Transfer-Encoding: identity\r\n", body, unknown),
        ("Transfer-Encoding: identity, chunked\r\n", body, unknown),
        ("Transfer-Encoding: gzip, chunked\r\n", body, unknown),
        (
            "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n",
            body,
            unknown,
        ),
        ("Transfer-Encoding: chunked, gzip\r\n", body, unknown),
        ("Transfer-Encoding: gzip\r\n", body, unknown),
        ("Transfer-Encoding: xchunked\r\n", body, unknown),
        ("Transfer-Encoding: chunkedx\r\n", body, unknown),
        ("Transfer-Encoding: chunk\r\n", body, unknown),
        ("Transfer-Encoding: chunked;q=1\r\n", body, unknown),
        ("Transfer-Encoding: \"chunked\"\r\n", body, unknown),
        ("Transfer-Encoding: \u{b}chunked\r\n", body, unknown),
        ("Transfer-Encoding: chunked\u{a0}\r\n", body, unknown),
        ("Transfer-Encoding: chu nked\r\n", body, unknown),
        // Lists may have empty elements (RFC 9110 §5.6.1); nobody needs them here.
        ("Transfer-Encoding: chunked,\r\n", body, Open(&[400, 501], "abc")),
        ("Transfer-Encoding: , chunked\r\n", body, Open(&[400, 501], "abc")),
        ("Transfer-Encoding:\r\n", "", Open(&[400, 501], "")),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f17_a_length_beside_a_coding_is_refused_or_does_not_reach_the_app() {
    let body = "3\r\nabc\r\n0\r\n\r\n";
    // §6.3: refused, or the coding alone counts; §6.1: the connection ends with it.
    let both = Open(&[400], "abc");
    let mut bench = Bench::new().await;
    for lines in [
        "Content-Length: 13\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 13\r\n",
        "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n",
    ] {
        bench.case(&framed(lines, body), both).await;
    }
    for lines in [
        "Content-Length: 13\r\nTransfer-Encoding: identity\r\n",
        "Content-Length: 13\r\nTransfer-Encoding: xchunked\r\n",
        "Content-Length: 13\r\nTransfer-Encoding: gzip, chunked\r\n",
        "Content-Length: x\r\nTransfer-Encoding: chunked\r\n",
    ] {
        bench.case(&framed(lines, body), Refused(&[400, 501])).await;
    }
    let mut client = bench.stage.client().await;
    let lines = "Content-Length: 13\r\nTransfer-Encoding: chunked\r\n";
    client.push(&framed(lines, body)).await;
    let answer = client.answer().await.expect("an answer");
    assert!(super::says_close(&answer), "{answer:?}");
    client.closed().await;
    bench.done();
}

#[tokio::test(flavor = "multi_thread")]
async fn f17_a_coding_from_a_client_of_http_1_0_is_faulty() {
    let mut bench = Bench::new().await;
    for lines in [
        "Transfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nConnection: keep-alive\r\n",
        "Content-Length: 13\r\nTransfer-Encoding: chunked\r\n",
    ] {
        let sent = format!("POST /case HTTP/1.0\r\nHost: {HOST}\r\n{lines}\r\n3\r\nabc\r\n0\r\n\r\n");
        bench.case(sent.as_bytes(), BAD).await;
    }
    bench.done();
}

/// A body in which a request is hidden is a body, whoever reads it how.
#[tokio::test(flavor = "multi_thread")]
async fn f17_what_looks_like_a_request_in_a_body_is_not_one() {
    let stage = Stage::new(super::BOUNDED).await;
    let app = RawApp::strict().await;
    app.granted(&stage, 100);
    let hidden = get(HOST, "/hidden");
    let mut client = stage.client().await;
    for method in ["POST", "PUT", "PATCH", "DELETE", "GET", "OPTIONS"] {
        let lengths = format!("Content-Length: {}\r\n\r\n{hidden}", hidden.len());
        let chunks = format!(
            "Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{hidden}\r\n0\r\n\r\n",
            hidden.len()
        );
        for framed in [lengths, chunks] {
            let sent = format!("{method} /case HTTP/1.1\r\nHost: {HOST}\r\n{framed}");
            if !client.push(sent.as_bytes()).await {
                panic!("{method}: the connection was closed before it");
            }
            let answer = client.answer().await.expect("an answer");
            assert_eq!((answer.status, answer.body.as_str()), (200, "/case"), "{sent}");
            assert_eq!(app.seen().last().unwrap().body, hidden.as_bytes(), "{sent}");
            assert_eq!(ask(stage.address(), &get(HOST, "/other")).await.body, "/other");
            if super::says_close(&answer) {
                client = stage.client().await;
            }
        }
    }
    assert!(!app.paths().contains(&"/hidden".to_owned()));
}

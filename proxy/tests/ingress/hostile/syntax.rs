//! The request line and the lines of a head, by the letter. RFC 9112 §2.2, §3, §5.

use super::{BAD, Bench, Fate, Open, Refused, Served};
use crate::stage::HOST;

#[tokio::test(flavor = "multi_thread")]
async fn f17_lines_of_a_head_are_a_name_a_colon_and_a_value() {
    let mut bench = Bench::new().await;
    // What stands between "Host" and the empty line.
    let cases: [(&[u8], Fate); 30] = [
        (b"X: 1\r\n", Served("")),
        (b"X:1\r\n", Served("")),
        (b"X:\r\n", Served("")),
        (b"X: a: b\tc\r\n", Served("")),
        (b"!#$%&'*+-.^`|~09azAZ: 1\r\n", Served("")),
        (b"X: caf\xc3\xa9 \xff\r\n", Served("")),
        // Blank before the colon: §5.1 says 400.
        (b"X : 1\r\n", BAD),
        (b"X\t: 1\r\n", BAD),
        (b"Content-Length : 3\r\n", BAD),
        (b"Transfer-Encoding : chunked\r\n", BAD),
        (b"Host : evil\r\n", BAD),
        (b": 1\r\n", BAD),
        (b"X\r\n", BAD),
        (b"X Y: 1\r\n", BAD),
        (b"X(y): 1\r\n", BAD),
        (b"X\x00: 1\r\n", BAD),
        (b"X\xc3\xa9: 1\r\n", BAD),
        (b"X/y: 1\r\n", BAD),
        (b"X: a\x00b\r\n", BAD),
        (b"X: \x00\r\n", BAD),
        (b"X: a\rb\r\n", BAD),
        (b"X: a\rTransfer-Encoding: chunked\r\n", BAD),
        (b"X: 1\r\r\n", BAD),
        (b"\rX: 1\r\n", BAD),
        (b"X: 1\r\n folded\r\n", BAD),
        (b"X: 1\r\n\tfolded\r\n", BAD),
        (b"X:\r\n Transfer-Encoding: chunked\r\n", BAD),
        (b"X: 1\r\n \r\n", BAD),
        // A name in which another server could see a length.
        (b"Content-Length\x0b: 3\r\n", BAD),
        (b"\x0bContent-Length: 3\r\n", BAD),
    ];
    for (lines, fate) in cases {
        let sent = [
            format!("GET /case HTTP/1.1\r\nHost: {HOST}\r\n").as_bytes(),
            lines,
            b"\r\n",
        ]
        .concat();
        bench.case(&sent, fate).await;
    }
    // Blanks before the first header.
    for lines in [" X: 1\r\n", "\tX: 1\r\n", " \r\n"] {
        let sent = format!("GET /case HTTP/1.1\r\n{lines}Host: {HOST}\r\n\r\n");
        bench.case(sent.as_bytes(), BAD).await;
    }
    bench.done();
}

/// §2.2 lets a server take a bare LF for the end of a line of a head. It may not pass it on, and lines may not end in two ways at
/// one place.
#[tokio::test(flavor = "multi_thread")]
async fn f17_a_bare_lf_is_refused_or_ends_a_line_for_the_app_too() {
    let mut bench = Bench::new().await;
    for sent in [
        format!("GET /case HTTP/1.1\nHost: {HOST}\n\n"),
        format!("GET /case HTTP/1.1\r\nHost: {HOST}\nX: 1\r\n\r\n"),
        format!("GET /case HTTP/1.1\nHost: {HOST}\r\n\r\n"),
        format!("GET /case HTTP/1.1\r\nHost: {HOST}\r\n\n"),
    ] {
        bench.case(sent.as_bytes(), Open(&[400], "")).await;
    }
    for request in bench.app.seen() {
        let bare = request.head.replace("\r\n", "");
        assert!(!bare.contains(['\r', '\n']), "{request:?}");
    }
    bench.done();
}

#[tokio::test(flavor = "multi_thread")]
async fn f17_a_request_line_is_a_method_a_target_and_a_version() {
    let mut bench = Bench::new().await;
    for line in [
        "GET  /case HTTP/1.1",
        "GET /case  HTTP/1.1",
        "GET /case HTTP/1.1 ",
        " GET /case HTTP/1.1",
        "\tGET /case HTTP/1.1",
        "GET\t/case HTTP/1.1",
        "GET /case\tHTTP/1.1",
        "GET /ca se HTTP/1.1",
        "GET /case",
        "GET",
        "GET /case HTTP/1.1 HTTP/1.1",
        "GET case HTTP/1.1",
        "GET * HTTP/1.1",
        "GET ?q HTTP/1.1",
        "GET  HTTP/1.1",
        "GET /ca\u{0}se HTTP/1.1",
        "GET /ca\rse HTTP/1.1",
        "GET /ca\u{7f}se HTTP/1.1",
        "/case HTTP/1.1",
        " /case HTTP/1.1",
        "G T /case HTTP/1.1",
        "G(T /case HTTP/1.1",
        "G\u{e9}T /case HTTP/1.1",
        "\"GET\" /case HTTP/1.1",
        "GET: /case HTTP/1.1",
        "GET/case HTTP/1.1",
        "G\u{0}T /case HTTP/1.1",
        "\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}",
    ] {
        let sent = format!("{line}\r\nHost: {HOST}\r\n\r\n");
        bench.case(sent.as_bytes(), BAD).await;
    }
    bench.done();
}

#[tokio::test(flavor = "multi_thread")]
async fn f17_versions_are_1_0_and_1_1_in_capitals() {
    let mut bench = Bench::new().await;
    let none = Refused(&[400, 505]);
    for (version, fate) in [
        ("HTTP/1.1", Served("")),
        ("HTTP/1.0", Served("")),
        // RFC 9110 §2.5: a higher minor version should be taken for the highest there is.
        ("HTTP/1.2", Open(&[400, 505], "")),
        ("HTTP/1.9", Open(&[400, 505], "")),
        ("HTTP/2.0", none),
        ("HTTP/2", none),
        ("HTTP/3.0", none),
        ("HTTP/0.9", none),
        ("HTTP/0.1", none),
        ("HTTP/1", none),
        ("HTTP/1.", none),
        ("HTTP/.1", none),
        ("HTTP/1.10", none),
        ("HTTP/1.01", none),
        ("HTTP/01.1", none),
        ("HTTP/11.1", none),
        ("HTTP/1,1", none),
        ("HTTP/1.1x", none),
        ("HTTP/-1.1", none),
        ("HTTP 1.1", none),
        ("HTTP/ 1.1", none),
        ("http/1.1", none),
        ("Http/1.1", none),
        ("HTTPS/1.1", none),
        ("HTT/1.1", none),
        ("XHTTP/1.1", none),
        ("1.1", none),
    ] {
        let sent = format!("GET /case {version}\r\nHost: {HOST}\r\n\r\n");
        bench.case(sent.as_bytes(), fate).await;
    }
    for request in bench.app.seen() {
        let line = request.head.lines().next().unwrap();
        assert!(line.ends_with(" HTTP/1.1") || line.ends_with(" HTTP/1.0"), "{line}");
    }
    // The preface of HTTP/2 to a port that speaks none.
    bench.case(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", none).await;
    bench.done();
}

/// Methods are words of the app's own, and capitals are part of them (RFC 9110 §9.1).
#[tokio::test(flavor = "multi_thread")]
async fn f17_any_method_that_is_a_word_passes_as_it_is() {
    let mut bench = Bench::new().await;
    let methods = [
        "GET",
        "POST",
        "PUT",
        "PATCH",
        "DELETE",
        "OPTIONS",
        "PROPFIND",
        "M-SEARCH",
        "get",
        "Get",
        "X",
        "!#$%&'*+-.^_`|~09",
    ];
    for method in methods {
        let sent = format!("{method} /case HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
        bench.case(sent.as_bytes(), Served("")).await;
    }
    let seen: Vec<String> = (bench.app.seen().iter())
        .filter(|request| request.path() == "/case")
        .map(|request| request.head.split(' ').next().unwrap().to_owned())
        .collect();
    assert_eq!(seen, methods);
    bench.done();
}

#[tokio::test(flavor = "multi_thread")]
async fn f17_an_empty_line_before_a_request_is_passed_over() {
    let mut bench = Bench::new().await;
    let sent = format!("\r\nGET /case HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    bench.case(sent.as_bytes(), Served("")).await;
    // As old browsers sent it after a body.
    let after = format!("POST /case HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 3\r\n\r\nabc\r\n");
    bench.case(after.as_bytes(), Served("abc")).await;
    bench.done();
}

//! Chunks by the letter: what two servers could read in two ways is read by nobody. RFC 9112 §7.1.

use super::{BAD, BOUNDED, Bench, Fate, Open, Refused, Served};
use crate::client::get;
use crate::raw::RawApp;
use crate::stage::{HOST, Stage};

const HEAD: &str = "POST /case HTTP/1.1\r\nHost: shop.example.com\r\nTransfer-Encoding: chunked\r\n\r\n";

async fn check(cases: &[(&str, Fate)]) {
    let mut bench = Bench::new().await;
    for (body, fate) in cases {
        bench.case(format!("{HEAD}{body}").as_bytes(), *fate).await;
    }
    bench.done();
}

#[tokio::test(flavor = "multi_thread")]
async fn f17_chunks_that_are_right_pass() {
    check(&[
        ("0\r\n\r\n", Served("")),
        ("3\r\nabc\r\n0\r\n\r\n", Served("abc")),
        ("1\r\na\r\n2\r\nbc\r\n0\r\n\r\n", Served("abc")),
        (
            "A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n",
            Served("01234567890123456789"),
        ),
        ("0003\r\nabc\r\n000\r\n\r\n", Served("abc")),
        // Data may look like framing.
        ("5\r\n0\r\n\r\n\r\n0\r\n\r\n", Served("0\r\n\r\n")),
        ("3;name=value\r\nabc\r\n0\r\n\r\n", Served("abc")),
        ("3;name=\"quoted; value\";other\r\nabc\r\n0;last\r\n\r\n", Served("abc")),
        ("3 ; name = value\r\nabc\r\n0\r\n\r\n", Open(&[400], "abc")),
        ("3\r\nabc\r\n0\r\nX-Trailer: 1\r\nX-Other: 2\r\n\r\n", Served("abc")),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f17_sizes_of_chunks_are_hexadecimal_digits_and_no_more() {
    check(&[
        ("0x3\r\nabc\r\n0\r\n\r\n", BAD),
        ("+3\r\nabc\r\n0\r\n\r\n", BAD),
        ("-3\r\nabc\r\n0\r\n\r\n", BAD),
        (" 3\r\nabc\r\n0\r\n\r\n", BAD),
        ("\t3\r\nabc\r\n0\r\n\r\n", BAD),
        ("3 \r\nabc\r\n0\r\n\r\n", BAD),
        ("3 3\r\nabc\r\n0\r\n\r\n", BAD),
        ("3_\r\nabc\r\n0\r\n\r\n", BAD),
        ("3,\r\nabc\r\n0\r\n\r\n", BAD),
        ("g\r\nabc\r\n0\r\n\r\n", BAD),
        ("\r\nabc\r\n0\r\n\r\n", BAD),
        (";a=b\r\nabc\r\n0\r\n\r\n", BAD),
        ("\u{663}\r\nabc\r\n0\r\n\r\n", BAD),
        ("3\r\nabc\r\n-0\r\n\r\n", BAD),
        ("3\r\nabc\r\n0x0\r\n\r\n", BAD),
        // 2^64 + 3, 2^68 + 3, and one more than fits in 63 bits.
        ("10000000000000003\r\nabc\r\n0\r\n\r\n", Refused(&[400, 413])),
        ("100000000000000003\r\nabc\r\n0\r\n\r\n", Refused(&[400, 413])),
        ("fffffffffffffffff\r\nabc\r\n0\r\n\r\n", Refused(&[400, 413])),
        // Seventeen digits of a small number: many servers count digits.
        ("00000000000000003\r\nabc\r\n0\r\n\r\n", Open(&[400], "abc")),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f17_lines_of_chunks_end_in_cr_lf_and_data_where_its_size_says() {
    check(&[
        ("3\nabc\n0\n\n", BAD),
        ("3\nabc\r\n0\r\n\r\n", BAD),
        ("3\rabc\r\n0\r\n\r\n", BAD),
        ("3\r\nabc\n0\r\n\r\n", BAD),
        ("3\r\nabc\r0\r\n\r\n", BAD),
        ("3\r\nabcX\r\n0\r\n\r\n", BAD),
        ("3\r\nabc0\r\n\r\n", BAD),
        ("3\r\nabcde\r\n0\r\n\r\n", BAD),
        ("3\r\nabc\r\n0\n\r\n", BAD),
        ("3\r\nabc\r\n\r\n0\r\n\r\n", BAD),
        ("3\r\n\r\nabc\r\n0\r\n\r\n", BAD),
        ("3\r\r\nabc\r\n0\r\n\r\n", BAD),
        // An extension is where some servers look for LF, and others for CR LF.
        ("3;a\nb\r\nabc\r\n0\r\n\r\n", BAD),
        ("3;a\rb\r\nabc\r\n0\r\n\r\n", BAD),
        ("3;a\u{0}b\r\nabc\r\n0\r\n\r\n", BAD),
        ("2;\n\r\nab\r\n0\r\n\r\n", BAD),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f17_extensions_and_trailers_are_bounded() {
    let mut bench = Bench::new().await;
    let too_large = Refused(&[400, 413, 431]);
    let long = "x".repeat(200_000);
    let bytewise: String = (0..60_000).map(|_| format!("1;{}\r\na\r\n", "x".repeat(60))).collect();
    let trailers: String = (0..20_000).map(|index| format!("X-{index}: 1\r\n")).collect();
    for body in [
        format!("3;{long}\r\nabc\r\n0\r\n\r\n"),
        format!("3;a={long}"),
        format!("{}3\r\nabc\r\n0\r\n\r\n", "0".repeat(200_000)),
        format!("3\r\nabc\r\n0\r\nX-Long: {long}\r\n\r\n"),
        format!("3\r\nabc\r\n0\r\nX-Long: {long}"),
        format!("3\r\nabc\r\n0\r\n{trailers}\r\n"),
    ] {
        bench.case(format!("{HEAD}{body}").as_bytes(), too_large).await;
    }
    // Extensions of many chunks, each of them short: sixty times the data. Taken or refused, but not passed on.
    let mut client = bench.stage.client().await;
    client.push(format!("{HEAD}{bytewise}0\r\n\r\n").as_bytes()).await;
    if let Some(answer) = client.answer().await {
        assert!([200, 400, 413].contains(&answer.status), "{answer:?}");
    }
    bench.done();
}

#[tokio::test(flavor = "multi_thread")]
async fn f17_trailers_that_would_mean_something_in_a_head_do_not_get_there() {
    let mut bench = Bench::new().await;
    for trailer in [
        "Content-Length: 5",
        "Transfer-Encoding: chunked",
        "Host: evil.example.com",
        "Authorization: evil",
        "X-Forwarded-For: 6.6.6.6",
        "X-Request-Id: evil",
        "Content-Encoding: evil",
        "Connection: close",
    ] {
        let body = format!("{HEAD}3\r\nabc\r\n0\r\n{trailer}\r\n\r\n");
        bench.case(body.as_bytes(), Open(&[400], "abc")).await;
    }
    for trailer in [
        "no colon\r\n",
        "X: a\u{0}b\r\n",
        "X : 1\r\n",
        "X: a\rb\r\n",
        "X: 1\r\n folded\r\n",
        ": 1\r\n",
        " X: 1\r\n",
    ] {
        let body = format!("{HEAD}3\r\nabc\r\n0\r\n{trailer}\r\n");
        bench.case(body.as_bytes(), BAD).await;
    }
    let seen = format!("{:?}", bench.app.seen());
    assert!(!seen.contains("evil") && !seen.contains("6.6.6.6"), "{seen}");
    bench.done();
}

#[tokio::test(flavor = "multi_thread")]
async fn f17_a_body_that_ends_too_early_is_none() {
    let stage = Stage::new(BOUNDED).await;
    let app = RawApp::strict().await;
    app.granted(&stage, 100);
    for sent in [
        format!("{HEAD}3\r\nabc\r\n"),
        format!("{HEAD}3\r\nab"),
        format!("{HEAD}3\r\nabc\r\n0\r\n"),
        format!("{HEAD}3\r\nabc\r\n0\r\nX: 1\r\n"),
        format!("{HEAD}3"),
        format!("POST /case HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 4\r\n\r\nabc"),
        format!("POST /case HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 1000000\r\n\r\nabc"),
    ] {
        let mut client = stage.client().await;
        client.push(sent.as_bytes()).await;
        tokio::io::AsyncWriteExt::shutdown(&mut client.stream).await.unwrap();
        if let Some(answer) = client.answer().await {
            assert!([400, 408].contains(&answer.status), "{sent:?} got {answer:?}");
        }
        client.closed().await;
        assert_eq!(stage.get("/other").await.body, "/other", "{sent:?}");
    }
    assert!(app.paths().iter().all(|path| path == "/other"), "{:?}", app.seen());
    assert_eq!(*app.log.broken.lock(), Vec::<String>::new());
}

/// Wherever a request is cut into pieces, it is the same request.
#[tokio::test(flavor = "multi_thread")]
async fn f17_a_request_may_arrive_byte_for_byte() {
    let stage = Stage::new("").await;
    let app = RawApp::strict().await;
    app.granted(&stage, 100);
    let mut client = stage.client().await;
    client.stream.set_nodelay(true).unwrap();
    let chunked = format!("{HEAD}3;ext=\"a\"\r\nabc\r\n2\r\nde\r\n0\r\nX: 1\r\n\r\n");
    let length = format!("PUT /case HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 5\r\n\r\nabcde");
    for sent in [chunked, get(HOST, "/case"), length] {
        for byte in sent.as_bytes() {
            assert!(client.push(&[*byte]).await, "{sent:?}");
            tokio::task::yield_now().await;
        }
        let answer = client.answer().await.expect("an answer");
        assert_eq!((answer.status, answer.body.as_str()), (200, "/case"), "{sent:?}");
    }
    let bodies: Vec<_> = app.seen().into_iter().map(|request| request.body).collect();
    assert_eq!(bodies, [b"abcde".to_vec(), Vec::new(), b"abcde".to_vec()]);
}

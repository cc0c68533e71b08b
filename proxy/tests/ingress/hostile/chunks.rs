//! Chunks by the letter: what two servers could read in two ways is read by nobody. RFC 9112 §7.1.

use super::{BAD, BOUNDED, Bench, Fate, Open, Refused, Served};
use crate::client::get;
use crate::raw::RawApp;
use crate::stage::{HOST, Stage};
use tokio::io::AsyncReadExt;

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

/// So many, behind what is awaited of a body before a sandbox is asked for.
const TINY: usize = 20_000;

fn tiny_chunks() -> String {
    "1\r\nx\r\n".repeat(TINY) + "0\r\n\r\n"
}

/// How many chunks there are in `text` before the last one, where their data are only `x`.
fn chunks(text: &[u8]) -> usize {
    let text = String::from_utf8_lossy(text);
    text.split("\r\n")
        .filter(|line| !line.starts_with('x') && !line.is_empty())
        .count()
        - 1
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_that_are_there_at_once_reach_the_app_as_few() {
    let stage = Stage::new(BOUNDED).await;
    let (send, mut bodies) = tokio::sync::mpsc::unbounded_channel();
    let app = RawApp::start(move |mut conn| {
        let send = send.clone();
        async move {
            let mut all = Vec::new();
            while !all.ends_with(b"\r\n0\r\n\r\n") {
                if conn.stream.read_buf(&mut all).await.is_ok_and(|count| count > 0) {
                    continue;
                }
                return;
            }
            conn.answer("done", false).await;
            let end = all.windows(4).position(|window| window == b"\r\n\r\n").expect("a head");
            send.send(all.split_off(end + 4)).unwrap();
        }
    })
    .await;
    app.granted(&stage, 10);
    let mut client = stage.client().await;
    let long = "x".repeat(70_000);
    let sent = format!("{HEAD}{:x}\r\n{long}\r\n{}", long.len(), tiny_chunks());
    client.push(sent.as_bytes()).await;
    assert_eq!(client.answer().await.map(|answer| answer.body), Some("done".to_owned()));
    let body = bodies.recv().await.expect("a body");
    let data = body.iter().filter(|byte| **byte == b'x').count();
    assert_eq!(data, long.len() + TINY);
    let count = chunks(&body);
    assert!(count < TINY / 10, "{count} chunks");
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_that_are_there_at_once_reach_the_client_as_few() {
    let stage = Stage::new(BOUNDED).await;
    let app = RawApp::start(|mut conn| async move {
        while conn.request().await.is_some() {
            let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
            conn.say(&(head.to_owned() + &tiny_chunks())).await;
        }
    })
    .await;
    app.granted(&stage, 10);
    for request in [get(HOST, "/case"), crate::client::post(HOST, "/case", "body")] {
        let mut client = stage.client().await;
        client.push(request.as_bytes()).await;
        client.read_head().await;
        let mut all = client.take_unread();
        while !all.ends_with(b"\r\n0\r\n\r\n") {
            let count = client.stream.read_buf(&mut all).await.unwrap();
            assert!(count > 0, "it ended");
        }
        assert_eq!(all.iter().filter(|byte| **byte == b'x').count(), TINY);
        let count = chunks(&all);
        assert!(count < TINY / 10, "{count} chunks");
    }
}

/// RFC 9110 §7.6.1: what `Connection` names is between two neighbours, also behind a body.
#[tokio::test(flavor = "multi_thread")]
async fn f17_trailers_that_connection_names_are_not_passed_on() {
    let trailers = "3\r\nabc\r\n0\r\nX-Hop: 1\r\nX-Sum: 2\r\n\r\n";
    let app = crate::echo::Echo::start(move |_| {
        let head = "HTTP/1.1 200 OK\r\nConnection: x-hop\r\nTransfer-Encoding: chunked\r\n\r\n";
        vec![crate::echo::Step::Send(format!("{head}{trailers}").into_bytes())]
    })
    .await;
    let stage = app.on_stage(BOUNDED, 10).await;
    let mut client = stage.client().await;
    client.push(get(HOST, "/case").as_bytes()).await;
    assert!(client.read_past("X-Sum: 2").await);
    assert!(
        !String::from_utf8_lossy(&client.take_unread()).contains("X-Hop"),
        "of an answer"
    );

    let stage = Stage::new(BOUNDED).await;
    let (send, mut bodies) = tokio::sync::mpsc::unbounded_channel();
    let app = RawApp::start(move |mut conn| {
        let send = send.clone();
        async move {
            let mut all = Vec::new();
            while !all.ends_with(b"X-Sum: 2\r\n\r\n") {
                if conn.stream.read_buf(&mut all).await.is_ok_and(|count| count == 0) {
                    return;
                }
            }
            conn.answer("done", false).await;
            send.send(String::from_utf8_lossy(&all).into_owned()).unwrap();
        }
    })
    .await;
    app.granted(&stage, 10);
    let sent = HEAD.replace("\r\n\r\n", "\r\nConnection: X-Hop\r\n\r\n") + trailers;
    let answer = crate::client::ask(stage.address(), &sent).await;
    assert_eq!(answer.body, "done");
    let got = bodies.recv().await.expect("a request");
    assert!(!got.contains("X-Hop"), "{got}");
}

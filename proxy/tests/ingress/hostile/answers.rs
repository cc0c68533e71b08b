//! Answers that an app begins and does not end: those that may be asked for again come whole, from another sandbox.

use super::BOUNDED;
use crate::client::{PATIENCE, Response, get, post};
use crate::raw::RawApp;
use crate::stage::{HOST, Stage};
use tokio::io::AsyncReadExt;

/// A small answer in its two parts.
const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Length: 20\r\nX-From: mortal\r\n\r\n";
const BODY: &str = "mortal----mortal----";
/// More requests than it takes until one of two sandboxes is asked.
const MANY: usize = 200;

/// A server that dies, with its listener, in the middle of its first answer: after each of these writes.
pub async fn mortal(writes: &'static [&'static str], is_reset: bool) -> RawApp {
    RawApp::start(move |mut conn| async move {
        let Some(request) = conn.request().await else { return };
        conn.log.seen.lock().push(request);
        conn.stop_listening().await;
        for write in writes {
            conn.say(write).await;
        }
        if is_reset {
            conn.reset();
        }
    })
    .await
}

const DEATHS: [&[&str]; 7] = [
    &[],
    &["HTTP/1.1 200 OK\r\nContent-"],
    &[HEAD],
    &[HEAD, "m"],
    &[HEAD, "mortal----"],
    &["HTTP/1.1 200 OK\r\nContent-Length: 20\r\nX-From: mortal\r\n\r\nmortal----"],
    &[HEAD, "mortal----mortal---"],
];

/// Asks for `request` until the one that dies was asked; every answer, also of that time.
pub async fn until_it_dies(stage: &Stage, mortal: &RawApp, request: &str) -> Vec<Option<Response>> {
    let mut answers = Vec::new();
    while mortal.seen().is_empty() {
        assert!(answers.len() < MANY, "it was never asked");
        let mut client = stage.client().await;
        client.push(request.as_bytes()).await;
        answers.push(client.answer().await);
    }
    answers
}

async fn a_death_is_not_seen(request: &str) {
    for writes in DEATHS {
        for is_reset in [false, true] {
            let stage = Stage::new("").await;
            let (well, mortal) = (RawApp::strict().await, mortal(writes, is_reset).await);
            mortal.granted(&stage, 100);
            well.granted(&stage, 100);
            for answer in until_it_dies(&stage, &mortal, request).await {
                let answer = answer.unwrap_or_else(|| panic!("no answer at all after {writes:?}, reset: {is_reset}"));
                let shown = (answer.status, answer.body.as_str(), answer.complete);
                assert_eq!(shown, (200, "/case", true), "after {writes:?}, reset: {is_reset}");
                assert_eq!(answer.header("x-from"), None, "{answer:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f19_a_sandbox_that_dies_within_a_small_answer_is_not_seen_by_a_get() {
    a_death_is_not_seen(&get(HOST, "/case")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f19_a_sandbox_that_dies_within_a_small_answer_is_not_seen_by_options() {
    a_death_is_not_seen(&format!("OPTIONS /case HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f19_a_post_whose_sandbox_dies_is_not_repeated() {
    for writes in DEATHS {
        for is_reset in [false, true] {
            let stage = Stage::new("").await;
            let (well, mortal) = (RawApp::strict().await, mortal(writes, is_reset).await);
            mortal.granted(&stage, 100);
            well.granted(&stage, 100);
            let mut answers = until_it_dies(&stage, &mortal, &post(HOST, "/case", "body")).await;
            let last = answers.pop().expect("it was asked");
            let before = answers.len();
            for answer in answers {
                assert_eq!(answer.map(|answer| answer.body), Some("/case".to_owned()));
            }
            if let Some(answer) = last {
                let is_refusal = answer.status == 502 && answer.error() == "upstream_closed";
                let is_cut = !answer.complete && BODY.starts_with(&answer.body);
                assert!(is_refusal || is_cut, "after {writes:?}: {answer:?}");
            }
            assert_eq!(
                (well.seen().len(), mortal.seen().len()),
                (before, 1),
                "after {writes:?}"
            );
        }
    }
}

/// Says a beginning, waits for the test, and says the end.
async fn halting(beginning: String, end: String) -> RawApp {
    RawApp::start(move |mut conn| {
        let (beginning, end) = (beginning.clone(), end.clone());
        async move {
            while let Some(request) = conn.request().await {
                conn.log.seen.lock().push(request);
                conn.say(&beginning).await;
                conn.wait().await;
                if !conn.say(&end).await {
                    return;
                }
            }
        }
    })
    .await
}

/// A body that takes long is not waited for without end: what is there is passed on.
#[tokio::test(flavor = "multi_thread")]
async fn f19_the_beginning_of_a_small_answer_is_not_held_for_ever() {
    for (said, seen, later) in [
        (HEAD.to_owned(), "\r\n\r\n", BODY),
        (format!("{HEAD}mortal----"), "mortal----", "mortal----"),
    ] {
        for request in [get(HOST, "/case"), post(HOST, "/case", "body")] {
            let stage = Stage::new("").await;
            let app = halting(said.clone(), later.to_owned()).await;
            app.granted(&stage, 100);
            let mut client = stage.client().await;
            client.push(request.as_bytes()).await;
            assert!(client.read_past(seen).await, "nothing while the app takes its time");
            app.log.go.add_permits(1);
            assert!(client.read_past(later).await, "the rest is lost");
            assert_eq!(app.seen().len(), 1);
        }
    }
}

/// What was passed on is not mended with another's answer.
#[tokio::test(flavor = "multi_thread")]
async fn f19_an_answer_that_has_begun_is_never_a_mix_of_two() {
    for is_reset in [false, true] {
        let stage = Stage::new("").await;
        let mortal = RawApp::start(move |mut conn| async move {
            let Some(request) = conn.request().await else { return };
            conn.log.seen.lock().push(request);
            conn.say(HEAD).await;
            conn.wait().await;
            conn.stop_listening().await;
            conn.say("mortal----").await;
            if is_reset {
                conn.reset();
            }
        })
        .await;
        mortal.granted(&stage, 100);
        let mut client = stage.client().await;
        client.push(get(HOST, "/case").as_bytes()).await;
        let arrived = tokio::time::timeout(crate::client::PATIENCE, client.stream.readable());
        arrived.await.expect("the head is not passed on").unwrap();
        let well = RawApp::strict().await;
        well.granted(&stage, 100);
        mortal.log.go.add_permits(1);
        let answer = client.answer().await.expect("its head was passed on");
        assert!(!answer.complete && BODY.starts_with(&answer.body), "{answer:?}");
        client.closed().await;
    }
}

/// What is held back is held for a moment: the beginning is here before the app says more.
#[tokio::test(flavor = "multi_thread")]
async fn f19_streams_and_large_answers_are_passed_on_as_they_come() {
    let large = "y".repeat(100_000);
    for (beginning, end) in [
        (
            "Transfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n",
            "4\r\nlast\r\n0\r\n\r\n".to_owned(),
        ),
        (
            "Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n",
            "4\r\nlast\r\n0\r\n\r\n".to_owned(),
        ),
        ("Content-Length: 100009\r\n\r\nfirst", format!("{large}last")),
    ] {
        for request in [get(HOST, "/case"), post(HOST, "/case", "body")] {
            let stage = Stage::new("").await;
            let app = halting(format!("HTTP/1.1 200 OK\r\n{beginning}"), end.clone()).await;
            app.granted(&stage, 100);
            let mut client = stage.client().await;
            client.push(request.as_bytes()).await;
            println!("the beginning of {request:?}, {beginning:?}");
            assert!(client.read_past("first").await, "{beginning}");
            app.log.go.add_permits(1);
            assert!(client.read_past("last").await, "{beginning}");
            assert_eq!(app.seen().len(), 1, "{beginning}");
        }
    }
}

/// An answer without a length ends with its connection, and begins before that.
#[tokio::test(flavor = "multi_thread")]
async fn f19_an_answer_that_ends_with_its_connection_is_passed_on_as_it_comes() {
    let stage = Stage::new("").await;
    let app = RawApp::start(|mut conn| async move {
        if conn.request().await.is_some() {
            conn.say("HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nfirst")
                .await;
            conn.wait().await;
            conn.say("last").await;
        }
    })
    .await;
    app.granted(&stage, 100);
    let mut client = stage.client().await;
    client.push(get(HOST, "/case").as_bytes()).await;
    assert!(client.read_past("first").await);
    app.log.go.add_permits(1);
    assert!(client.read_past("last").await);
}

/// An answer that has no body is whole with its head, whatever length it names.
#[tokio::test(flavor = "multi_thread")]
async fn f19_an_answer_without_a_body_waits_for_none() {
    for (method, answer) in [
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n"),
        ("HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ("GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 20\r\n\r\n"),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ] {
        let stage = Stage::new(BOUNDED).await;
        let app = halting(answer.to_owned(), String::new()).await;
        app.granted(&stage, 100);
        let mut client = stage.client().await;
        // The app says nothing more until the test ends: two answers that came are two that were not waited for.
        for round in 1..=2 {
            let sent = format!("{method} /case HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
            client.push(sent.as_bytes()).await;
            let head = client.read_head().await;
            assert!(head.starts_with(&answer[..12]), "{method}: {head}");
            app.at_point(round).await;
            app.log.go.add_permits(1);
        }
    }
}

/// Small answers in many pieces, and around the size up to which they are kept together, come whole.
#[tokio::test(flavor = "multi_thread")]
async fn f19_answers_in_pieces_come_whole() {
    let stage = Stage::new("").await;
    let app = RawApp::start(|mut conn| async move {
        while let Some(request) = conn.request().await {
            let size: usize = request.path()[1..].parse().unwrap();
            let piece = if size < 1000 { 1 } else { 10_000 };
            conn.say(&format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n"))
                .await;
            let body = "z".repeat(size);
            for piece in body.as_bytes().chunks(piece) {
                tokio::task::yield_now().await;
                conn.say(std::str::from_utf8(piece).unwrap()).await;
            }
        }
    })
    .await;
    app.granted(&stage, 100);
    for size in [1, 2, 300, 65_535, 65_536, 65_537, 1_000_000] {
        let answer = stage.get(&format!("/{size}")).await;
        assert_eq!((answer.status, answer.body.len(), answer.complete), (200, size, true));
    }
}

/// As fast as both sides can, both ways: a byte that arrives while others are being read is not forgotten.
#[tokio::test(flavor = "multi_thread")]
async fn f19_much_passes_fast_in_both_directions() {
    const MUCH: usize = 30_000_000;
    let stage = Stage::new("").await;
    let app = RawApp::start(|mut conn| async move {
        let piece = "z".repeat(100_000);
        while conn.request().await.is_some() {
            conn.say(&format!("HTTP/1.1 200 OK\r\nContent-Length: {MUCH}\r\n\r\n"))
                .await;
            for _ in 0..MUCH / piece.len() {
                conn.say(&piece).await;
            }
        }
    })
    .await;
    app.granted(&stage, 100);
    let much = "x".repeat(MUCH);
    for round in 0..3 {
        for sent in [
            get(HOST, "/much"),
            post(HOST, "/much", &much),
            format!(
                "PUT /much HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n{MUCH:x}\r\n{much}\r\n0\r\n\r\n"
            ),
        ] {
            let mut client = stage.client().await;
            assert!(client.push(sent.as_bytes()).await, "round {round}");
            // Bytes are counted, not looked at: a client that searches its buffer is slow.
            client.read_head().await;
            let mut taken = client.unread();
            let mut buffer = vec![0; 1 << 20];
            while taken < MUCH {
                let read = tokio::time::timeout(PATIENCE, client.stream.read(&mut buffer)).await;
                let count = read.unwrap_or_else(|_| panic!("it hangs after {taken} bytes")).unwrap();
                assert!(count > 0, "it ended after {taken} bytes");
                taken += count;
            }
        }
    }
}

//! Bodies have a pace and an end, and connections a number: what `timeouts.body`, `limits.body_rate` and `limits.connections` hold.

use crate::client::{Client, PATIENCE, ask, get};
use crate::raw::RawApp;
use crate::stage::{HOST, Stage};
use std::time::{Duration, Instant};

/// Only what is tested ends anything.
const OTHERWISE: &str = "timeouts.idle = \"10m\"\ntimeouts.header = \"10m\"\ntimeouts.upstream_first_byte = \"10m\"\n\
    timeouts.wait_for_capacity = \"10m\"";
const LATE: &str = "timeouts.body = \"3s\"\nlimits.body_rate = \"0B\"";
const SLOW: &str = "timeouts.body = \"10m\"\nlimits.body_rate = \"1MiB\"";

async fn stage(settings: &str, capacity: u32) -> (Stage, RawApp) {
    let stage = Stage::new(&format!("{OTHERWISE}\n{settings}")).await;
    let app = RawApp::strict().await;
    app.granted(&stage, capacity);
    (stage, app)
}

/// While its client pauses the app cannot answer: `timeouts.upstream_first_byte` is its own time, not that of who sends.
#[tokio::test(flavor = "multi_thread")]
async fn f12_a_pause_within_a_body_is_not_the_time_of_its_app() {
    let stage = Stage::new(&OTHERWISE.replace("upstream_first_byte = \"10m\"", "upstream_first_byte = \"1s\"")).await;
    let app = RawApp::start(|mut conn| async move {
        while let Some(request) = conn.request().await {
            if request.path() == "/never" {
                return conn.closed().await;
            }
            conn.answer(&request.body.len().to_string(), false).await;
        }
    })
    .await;
    app.granted(&stage, 10);
    for (framing, first, rest) in [
        ("Content-Length: 200000\r\n\r\n", "x".repeat(199_999), "x"),
        (
            "Transfer-Encoding: chunked\r\n\r\n30d40\r\n",
            "x".repeat(199_999),
            "x\r\n0\r\n\r\n",
        ),
    ] {
        let mut pauses = stage.client().await;
        let head = format!("POST /case HTTP/1.1\r\nHost: {HOST}\r\n{framing}{first}");
        pauses.push(head.as_bytes()).await;
        stage.metric_becomes("miren_proxy_requests_in_flight", 1.0).await;
        // Others, each begun after the one before it, show that the time is over, twice.
        for _ in 0..2 {
            let late = ask(stage.address(), &get(HOST, "/never")).await;
            assert_eq!((late.status, late.error()), (504, "upstream_timeout"), "{late:?}");
        }
        pauses.push(rest.as_bytes()).await;
        let answer = pauses.answer().await.expect("it was cut");
        assert_eq!((answer.status, answer.body.as_str()), (200, "200000"), "{answer:?}");
    }
}

/// Sends a byte now and then until there is an answer, which has to say that it took too long.
async fn drips_until_408(mut client: Client, byte: &[u8], what: &str) {
    let begun = Instant::now();
    while tokio::time::timeout(Duration::from_millis(20), client.is_answered())
        .await
        .is_err()
    {
        client.push(byte).await;
        assert!(begun.elapsed() < PATIENCE, "it may go on for ever: {what}");
    }
    let answer = client
        .answer()
        .await
        .unwrap_or_else(|| panic!("closed without a word: {what}"));
    assert_eq!((answer.status, answer.error()), (408, "request_timeout"), "{what}");
    client.closed().await;
}

/// All of them at once: each has a proxy of its own.
async fn drips_are_ended(settings: &'static str) {
    let mut tasks = Vec::new();
    for method in ["POST", "PUT"] {
        for (framing, byte) in [
            ("Content-Length: 60000\r\n\r\n", &b"x"[..]),
            ("Content-Length: 100000000\r\n\r\n", b"x"),
            ("Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
            ("Transfer-Encoding: chunked\r\n\r\nfffff\r\n", b"x"),
            ("Transfer-Encoding: chunked\r\n\r\n1;", b"x"),
            ("Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X: 1\r\n"),
        ] {
            let head = format!("{method} /case HTTP/1.1\r\nHost: {HOST}\r\n{framing}");
            tasks.push(tokio::spawn(a_drip_is_ended(settings, head, byte)));
        }
    }
    crate::stage::all(tasks).await;
}

async fn a_drip_is_ended(settings: &'static str, head: String, byte: &'static [u8]) {
    let (stage, app) = stage(settings, 1).await;
    let mut client = stage.client().await;
    client.push(head.as_bytes()).await;
    drips_until_408(client, byte, &head).await;
    assert_eq!(stage.get("/other").await.body, "/other", "{head}");
    assert_eq!(app.paths(), ["/other"], "{head}");
}

#[tokio::test(flavor = "multi_thread")]
async fn f12_a_body_that_takes_too_long_in_all_is_408() {
    drips_are_ended(LATE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f12_a_body_below_the_least_rate_is_408() {
    drips_are_ended(SLOW).await;
}

/// Beside many that have begun large bodies, so that some of them hold permits, others are served when their time is over.
#[tokio::test(flavor = "multi_thread")]
async fn f12_an_app_with_room_for_one_outlasts_a_crowd_of_large_bodies_that_stop() {
    for framing in [
        "Content-Length: 10000000\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n989680\r\n",
    ] {
        let (stage, app) = stage(LATE, 1).await;
        let mut crowd = Vec::new();
        let sent = format!(
            "POST /case HTTP/1.1\r\nHost: {HOST}\r\n{framing}{}",
            "x".repeat(100_000)
        );
        for _ in 0..200 {
            let mut client = stage.client().await;
            let sent = sent.clone();
            // A proxy that has no room for it need not take it.
            crowd.push(tokio::spawn(async move {
                client.push(sent.as_bytes()).await;
                client.closed().await;
            }));
        }
        let answer = stage.get("/other").await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "/other"));
        crate::stage::all(crowd).await;
        assert_eq!(app.paths(), ["/other"]);
    }
}

/// Who sends as fast as it is let is not slow: the time that an app takes to read is not its client's.
#[tokio::test(flavor = "multi_thread")]
async fn f12_an_app_that_reads_slowly_does_not_make_its_client_slow() {
    let stage = Stage::new(&format!("{OTHERWISE}\n{SLOW}")).await;
    let app = RawApp::start(|mut conn| async move {
        let Some(head) = conn.head().await else { return };
        if head.starts_with("POST /large") {
            conn.wait().await;
        }
        if conn.bytes(50_000_000).await.is_some() {
            conn.answer("read", false).await;
        }
    })
    .await;
    app.granted(&stage, 10);
    let mut large = stage.client().await;
    let sent = format!(
        "POST /large HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 50000000\r\n\r\n{}",
        "x".repeat(50_000_000)
    );
    let large = tokio::spawn(async move {
        large.push(sent.as_bytes()).await;
        large.answer().await
    });
    app.at_point(1).await;
    // One that is slow by itself, and began later, shows that the time has passed.
    let mut slow = stage.client().await;
    slow.push(format!("POST /slow HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 60000\r\n\r\n").as_bytes())
        .await;
    drips_until_408(slow, b"x", "slow").await;
    app.log.go.add_permits(1);
    let answer = large.await.unwrap().expect("an answer");
    assert_eq!((answer.status, answer.body.as_str()), (200, "read"));
}

/// Answers with the path; `/hold` once it is told to.
async fn holding() -> RawApp {
    RawApp::start(|mut conn| async move {
        while let Some(request) = conn.request().await {
            let path = request.path().to_owned();
            if path == "/hold" {
                conn.wait().await;
            }
            conn.answer(&path, false).await;
        }
    })
    .await
}

/// The time a request waits for room is not the time of its body, which has come.
#[tokio::test(flavor = "multi_thread")]
async fn f12_waiting_for_room_is_not_sending_slowly() {
    let stage = Stage::new(&format!("{OTHERWISE}\n{LATE}")).await;
    let app = holding().await;
    app.granted(&stage, 1);
    let mut holder = stage.client().await;
    holder.push(get(HOST, "/hold").as_bytes()).await;
    app.at_point(1).await;
    let mut waiting = stage.client().await;
    let sent = format!("POST /small HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 5\r\n\r\nwhole");
    waiting.push(sent.as_bytes()).await;
    // One that began later and is too slow shows that the time has passed.
    let mut slow = stage.client().await;
    slow.push(format!("POST /slow HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 60000\r\n\r\n").as_bytes())
        .await;
    drips_until_408(slow, b"x", "slow").await;
    app.log.go.add_permits(1);
    assert_eq!(
        holder.answer().await.map(|answer| answer.body),
        Some("/hold".to_owned())
    );
    assert_eq!(
        waiting.answer().await.map(|answer| answer.body),
        Some("/small".to_owned())
    );
}

/// When there is no room for another connection, the one that has been silent longest makes it.
#[tokio::test(flavor = "multi_thread")]
async fn f13_beyond_the_cap_the_oldest_silent_connection_makes_room() {
    let (stage, _app) = stage("limits.connections = 50\nlimits.connections_per_ip = 0", 10).await;
    let mut oldest = stage.client().await;
    let mut clients = Vec::new();
    for _ in 0..300 {
        clients.push(stage.client().await);
    }
    for _ in 0..5 {
        let answer = ask(stage.address(), &get(HOST, "/other")).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "/other"));
    }
    oldest.closed().await;
    let open = stage.metric("miren_proxy_open_connections").await;
    assert!(open <= 50.0, "{open} connections are open");
    let admin = stage.proxy.addresses.admin;
    assert_eq!(ask(admin, &get("localhost", "/readyz")).await.status, 200);
    drop(clients);
}

/// Nobody who is being served is closed for somebody new.
#[tokio::test(flavor = "multi_thread")]
async fn f13_a_connection_in_use_is_not_closed_for_another() {
    let stage = Stage::new(&format!(
        "{OTHERWISE}\nlimits.connections = 20\nlimits.connections_per_ip = 0"
    ))
    .await;
    let app = holding().await;
    app.granted(&stage, 100);
    let mut busy = stage.client().await;
    busy.push(get(HOST, "/hold").as_bytes()).await;
    app.at_point(1).await;
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(stage.client().await);
    }
    assert_eq!(ask(stage.address(), &get(HOST, "/other")).await.body, "/other");
    app.log.go.add_permits(1);
    assert_eq!(busy.answer().await.map(|answer| answer.body), Some("/hold".to_owned()));
}

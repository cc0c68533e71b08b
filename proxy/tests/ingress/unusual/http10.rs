//! G9: what clients of HTTP/1.0 get of apps that speak HTTP/1.1, and clients of HTTP/1.1 of apps that do not.

use super::{ROOM, plain, serves_on};
use crate::client::PATIENCE;
use crate::echo::{Asked, Echo, Step, chunked, text};
use crate::stage::{HOST, Stage};
use crate::wire::{Answer, Wire, exchange};
use std::process::Output;
use tokio::process::Command;

fn of_1_0(line: &str, more: &str) -> String {
    format!("{line} HTTP/1.0\r\nHost: {HOST}\r\n{more}\r\n")
}

fn of_1_1(line: &str) -> String {
    format!("{line} HTTP/1.1\r\nHost: {HOST}\r\n\r\n")
}

fn head(text: &str) -> Step {
    Step::Send(text.as_bytes().to_vec())
}

/// Answers as servers write them, by target.
fn in_many_ways(asked: &Asked) -> Vec<Step> {
    match asked.target() {
        b"/length" => vec![Step::Send(text("hello world"))],
        b"/chunked" => vec![Step::Send(chunked(&["hello", " ", "world"]))],
        b"/trailer" => vec![head(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\nB;a=b\r\nhello world\r\n0\r\nX-Sum: 1\r\n\r\n",
        )],
        b"/close" => vec![head("HTTP/1.1 200 OK\r\n\r\nhello world"), Step::Close],
        b"/close/1.0" => vec![
            head("HTTP/1.0 200 OK\r\nConnection: close\r\n\r\nhello world"),
            Step::Close,
        ],
        b"/length/1.0" => vec![
            head("HTTP/1.0 200 OK\r\nContent-Length: 11\r\n\r\nhello world"),
            Step::Close,
        ],
        b"/early" => vec![
            head("HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n"),
            head("HTTP/1.1 102 Processing\r\n\r\n"),
            Step::Send(text("hello world")),
        ],
        b"/204" => vec![head("HTTP/1.1 204 No Content\r\n\r\n")],
        b"/304" => vec![head("HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n")],
        b"/head" => vec![head("HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n")],
        b"/head/chunked" => vec![head("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")],
        _ => vec![Step::Send(text("canary"))],
    }
}

const IN_MANY_WAYS: [&str; 7] = [
    "/length",
    "/chunked",
    "/trailer",
    "/close",
    "/close/1.0",
    "/length/1.0",
    "/early",
];

async fn many_ways() -> (Echo, Stage) {
    let app = Echo::start(in_many_ways).await;
    let stage = app.on_stage("", ROOM).await;
    (app, stage)
}

fn says(answer: &Answer, name: &str, token: &str) -> bool {
    let values = answer.values(name);
    let text = String::from_utf8_lossy(&values.join(&b","[..])).to_ascii_lowercase();
    text.split(',').any(|part| part.trim() == token)
}

#[tokio::test(flavor = "multi_thread")]
async fn g9_a_client_of_http_1_0_gets_no_chunk_sizes_and_an_end() {
    let (app, stage) = many_ways().await;
    let mut wrong = Vec::new();
    for target in IN_MANY_WAYS {
        let mut wire = Wire::connect(stage.address()).await;
        wire.send(of_1_0(&format!("GET {target}"), "")).await;
        let answer = wire.answer().await.expect(target);
        let codings = answer.values("transfer-encoding").len();
        if (answer.tell().as_str(), codings) != ("200 hello world", 0) {
            wrong.push(format!("{target}: {}", answer.head.escape_ascii()));
        }
        // It did not ask for more, so the connection ends.
        let (more, ended) = wire.rest().await;
        assert!(more.is_empty() && ended, "{target}: {}", more.escape_ascii());
        assert_eq!(
            app.last().line(),
            format!("GET {target} HTTP/1.1").as_bytes(),
            "what the proxy speaks"
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn g9_a_client_of_http_1_1_gets_one_length_or_chunks_and_keeps_its_connection() {
    let (_app, stage) = many_ways().await;
    let mut wire = Wire::connect(stage.address()).await;
    let mut wrong = Vec::new();
    let whole = IN_MANY_WAYS.map(|target| (target, "200 hello world"));
    for (target, wanted) in whole
        .into_iter()
        .chain([("/204", "204"), ("/304", "304"), ("/length", whole[0].1)])
    {
        wire.send(of_1_1(&format!("GET {target}"))).await;
        let mut answer = wire.answer().await.expect(target);
        while answer.status() < 200 {
            answer = wire.answer().await.expect(target);
        }
        let closes = says(&answer, "connection", "close");
        if (answer.tell().as_str(), closes) != (wanted, false) {
            wrong.push(format!("{target}: {}", answer.head.escape_ascii()));
            wire = Wire::connect(stage.address()).await;
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn g9_words_before_an_answer_reach_clients_that_know_them_and_no_others() {
    let (_app, stage) = many_ways().await;
    let mut wire = Wire::connect(stage.address()).await;
    wire.send(of_1_1("GET /early")).await;
    let first = wire.answer().await.unwrap();
    assert_eq!(
        (first.status(), first.values("link").concat().as_slice()),
        (103, &b"</a.css>; rel=preload"[..])
    );
    assert_eq!(wire.answer().await.unwrap().status(), 102);
    assert_eq!(wire.tell().await, "200 hello world");
    let kept = of_1_0("GET /early", "Connection: keep-alive\r\n");
    for request in [of_1_0("GET /early", ""), kept] {
        assert_eq!(exchange(stage.address(), request).await.unwrap().status(), 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn g9_a_client_that_waits_for_a_word_before_its_body_gets_it_unless_it_is_of_http_1_0() {
    let (app, stage) = plain("").await;
    let head = |version: &str| {
        format!("POST / HTTP/{version}\r\nHost: {HOST}\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
    };
    let mut wire = Wire::connect(stage.address()).await;
    wire.send(head("1.1")).await;
    assert_eq!(wire.answer().await.unwrap().status(), 100);
    wire.send("body").await;
    let mut last = wire.answer().await.unwrap();
    while last.status() == 100 {
        last = wire.answer().await.unwrap();
    }
    assert_eq!(last.tell(), "200 / body");
    let mut wire = Wire::connect(stage.address()).await;
    wire.send(head("1.0") + "body").await;
    assert_eq!(wire.tell().await, "200 / body");
    assert_eq!(app.requests(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn g9_a_client_of_http_1_0_that_asks_for_it_keeps_its_connection() {
    let (_app, stage) = many_ways().await;
    for asks in [
        "Connection: Keep-Alive",
        "connection: keep-alive",
        "Connection: x, KEEP-ALIVE",
    ] {
        let mut wire = Wire::connect(stage.address()).await;
        for (method, target, wanted) in [
            ("GET", "/length", "200 hello world"),
            ("POST", "/length", "200 hello world"),
            ("HEAD", "/head", "200"),
            ("GET", "/204", "204"),
            ("GET", "/304", "304"),
            ("GET", "/early", "200 hello world"),
            ("GET", "/length/1.0", "200 hello world"),
        ] {
            let (length, body) = if method == "POST" {
                ("Content-Length: 4\r\n", "body")
            } else {
                ("", "")
            };
            let more = format!("{asks}\r\n{length}");
            wire.send(of_1_0(&format!("{method} {target}"), &more) + body).await;
            let answer = wire.answer_to(method).await;
            let answer = answer.unwrap_or_else(|| panic!("{asks}, {target}: closed"));
            assert_eq!(answer.tell(), wanted, "{asks}, {target}");
            assert!(
                says(&answer, "connection", "keep-alive"),
                "{}",
                answer.head.escape_ascii()
            );
        }
        // It may change its mind.
        wire.send(of_1_0("GET /length", "")).await;
        assert_eq!(wire.tell().await, "200 hello world");
        assert_eq!(wire.rest().await, (Vec::new(), true));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn g9_a_client_of_http_1_0_that_does_not_clearly_ask_for_it_keeps_nothing() {
    let (_app, stage) = many_ways().await;
    for says in [
        "Connection: close",
        "Connection: keep-alive, close",
        "Connection: close\r\nConnection: keep-alive",
        "Connection: keep-alives",
        "Keep-Alive: timeout=5",
        "Proxy-Connection: keep-alive",
    ] {
        let mut wire = Wire::connect(stage.address()).await;
        wire.send(of_1_0("GET /length", &format!("{says}\r\n"))).await;
        assert_eq!(wire.tell().await, "200 hello world", "{says}");
        assert_eq!(wire.rest().await, (Vec::new(), true), "{says}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn g9_what_a_client_of_http_1_0_asks_to_keep_ends_where_only_that_tells_the_length() {
    let (_app, stage) = many_ways().await;
    for target in ["/chunked", "/trailer", "/close", "/close/1.0"] {
        let mut wire = Wire::connect(stage.address()).await;
        wire.send(of_1_0(&format!("GET {target}"), "Connection: keep-alive\r\n"))
            .await;
        let answer = wire.answer().await.expect(target);
        assert_eq!(answer.tell(), "200 hello world", "{target}");
        let has_length = !answer.values("content-length").is_empty();
        assert_eq!(
            says(&answer, "connection", "keep-alive"),
            has_length,
            "{}",
            answer.head.escape_ascii()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn g9_a_head_request_of_http_1_0_gets_no_word_of_chunks() {
    let (_app, stage) = many_ways().await;
    for target in ["/head", "/head/chunked"] {
        let mut wire = Wire::connect(stage.address()).await;
        wire.send(of_1_0(&format!("HEAD {target}"), "")).await;
        let answer = wire.answer_to("HEAD").await.expect(target);
        assert_eq!(
            (answer.status(), answer.values("transfer-encoding").len()),
            (200, 0),
            "{target}"
        );
        assert_eq!(wire.rest().await, (Vec::new(), true), "{target}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn g9_the_proxys_own_answers_to_http_1_0_end_or_keep_the_connection_as_asked() {
    let (app, stage) = plain("").await;
    let astray = |more: &str| format!("GET / HTTP/1.0\r\nHost: nowhere.example.net\r\n{more}\r\n");
    let mut wire = Wire::connect(stage.address()).await;
    wire.send(astray("")).await;
    assert_eq!(wire.tell().await, "404");
    assert_eq!(wire.rest().await, (Vec::new(), true));
    let mut wire = Wire::connect(stage.address()).await;
    for _ in 0..3 {
        wire.send(astray("Connection: keep-alive\r\n")).await;
        let answer = wire.answer().await.expect("kept");
        assert!(
            says(&answer, "connection", "keep-alive"),
            "{}",
            answer.head.escape_ascii()
        );
    }
    assert_eq!(app.requests(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn g9_an_answer_that_breaks_off_does_not_look_whole_to_anybody() {
    for ends in [Step::Close, Step::Reset] {
        let cut = ends.clone();
        let app = Echo::start(move |asked| match asked.target() {
            b"/canary" => vec![Step::Send(text("/canary"))],
            _ => {
                // More than is held back for anybody, so that the client has some of it when it breaks.
                let many = format!("{:x}\r\n{}\r\n", 1 << 20, "x".repeat(1 << 20));
                let begun = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{many}");
                vec![Step::Send(begun.into_bytes()), Step::Wait, cut.clone()]
            }
        })
        .await;
        let stage = app.on_stage("", ROOM).await;
        for request in [
            of_1_1("GET /"),
            of_1_0("GET /", ""),
            of_1_0("GET /", "Connection: keep-alive\r\n"),
        ] {
            let mut wire = Wire::connect(stage.address()).await;
            wire.send(&request).await;
            wire.arrived(1000).await;
            app.state.go.add_permits(1);
            let answer = wire.answer().await.unwrap();
            assert!(
                !answer.whole,
                "{ends:?}: {request}: {} bytes passed for all",
                answer.body.len()
            );
        }
        serves_on(&stage).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn g9_a_long_answer_without_a_length_arrives_whole_in_both_versions() {
    let app = Echo::start(|asked| match asked.target() {
        b"/chunked" => {
            let piece = "0123456789abcdef".repeat(1000);
            vec![Step::Send(chunked(&[piece.as_str(); 200]))]
        }
        _ => {
            let body = "0123456789abcdef".repeat(200_000);
            vec![head(&format!("HTTP/1.0 200 OK\r\n\r\n{body}")), Step::Close]
        }
    })
    .await;
    let stage = app.on_stage("", ROOM).await;
    for target in ["/chunked", "/close"] {
        for request in [of_1_0(&format!("GET {target}"), ""), of_1_1(&format!("GET {target}"))] {
            let answer = exchange(stage.address(), request).await.unwrap();
            assert!(answer.whole, "{target}");
            assert!(
                answer.body == "0123456789abcdef".repeat(200_000).as_bytes(),
                "{target}: {}",
                answer.body.len()
            );
        }
    }
}

/// What ApacheBench says of 200 requests, four at a time, over HTTP/1.0.
async fn ab(stage: &Stage, more: &[&str], target: &str) -> String {
    let url = format!("http://{}{target}", stage.address());
    let host = format!("Host: {HOST}");
    let mut command = Command::new("ab");
    command.args(["-n", "200", "-c", "4", "-H", &host]).args(more).arg(&url);
    let output = command.kill_on_drop(true).output();
    let output = tokio::time::timeout(PATIENCE, output)
        .await
        .unwrap_or_else(|_| panic!("ab {more:?} {url} does not end"));
    let Output { status, stdout, stderr } = output.expect("ab is of the package apache2-utils");
    let (told, complained) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{target}: {told}{complained}");
    told.into_owned()
}

fn figure(told: &str, name: &str) -> Option<u32> {
    let line = told.lines().find_map(|line| line.strip_prefix(name));
    line.map(|rest| rest.trim().parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn g9_ab_keeps_its_connections_where_it_can_and_is_answered_in_full() {
    let (app, stage) = many_ways().await;
    for (more, target, kept) in [
        (&["-k"][..], "/length", Some(200)),
        (&["-k"], "/chunked", None),
        (&["-k"], "/close", None),
        (&["-k"], "/early", Some(200)),
        (&["-k", "-i"], "/head", Some(200)),
        (&[], "/length", None),
        (&[], "/chunked", None),
    ] {
        let before = app.requests();
        let told = ab(&stage, more, target).await;
        for (name, wanted) in [
            ("Complete requests:", Some(200)),
            ("Failed requests:", Some(0)),
            ("Non-2xx responses:", None),
        ] {
            assert_eq!(figure(&told, name), wanted, "{more:?} {target}: {name}\n{told}");
        }
        if kept.is_some() {
            assert_eq!(figure(&told, "Keep-Alive requests:"), kept, "{target}\n{told}");
        }
        assert_eq!(app.requests(), before + 200, "{more:?} {target}");
    }
}

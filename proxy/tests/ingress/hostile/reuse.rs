//! Whose answer it is: a connection to an app is used again only when nothing of one request can be left on it for the next.

use super::BOUNDED;
use crate::client::{ask, get};
use crate::raw::{Conn, RawApp};
use crate::stage::{HOST, Stage};

const SERVED: &str = "miren_proxy_request_duration_seconds_count";

/// A server that never reads the body of a request and takes what is there for the next one, once the next one is there as
/// well: what it answers to a body comes when somebody waits for an answer.
async fn deaf_and_slow() -> RawApp {
    RawApp::start(|mut conn| async move {
        while let Some(head) = conn.head().await {
            conn.note(&head);
            let path = head.split(' ').nth(1).unwrap_or("/none").to_owned();
            if !conn.answer(&path, head.starts_with("HEAD ")).await {
                return;
            }
            if path == "/case" && conn.holds("GET /one ").await.is_none() {
                return;
            }
        }
    })
    .await
}

/// As Python's http.server: it never reads the body of a request, and takes what is there for the next one.
async fn deaf() -> RawApp {
    RawApp::start(|mut conn| async move {
        while let Some(head) = conn.head().await {
            conn.note(&head);
            let path = head.split(' ').nth(1).unwrap_or("/none").to_owned();
            if !conn.answer(&path, head.starts_with("HEAD ")).await {
                return;
            }
        }
    })
    .await
}

/// Somebody else asks several times, and gets their own answers.
async fn others_get_their_own(stage: &Stage, what: &str) {
    for path in ["/one", "/two", "/three"] {
        let answer = stage.get(path).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, path), "after {what:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f15_a_body_that_an_app_does_not_read_is_not_the_next_request() {
    let hidden = get(HOST, "/hidden");
    let framings = [
        format!("Content-Length: {}\r\n\r\n{hidden}", hidden.len()),
        format!(
            "Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{hidden}\r\n0\r\n\r\n",
            hidden.len()
        ),
    ];
    for method in ["GET", "HEAD", "DELETE", "OPTIONS"] {
        for framing in &framings {
            let stage = Stage::new(BOUNDED).await;
            let app = deaf_and_slow().await;
            app.granted(&stage, 100);
            let mut client = stage.client().await;
            let sent = format!("{method} /case HTTP/1.1\r\nHost: {HOST}\r\n{framing}");
            client.push(sent.as_bytes()).await;
            assert!(client.read_head().await.starts_with("HTTP/1.1 200"), "{sent}");
            // Whatever is kept is kept by now.
            stage.metric_reaches(SERVED, 1.0).await;
            others_get_their_own(&stage, &sent).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f15_bodies_that_are_not_read_are_no_requests_also_while_many_ask() {
    let stage = Stage::new(BOUNDED).await;
    let app = deaf().await;
    app.granted(&stage, 100);
    let hidden = get(HOST, "/hidden");
    let tasks = (0..16).map(|number| {
        let (address, hidden) = (stage.address(), hidden.clone());
        tokio::spawn(async move {
            for round in 0..20 {
                let path = format!("/{number}-{round}");
                let length = hidden.len();
                let body = format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {length}\r\n\r\n{hidden}");
                let sent = if round % 2 == 0 { body } else { get(HOST, &path) };
                assert_eq!(ask(address, &sent).await.body, path);
            }
        })
    });
    crate::stage::all(tasks.collect()).await;
}

/// The length of nothing is not a body: it costs no connection.
#[tokio::test(flavor = "multi_thread")]
async fn f15_a_length_of_zero_does_not_end_the_connection_to_the_app() {
    let stage = Stage::new(BOUNDED).await;
    let app = deaf().await;
    app.granted(&stage, 100);
    for (done, method) in ["GET", "HEAD", "DELETE", "POST", "GET"].into_iter().enumerate() {
        let mut client = stage.client().await;
        let sent = format!("{method} /case HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 0\r\n\r\n");
        client.push(sent.as_bytes()).await;
        assert!(client.read_head().await.starts_with("HTTP/1.1 200"), "{sent}");
        stage.metric_reaches(SERVED, (done + 1) as f64).await;
    }
    assert_eq!(app.connections(), 1);
}

/// An app that answers as soon as it has seen a head, and reads on as if the body were requests.
async fn hasty() -> RawApp {
    RawApp::start(|mut conn| async move {
        while let Some(head) = conn.head().await {
            conn.note(&head);
            let path = head.split(' ').nth(1).unwrap_or("/none").to_owned();
            let said = match path.as_str() {
                "/large" => {
                    conn.say("HTTP/1.1 413 Content Too Large\r\nContent-Length: 5\r\n\r\nlarge")
                        .await
                }
                _ => conn.answer(&path, false).await,
            };
            if !said || path == "/large" && conn.holds("GET /one ").await.is_none() {
                return;
            }
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn f15_a_connection_whose_answer_came_before_the_body_was_sent_is_not_used_again() {
    let rest = get(HOST, "/hidden").repeat(20_000);
    let some = "x".repeat(200_000);
    let whole = some.len() + rest.len();
    for method in ["POST", "PUT", "PATCH"] {
        for framing in [
            format!("Content-Length: {whole}\r\n\r\n{some}"),
            format!("Transfer-Encoding: chunked\r\n\r\n{whole:x}\r\n{some}"),
        ] {
            let stage = Stage::new(BOUNDED).await;
            let app = hasty().await;
            app.granted(&stage, 100);
            let mut client = stage.client().await;
            let sent = format!("{method} /large HTTP/1.1\r\nHost: {HOST}\r\n{framing}");
            client.push(sent.as_bytes()).await;
            let answer = client.answer().await.expect("the app's answer");
            assert_eq!((answer.status, answer.body.as_str()), (413, "large"));
            stage.metric_reaches(SERVED, 1.0).await;
            others_get_their_own(&stage, method).await;
            // The rest of the body is not a request on its own connection either.
            client.push(rest.as_bytes()).await;
            others_get_their_own(&stage, method).await;
            let answered = client.answer().await;
            assert!(answered.is_none(), "the body was answered: {answered:?}");
        }
    }
}

/// What an app says beyond its answer to `/case`: with it, or once nobody asks any more.
struct Surplus {
    answer: &'static str,
    beyond: &'static str,
    is_late: bool,
}

async fn talkative(surplus: Surplus) -> RawApp {
    let surplus = std::sync::Arc::new(surplus);
    RawApp::start(move |conn| talk(conn, surplus.clone())).await
}

async fn talk(mut conn: Conn, surplus: std::sync::Arc<Surplus>) {
    while let Some(request) = conn.request().await {
        let path = request.path().to_owned();
        if path != "/case" {
            conn.answer(&path, false).await;
        } else if surplus.is_late {
            conn.say(surplus.answer).await;
            conn.wait().await;
            conn.say(surplus.beyond).await;
            conn.wait().await;
        } else {
            conn.say(&format!("{}{}", surplus.answer, surplus.beyond)).await;
        }
    }
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const FORGED: &str = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged";

#[tokio::test(flavor = "multi_thread")]
async fn f15_what_an_app_says_beyond_its_answer_is_nobodys() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
    for (method, answer, beyond) in [
        ("GET", OK, "surplus"),
        ("GET", OK, "\r\n"),
        ("GET", OK, FORGED),
        ("POST", OK, FORGED),
        ("GET", chunked, FORGED),
        ("GET", chunked, "surplus"),
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 42\r\n\r\n", FORGED),
        (
            "HEAD",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "2\r\nok\r\n0\r\n\r\n",
        ),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n", FORGED),
        ("GET", "HTTP/1.1 204 No Content\r\nContent-Length: 42\r\n\r\n", FORGED),
        ("GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 42\r\n\r\n", FORGED),
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", FORGED),
    ] {
        let what = format!("{method} {answer}{beyond}");
        let stage = Stage::new(BOUNDED).await;
        let app = talkative(Surplus {
            answer,
            beyond,
            is_late: false,
        })
        .await;
        app.granted(&stage, 100);
        let mut client = stage.client().await;
        let sent = format!("{method} /case HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n");
        let length = if method == "POST" { "Content-Length: 0\r\n" } else { "" };
        client.push(format!("{sent}{length}\r\n").as_bytes()).await;
        let mut said = Vec::new();
        tokio::io::AsyncReadExt::read_to_end(&mut client.stream, &mut said)
            .await
            .unwrap();
        let said = String::from_utf8(said).unwrap();
        assert!(
            !said.contains("forged") && !said.contains("surplus"),
            "{what:?}: {said:?}"
        );
        stage.metric_reaches(SERVED, 1.0).await;
        others_get_their_own(&stage, &what).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f15_what_an_app_says_unasked_is_nobodys_answer() {
    for beyond in [
        FORGED,
        "surplus",
        "\r\n",
        "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\n",
    ] {
        let stage = Stage::new(BOUNDED).await;
        let app = talkative(Surplus {
            answer: OK,
            beyond,
            is_late: true,
        })
        .await;
        app.granted(&stage, 100);
        assert_eq!(stage.get("/case").await.body, "ok");
        stage.metric_reaches(SERVED, 1.0).await;
        app.at_point(1).await;
        app.log.go.add_permits(1);
        app.at_point(2).await;
        others_get_their_own(&stage, beyond).await;
    }
}

/// An app that reads its bodies gets them whole, whatever the method is.
#[tokio::test(flavor = "multi_thread")]
async fn f15_a_body_reaches_an_app_that_reads_it_whatever_the_method() {
    let stage = Stage::new(BOUNDED).await;
    let app = RawApp::strict().await;
    app.granted(&stage, 100);
    for method in ["GET", "DELETE", "OPTIONS", "POST", "REPORT"] {
        for framing in [
            "Content-Length: 3\r\n\r\nabc",
            "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        ] {
            let answer = ask(
                stage.address(),
                &format!("{method} /case HTTP/1.1\r\nHost: {HOST}\r\n{framing}"),
            )
            .await;
            assert_eq!(
                (answer.status, answer.body.as_str()),
                (200, "/case"),
                "{method} {framing}"
            );
            assert_eq!(app.seen().pop().unwrap().body, b"abc", "{method} {framing}");
        }
    }
}

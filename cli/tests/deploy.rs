//! `miren deploy` and friends, in process, against a small server on a Unix socket.

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path as UrlPath, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use axum::response::sse::{Event, Sse};
use axum::routing::{get, post};
use clap::Parser;
use miren_cli::args::{Arguments, Format};
use miren_cli::console::Console;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};

/// What the server does with a deploy, and what it has seen.
#[derive(Clone)]
struct Fake {
    ends_as: &'static str,
    urls: Vec<&'static str>,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    files: BTreeSet<String>,
    request: Value,
    key: String,
    /// `Last-Event-ID` of each connection to the event stream.
    streams: Vec<Option<String>>,
}

impl Fake {
    fn deploy(&self, status: &str, steps: &[Value]) -> Value {
        json!({
            "id": "dep-1", "app": "shop", "version": "shop-v1", "seq": 1, "status": status, "pool": "pool-1",
            "reused": false, "urls": self.urls, "started_at": "2026-01-02T03:04:05Z", "finished_at": null,
            "error": if status == "FAILED" { json!("exited with code 1\nlast words") } else { Value::Null },
            "steps": steps,
        })
    }

    fn steps(&self) -> Vec<Value> {
        ["STAGING", "STARTING", "SWITCHING", self.ends_as]
            .map(|status| json!({"status": status, "at": "2026-01-02T03:04:05Z", "message": format!("now {status}")}))
            .into()
    }
}

async fn upload(State(fake): State<Fake>, body: Bytes) -> impl IntoResponse {
    let mut archive = tar::Archive::new(body.as_ref());
    let names = archive
        .entries()
        .unwrap()
        .map(|entry| entry.unwrap().path().unwrap().display().to_string());
    fake.seen.lock().unwrap().files = names.collect();
    axum::Json(json!({"digest": "sha256:abc", "files": 2, "bytes": body.len()}))
}

async fn accept(State(fake): State<Fake>, headers: HeaderMap, body: Bytes) -> impl IntoResponse {
    let mut seen = fake.seen.lock().unwrap();
    seen.request = serde_json::from_slice(&body).unwrap();
    seen.key = headers["idempotency-key"].to_str().unwrap().to_owned();
    axum::Json(fake.deploy("ACCEPTED", &[]))
}

/// Breaks off after the second of four states; whoever resumes gets the rest. Each event is the whole deploy.
async fn events(State(fake): State<Fake>, headers: HeaderMap) -> impl IntoResponse {
    let last = headers.get("last-event-id").map(|id| id.to_str().unwrap().to_owned());
    fake.seen.lock().unwrap().streams.push(last.clone());
    let steps = fake.steps();
    let states = match last {
        None => 1..3,
        Some(id) => id.parse::<usize>().unwrap() + 1..steps.len() + 1,
    };
    let events: Vec<_> = states
        .map(|count| {
            let status = steps[count - 1]["status"].as_str().unwrap();
            let data = fake.deploy(status, &steps[..count]).to_string();
            Ok::<_, io::Error>(Event::default().event("deploy").id(count.to_string()).data(data))
        })
        .collect();
    Sse::new(futures_util::stream::iter(events))
}

async fn show(State(fake): State<Fake>) -> impl IntoResponse {
    let finished = fake.seen.lock().unwrap().streams.len() > 1;
    let steps = fake.steps();
    axum::Json(if finished {
        fake.deploy(fake.ends_as, &steps)
    } else {
        fake.deploy("STARTING", &steps[..2])
    })
}

async fn no_app(UrlPath(app): UrlPath<String>) -> impl IntoResponse {
    let error =
        json!({"error": {"code": "not_found", "message": format!("no app {app:?}"), "remedy": "miren app list"}});
    (StatusCode::NOT_FOUND, axum::Json(error))
}

/// Serves until the runtime of the test ends.
fn serve(fake: Fake, socket: &Path) {
    let router = Router::new()
        .route("/v1/artifacts", post(upload))
        .route("/v1/apps", get(|| async { axum::Json(json!({"items": []})) }))
        .route("/v1/apps/{app}", get(no_app))
        .route("/v1/apps/{app}/deploys", post(accept))
        .route("/v1/deploys/{id}", get(show))
        .route("/v1/deploys/{id}/events", get(events))
        .with_state(fake);
    let listener = tokio::net::UnixListener::bind(socket).unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
}

fn fake(ends_as: &'static str) -> Fake {
    Fake {
        ends_as,
        urls: vec!["http://shop.example.com"],
        seen: Arc::default(),
    }
}

#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Captured {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Outcome {
    exit: u8,
    out: String,
    err: String,
}

/// Runs `miren LINE` with `--server` set.
async fn miren(line: &str, socket: &Path, format: Format) -> Outcome {
    let server = format!("--server=unix:{}", socket.display());
    let words = ["miren"].into_iter().chain(line.split(' ')).chain([server.as_str()]);
    let arguments = Arguments::try_parse_from(words).unwrap();
    let (out, err) = (Captured::default(), Captured::default());
    let mut console = Console::plain(Box::new(out.clone()), Box::new(err.clone()), format);
    let outcome = miren_cli::run(arguments, &mut console).await;
    let exit = console.conclude(outcome) as u8;
    Outcome {
        exit,
        out: out.text(),
        err: err.text(),
    }
}

fn app() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join(".miren")).unwrap();
    std::fs::write(
        dir.path().join(".miren/app.toml"),
        "name = \"shop\"\n[services.web]\ncommand = \"./serve\"\n",
    )
    .unwrap();
    std::fs::write(dir.path().join("serve"), "#!/bin/sh\n").unwrap();
    dir
}

#[tokio::test]
async fn a_deploy_is_packed_sent_and_followed_over_a_broken_stream() {
    let dir = app();
    let socket = dir
        .path()
        .parent()
        .unwrap()
        .join(format!("{}.sock", dir.path().file_name().unwrap().display()));
    let fake = fake("SUCCEEDED");
    serve(fake.clone(), &socket);
    let outcome = miren(
        &format!("deploy -d {} -e A=1 -e B=x=y", dir.path().display()),
        &socket,
        Format::Json,
    )
    .await;
    std::fs::remove_file(&socket).unwrap();

    assert_eq!(outcome.exit, 0, "{} {}", outcome.out, outcome.err);
    let mut document: Value = serde_json::from_str(&outcome.out).unwrap();
    assert!(document["duration_ms"].take().is_u64());
    assert_eq!(
        document,
        json!({"app": "shop", "version": "shop-v1", "deploy": "dep-1", "seq": 1, "status": "SUCCEEDED", "pool": "pool-1",
               "reused": false, "urls": ["http://shop.example.com"], "duration_ms": null})
    );
    let seen = fake.seen.lock().unwrap();
    assert_eq!(
        seen.files,
        BTreeSet::from([".miren".into(), ".miren/app.toml".into(), "serve".into()])
    );
    assert_eq!(
        seen.request,
        json!({"artifact": "sha256:abc", "env": {"A": "1", "B": "x=y"}})
    );
    assert_eq!(seen.key.len(), 32);
    assert_eq!(
        seen.streams,
        [None, Some("2".into())],
        "resumed after the last state it had"
    );
    for status in ["STAGING", "STARTING", "SWITCHING", "SUCCEEDED"] {
        assert_eq!(
            outcome.err.matches(&format!("now {status}")).count(),
            1,
            "{}",
            outcome.err
        );
    }
}

#[tokio::test]
async fn a_failed_deploy_says_why_and_exits_with_1() {
    let dir = app();
    let sockets = tempfile::tempdir().unwrap();
    let socket = sockets.path().join("control.sock");
    serve(fake("FAILED"), &socket);
    let line = format!("deploy -d {}", dir.path().display());
    let outcome = miren(&line, &socket, Format::Table).await;
    assert_eq!((outcome.exit, outcome.out.as_str()), (1, ""));
    assert!(
        outcome
            .err
            .contains("error: deploy dep-1 of shop failed: exited with code 1\n  last words"),
        "{}",
        outcome.err
    );
    assert!(outcome.err.contains("try: miren logs -a shop"), "{}", outcome.err);

    let outcome = miren(&line, &socket, Format::Json).await;
    let document: Value = serde_json::from_str(&outcome.out).unwrap();
    assert_eq!((outcome.exit, &document["status"]), (1, &json!("FAILED")));
    assert_eq!(document["error"], "exited with code 1\nlast words");
}

#[tokio::test]
async fn a_superseded_deploy_exits_with_4_and_a_detached_one_at_once() {
    let dir = app();
    let sockets = tempfile::tempdir().unwrap();
    let socket = sockets.path().join("control.sock");
    let fake = fake("SUPERSEDED");
    serve(fake.clone(), &socket);
    let line = format!("deploy -d {}", dir.path().display());
    let detached = miren(&format!("{line} --detach"), &socket, Format::Table).await;
    assert_eq!(detached.exit, 0, "{}", detached.err);
    assert!(fake.seen.lock().unwrap().streams.is_empty());
    assert_eq!(miren(&line, &socket, Format::Table).await.exit, 4);
}

#[tokio::test]
async fn an_app_without_a_route_is_told_how_to_get_one() {
    let dir = app();
    let sockets = tempfile::tempdir().unwrap();
    let socket = sockets.path().join("control.sock");
    let urls = Vec::new();
    serve(
        Fake {
            urls,
            ..fake("SUCCEEDED")
        },
        &socket,
    );
    let outcome = miren(&format!("deploy -d {}", dir.path().display()), &socket, Format::Table).await;
    assert!(
        outcome.err.contains("try: miren route set HOST shop"),
        "{}",
        outcome.err
    );
    assert!(outcome.out.starts_with("Deployed shop as shop-v1"), "{}", outcome.out);
}

#[tokio::test]
async fn nobody_listening_is_5_and_a_bad_app_file_is_found_before_that() {
    let dir = app();
    let nowhere = dir.path().join("nowhere.sock");
    let line = format!("deploy -d {}", dir.path().display());
    let outcome = miren(&line, &nowhere, Format::Json).await;
    let document: Value = serde_json::from_str(&outcome.out).unwrap();
    assert_eq!((outcome.exit, &document["error"]["code"]), (5, &json!("unreachable")));
    assert!(document["error"]["remedy"].as_str().unwrap().contains("miren dev"));

    std::fs::write(dir.path().join(".miren/app.toml"), "nmae = \"shop\"\n").unwrap();
    let outcome = miren(&line, &nowhere, Format::Table).await;
    assert_eq!(outcome.exit, 1);
    assert!(outcome.err.contains("did you mean \"name\""), "{}", outcome.err);
}

#[tokio::test]
async fn what_is_not_there_is_3_and_an_empty_list_is_said_on_stderr() {
    let sockets = tempfile::tempdir().unwrap();
    let socket = sockets.path().join("control.sock");
    serve(fake("SUCCEEDED"), &socket);
    let outcome = miren("app status -a ghost", &socket, Format::Table).await;
    assert_eq!(outcome.exit, 3);
    assert_eq!(
        outcome.err,
        "error: showing app ghost: no app \"ghost\"\n  try: miren app list\n"
    );
    let outcome = miren("app list", &socket, Format::Table).await;
    assert_eq!(
        (outcome.exit, outcome.out.as_str(), outcome.err.as_str()),
        (0, "", "No apps found\n")
    );
    assert_eq!(miren("app list", &socket, Format::Json).await.out, "[]\n");
}

#[tokio::test]
async fn deleting_without_a_terminal_needs_the_flag() {
    if io::IsTerminal::is_terminal(&io::stdin()) {
        // Then there is somebody to ask, which is the other case.
        return;
    }
    let outcome = miren("app delete shop", Path::new("/nowhere.sock"), Format::Table).await;
    assert_eq!(outcome.exit, 2);
    assert!(outcome.err.contains("miren app delete shop -f"), "{}", outcome.err);
}

/// A reader that has gone.
struct Closed;

impl Write for Closed {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_reader_that_has_gone_is_no_error() {
    let arguments = Arguments::try_parse_from(["miren", "completions", "bash"]).unwrap();
    let err = Captured::default();
    let mut console = Console::plain(Box::new(Closed), Box::new(err.clone()), Format::Table);
    let outcome = miren_cli::run(arguments, &mut console).await;
    assert_eq!((console.conclude(outcome) as u8, err.text().as_str()), (0, ""));
}

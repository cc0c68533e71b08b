//! `miren deploy --ephemeral`: what is refused unasked, what is shown on the way, and how it ends.

use super::answers::{preview, refused_unasked};
use super::server::{Outcome, app, miren};
use axum::body::Bytes;
use axum::extract::{Path as UrlPath, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::StreamExt;
use miren_cli::options::Format;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::io;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use tokio::io::AsyncReadExt;
use tokio::sync::Notify;

/// A server that makes previews.
#[derive(Clone)]
struct Maker {
    status: StatusCode,
    answer: Value,
    told: Arc<Told>,
}

#[derive(Default)]
struct Told {
    uploads: Mutex<usize>,
    request: Mutex<Value>,
    /// Of the request, and of each connection to its progress.
    keys: Mutex<[Vec<String>; 2]>,
    /// Everything was said on the way.
    said: Notify,
}

async fn upload(State(maker): State<Maker>, body: Bytes) -> Json<Value> {
    *maker.told.uploads.lock().unwrap() += 1;
    Json(json!({"digest": "sha256:abc", "files": 2, "bytes": body.len()}))
}

async fn make(State(maker): State<Maker>, headers: HeaderMap, body: Bytes) -> Response {
    *maker.told.request.lock().unwrap() = serde_json::from_slice(&body).unwrap();
    let key = headers["idempotency-key"].to_str().unwrap().to_owned();
    maker.told.keys.lock().unwrap()[0].push(key);
    maker.told.said.notified().await;
    (maker.status, Json(maker.answer)).into_response()
}

/// Breaks off after two lines; whoever comes back gets those once more, and the third.
async fn progress(State(maker): State<Maker>, UrlPath(key): UrlPath<String>) -> impl IntoResponse {
    let connections = {
        let mut keys = maker.told.keys.lock().unwrap();
        keys[1].push(key);
        keys[1].len()
    };
    let line = |number: u64| {
        let data = json!({"number": number, "text": format!("step {number}")}).to_string();
        Ok(Event::default().event("output").id(number.to_string()).data(data))
    };
    let mut events: Vec<Result<Event, io::Error>> = vec![line(1), line(2)];
    if connections == 1 {
        events.push(Err(io::ErrorKind::ConnectionReset.into()));
    } else {
        events.push(line(3));
    }
    let ended = futures_util::stream::once(async move {
        if connections > 1 {
            maker.told.said.notify_one();
        }
        Ok(Event::default().comment("over"))
    });
    Sse::new(futures_util::stream::iter(events).chain(ended))
}

impl Maker {
    fn new(status: StatusCode, answer: Value) -> Self {
        Self {
            status,
            answer,
            told: Arc::default(),
        }
    }

    fn serve(&self, socket: &Path) {
        let router = Router::new()
            .route("/v1/artifacts", post(upload))
            .route("/v1/apps/shop/ephemeral", post(make))
            .route("/v1/progress/{key}", get(progress))
            .with_state(self.clone());
        let listener = tokio::net::UnixListener::bind(socket).unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
    }
}

fn made(label: &str) -> Value {
    let mut answer = preview(label, 0);
    answer["replaced"] = json!("shop-v1");
    answer["evicted"] = json!(["pr1"]);
    answer["reused"] = json!(true);
    answer
}

async fn run(maker: &Maker, line: &str, format: Format) -> Outcome {
    let sockets = tempfile::tempdir().unwrap();
    let socket = sockets.path().join("control.sock");
    maker.serve(&socket);
    miren(line, &socket, format).await
}

#[tokio::test]
async fn e1_a_folder_is_sent_watched_over_a_broken_stream_and_told_where_it_is() {
    let dir = app();
    let maker = Maker::new(StatusCode::OK, made("feature-my-branch"));
    let line = format!(
        "deploy -d {} --ephemeral feature/My_Branch --ttl 1h -e A=1",
        dir.path().display()
    );
    let outcome = run(&maker, &line, Format::Json).await;
    assert_eq!(outcome.exit, 0, "{} {}", outcome.out, outcome.err);
    let mut document = outcome.document();
    assert!(document["duration_ms"].take().is_u64());
    assert_eq!(
        document,
        json!({"app": "shop", "version": "shop-v2", "deploy": null, "seq": null, "status": "SUCCEEDED", "pool": "pool-2",
               "reused": true, "urls": ["http://feature-my-branch.shop.example.com:8080"], "duration_ms": null,
               "label": "feature-my-branch", "expires_at": "2999-01-02T03:04:05Z", "replaced": "shop-v1", "evicted": ["pr1"]})
    );
    let request = json!({"label": "feature-my-branch", "ttl": "1h", "artifact": "sha256:abc", "env": {"A": "1"}});
    assert_eq!(*maker.told.request.lock().unwrap(), request);
    let keys = maker.told.keys.lock().unwrap();
    assert_eq!((keys[0].len(), &keys[1]), (1, &vec![keys[0][0].clone(); 2]));
    let first = outcome.err.lines().next().unwrap();
    assert_eq!(first, "Label: feature-my-branch (from \"feature/My_Branch\")");
    for line in [
        "step 1\n",
        "step 2\n",
        "step 3\n",
        "app has only so many previews: pr1\n",
    ] {
        assert_eq!(outcome.err.matches(line).count(), 1, "{line:?} in {}", outcome.err);
    }
}

#[tokio::test]
async fn e7_a_version_is_cloned_without_a_folder_and_each_url_is_printed_once() {
    let maker = Maker::new(StatusCode::OK, made("pr2"));
    let line = "deploy -a shop --ephemeral pr2 --version shop-v1 -e A=1";
    let outcome = run(&maker, line, Format::Table).await;
    assert_eq!(outcome.exit, 0, "{}", outcome.err);
    assert!(
        outcome.out.starts_with("Deployed shop as shop-v2 under pr2 in "),
        "{}",
        outcome.out
    );
    assert!(
        outcome
            .out
            .ends_with("What serves the app is unchanged.\n  http://pr2.shop.example.com:8080\n"),
        "{}",
        outcome.out
    );
    let request = json!({"label": "pr2", "version": "shop-v1", "env": {"A": "1"}});
    assert_eq!(*maker.told.request.lock().unwrap(), request);
    assert_eq!(*maker.told.uploads.lock().unwrap(), 0);
    assert!(!outcome.err.contains("Label:"), "{}", outcome.err);
}

#[tokio::test]
async fn e5_what_cannot_be_a_preview_is_refused_before_anything_is_sent() {
    let dir = app();
    let deploy = format!("deploy -d {}", dir.path().display());
    let long = "a".repeat(64);
    for label in ["", &long, "-x", "a.b", "größe", "*", "';DROP", "$(id)", "a`id`"] {
        refused_unasked(&format!("{deploy} --ephemeral={label}"), "label").await;
    }
    for ttl in ["0", "0s", "-1h", "1ns", "soon"] {
        refused_unasked(&format!("{deploy} --ephemeral pr1 --ttl {ttl}"), "ttl").await;
    }
}

#[tokio::test]
async fn e5_what_the_server_refuses_is_told_in_its_words() {
    for (status, code, exit) in [
        (400, "invalid_value", 2),
        (404, "not_found", 3),
        (409, "conflict", 4),
        (500, "internal", 1),
    ] {
        let error =
            json!({"code": code, "message": "ttl \"10 years\" is more than 30d", "remedy": "less", "field": "ttl"});
        let maker = Maker::new(StatusCode::from_u16(status).unwrap(), json!({ "error": error }));
        let line = "deploy -a shop --version shop-v1 --ephemeral pr1 --ttl 9years";
        let outcome = run(&maker, line, Format::Table).await;
        assert_eq!((outcome.exit, outcome.out.as_str()), (exit, ""), "{code}");
        let said = "error: deploying shop under pr1: ttl \"10 years\" is more than 30d\n  try: less\n";
        assert!(outcome.err.ends_with(said), "{}", outcome.err);
    }
}

#[tokio::test]
async fn e1_whoever_is_cut_off_is_told_where_to_look() {
    let sockets = tempfile::tempdir().unwrap();
    let socket = sockets.path().join("control.sock");
    let listener = tokio::net::UnixListener::bind(&socket).unwrap();
    tokio::spawn(async move {
        // Each request is taken, and never answered.
        while let Ok((mut connection, _)) = listener.accept().await {
            let _ = connection.read(&mut [0; 1024]).await;
        }
    });
    let outcome = miren(
        "deploy -a shop --version shop-v1 --ephemeral pr1",
        &socket,
        Format::Json,
    )
    .await;
    let error = &outcome.document()["error"];
    assert_eq!((outcome.exit, &error["code"]), (1, &json!("broken")));
    assert!(
        error["message"]
            .as_str()
            .unwrap()
            .ends_with("whether it was made is not known"),
        "{error}"
    );
    assert_eq!(error["remedy"], "miren ephemeral list -a shop");
}

#[tokio::test]
async fn e1_whoever_stops_watching_is_told_that_it_goes_on() {
    let sockets = tempfile::tempdir().unwrap();
    let socket = sockets.path().join("control.sock");
    let listener = tokio::net::UnixListener::bind(&socket).unwrap();
    let child = tokio::process::Command::new(env!("CARGO_BIN_EXE_miren"))
        .args(["--server", &format!("unix:{}", socket.display())])
        .args(["deploy", "-a", "shop", "--version", "shop-v1", "--ephemeral", "pr1"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    // Held, so that nothing is answered and nothing breaks.
    let mut held = Vec::new();
    loop {
        let (mut connection, _) = listener.accept().await.unwrap();
        let mut head = [0; 1024];
        let length = connection.read(&mut head).await.unwrap();
        held.push(connection);
        if head[..length].starts_with(b"POST /v1/apps/shop/ephemeral ") {
            break;
        }
    }
    kill(Pid::from_raw(child.id().unwrap().cast_signed()), Signal::SIGINT).unwrap();
    let output = child.wait_with_output().await.unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(130), 0), "{said}");
    let end =
        "error: preview pr1 of shop goes on being made without being watched\n  try: miren ephemeral list -a shop\n";
    assert!(said.ends_with(end), "{said}");
}

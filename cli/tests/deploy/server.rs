//! A small control server on a Unix socket, and `miren` run in process against it.

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path as UrlPath, RawQuery, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use clap::Parser;
use miren_cli::args::Arguments;
use miren_cli::console::Console;
use miren_cli::options::Format;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};

/// What the server does with a deploy, and what it has seen.
#[derive(Clone)]
pub struct Fake {
    pub ends_as: &'static str,
    pub urls: Vec<&'static str>,
    /// What `shop` has.
    pub variables: Value,
    pub seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
pub struct Seen {
    pub uploads: usize,
    /// Of the last upload.
    pub files: BTreeSet<String>,
    /// Path and body of everything that was asked for.
    pub posts: Vec<(String, Value)>,
    /// `Idempotency-Key` of the last one.
    pub key: String,
    /// `Last-Event-ID` of each connection to the event stream.
    pub streams: Vec<Option<String>>,
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
    let mut seen = fake.seen.lock().unwrap();
    seen.files = names.collect();
    seen.uploads += 1;
    axum::Json(json!({"digest": "sha256:abc", "files": 2, "bytes": body.len()}))
}

async fn accept(State(fake): State<Fake>, uri: Uri, headers: HeaderMap, body: Bytes) -> impl IntoResponse {
    let mut seen = fake.seen.lock().unwrap();
    let request = serde_json::from_slice(&body).unwrap();
    seen.posts.push((uri.path().to_owned(), request));
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

/// Three deploys on two pages, oldest first.
async fn deploys(State(fake): State<Fake>, RawQuery(query): RawQuery) -> impl IntoResponse {
    let numbered = |number: u64| {
        let mut deploy = fake.deploy(if number == 2 { "FAILED" } else { "SUCCEEDED" }, &fake.steps());
        deploy["id"] = json!(format!("dep-{number}"));
        deploy["seq"] = json!(number);
        deploy["finished_at"] = json!("2026-01-02T03:04:07.5Z");
        deploy
    };
    axum::Json(match query.as_deref() {
        None => json!({"items": [numbered(1), numbered(2)], "next": "2"}),
        Some("after=2") => json!({"items": [numbered(3)]}),
        Some(other) => panic!("asked for {other}"),
    })
}

/// Only `dep-1` has not moved its traffic.
async fn cancel(State(fake): State<Fake>, UrlPath(id): UrlPath<String>, uri: Uri, body: Bytes) -> Response {
    if id != "dep-1" {
        let error = json!({"error": {"code": "conflict", "message": format!("{id} has moved its traffic")}});
        return (StatusCode::CONFLICT, axum::Json(error)).into_response();
    }
    let request = serde_json::from_slice(&body).unwrap();
    fake.seen.lock().unwrap().posts.push((uri.path().to_owned(), request));
    axum::Json(fake.deploy("FAILED", &[])).into_response()
}

async fn variables(State(fake): State<Fake>, UrlPath(app): UrlPath<String>) -> Response {
    if app != "shop" {
        return no_app(UrlPath(app)).await.into_response();
    }
    axum::Json(json!({"items": fake.variables})).into_response()
}

async fn no_app(UrlPath(app): UrlPath<String>) -> impl IntoResponse {
    let error =
        json!({"error": {"code": "not_found", "message": format!("no app {app:?}"), "remedy": "miren app list"}});
    (StatusCode::NOT_FOUND, axum::Json(error))
}

/// Serves until the runtime of the test ends.
pub fn serve(fake: Fake, socket: &Path) {
    let router = Router::new()
        .route("/v1/artifacts", post(upload))
        .route("/v1/apps", get(|| async { axum::Json(json!({"items": []})) }))
        .route("/v1/apps/{app}", get(no_app))
        .route("/v1/apps/{app}/deploys", post(accept).get(deploys))
        .route("/v1/apps/{app}/rollback", post(accept))
        .route("/v1/apps/{app}/restart", post(accept))
        .route("/v1/apps/{app}/env", get(variables))
        .route("/v1/deploys/{id}", get(show))
        .route("/v1/deploys/{id}/events", get(events))
        .route("/v1/deploys/{id}/cancel", post(cancel))
        .with_state(fake);
    let listener = tokio::net::UnixListener::bind(socket).unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
}

pub fn fake(ends_as: &'static str) -> Fake {
    Fake {
        ends_as,
        urls: vec!["http://shop.example.com"],
        variables: json!([]),
        seen: Arc::default(),
    }
}

#[derive(Clone, Default)]
pub struct Captured(Arc<Mutex<Vec<u8>>>);

impl Captured {
    pub fn text(&self) -> String {
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

pub struct Outcome {
    pub exit: u8,
    pub out: String,
    pub err: String,
}

impl Outcome {
    pub fn document(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {} {}", self.out, self.err))
    }
}

/// Runs `miren LINE` with `--server` set.
pub async fn miren(line: &str, socket: &Path, format: Format) -> Outcome {
    let server = format!("--server=unix:{}", socket.display());
    let words = ["miren"].into_iter().chain(line.split(' ')).chain([server.as_str()]);
    let arguments = Arguments::try_parse_from(words).unwrap();
    let (out, err) = (Captured::default(), Captured::default());
    let mut console = Console::plain(Box::new(out.clone()), Box::new(err.clone()), format);
    let outcome = miren_cli::run(arguments, &mut console).await;
    let exit = console.conclude(outcome).code();
    Outcome {
        exit,
        out: out.text(),
        err: err.text(),
    }
}

/// The folder of an app with the name `shop`.
pub fn app() -> tempfile::TempDir {
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

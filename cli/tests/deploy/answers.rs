//! A control server that answers from a table, and writes down what it was asked.

use super::server::{Outcome, miren};
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use miren_cli::options::Format;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// By method and path; a refusal has `error`, and a stream of events is text.
type Table = BTreeMap<&'static str, Value>;

#[derive(Clone)]
struct Asked {
    table: Arc<Table>,
    /// Method and path, and the body, of everything but reads.
    changes: Arc<Mutex<Vec<(String, Value)>>>,
}

pub struct Answers {
    dir: tempfile::TempDir,
    asked: Asked,
}

impl Answers {
    pub fn of<const N: usize>(table: [(&'static str, Value); N]) -> Self {
        let asked = Asked {
            table: Arc::new(table.into()),
            changes: Arc::default(),
        };
        let dir = tempfile::tempdir().unwrap();
        let router = Router::new().fallback(answer).with_state(asked.clone());
        let listener = tokio::net::UnixListener::bind(dir.path().join("control.sock")).unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { dir, asked }
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("control.sock")
    }

    pub async fn table(&self, line: &str) -> Outcome {
        miren(line, &self.socket(), Format::Table).await
    }

    pub async fn json(&self, line: &str) -> Outcome {
        miren(line, &self.socket(), Format::Json).await
    }

    /// What was asked to be changed since this was called last.
    pub fn changes(&self) -> Vec<(String, Value)> {
        std::mem::take(&mut *self.asked.changes.lock().unwrap())
    }
}

async fn answer(State(asked): State<Asked>, method: Method, uri: Uri, body: Bytes) -> Response {
    let what = format!("{method} {}", uri.path());
    if method != Method::GET {
        let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
        asked.changes.lock().unwrap().push((what.clone(), body));
    }
    match asked.table.get(what.as_str()) {
        Some(refusal) if refusal.get("error").is_some() => {
            (StatusCode::CONFLICT, Json(refusal.clone())).into_response()
        }
        Some(Value::String(events)) => ([("content-type", "text/event-stream")], events.clone()).into_response(),
        Some(answer) => Json(answer.clone()).into_response(),
        None => {
            let error = json!({"error": {"code": "not_found", "message": format!("{what} is not there")}});
            (StatusCode::NOT_FOUND, Json(error)).into_response()
        }
    }
}

/// Asserts on what `miren LINE` does where nobody listens: it fails before that is found out.
pub async fn refused_unasked(line: &str, field: &str) {
    let outcome = miren(line, Path::new("/nowhere/control.sock"), Format::Json).await;
    let error = &outcome.document()["error"];
    assert_eq!(
        (outcome.exit, &error["code"], &error["field"]),
        (2, &json!("invalid_value"), &json!(field)),
        "{line}"
    );
    assert_ne!(error["message"], "", "{line}");
    assert_ne!(error["remedy"], "", "{line}");
}

pub fn preview(label: &str, ready: u32) -> Value {
    json!({
        "app": "shop", "label": label, "version": "shop-v2", "expires_at": "2999-01-02T03:04:05Z",
        "created_at": "2026-01-02T03:04:05Z", "urls": [format!("http://{label}.shop.example.com:8080")],
        "source": null, "pools": ["pool-2"], "ready": ready,
    })
}

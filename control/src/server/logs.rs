//! Decides how the lines that sandboxes wrote are read back.

use super::Server;
use super::extract::Parameters;
use super::page::by_prefix;
use super::refusal::Refusal;
use axum::extract::State;
use axum::response::Sse;
use axum::response::sse::{Event, KeepAlive};
use futures_util::{Stream, StreamExt};
use jiff::Timestamp;
use miren_api::id::SandboxId;
use miren_api::resource::LogLine;
use miren_api::{ApiError, ErrorCode};
use miren_sandbox::logs::LogQuery;
use serde::Deserialize;
use std::convert::Infallible;
use utoipa::IntoParams;

/// Existing lines sent unless another number is asked for.
const LINES: usize = 1_000;
/// Most existing lines sent.
const LINES_MAX: usize = 100_000;

/// Which lines.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Wanted {
    pub app: String,
    /// Only this service's.
    pub service: Option<String>,
    /// Only this sandbox's; the beginning of its id is enough while it is listed.
    pub sandbox: Option<String>,
    /// Only lines from this moment on, RFC 3339.
    pub since: Option<String>,
    /// At most this many of the lines there are, the newest; 1000 when absent.
    pub last: Option<usize>,
    /// Go on with lines as they are written.
    #[serde(default)]
    pub follow: bool,
}

/// Streams log lines, oldest first, as events `line`.
#[utoipa::path(get, path = "/v1/logs", tag = "logs", params(Wanted),
    responses((status = 200, content_type = "text/event-stream", body = LogLine),
        (status = 404, body = miren_api::error::ErrorBody)))]
pub async fn stream(
    State(server): State<Server>,
    Parameters(wanted): Parameters<Wanted>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Refusal> {
    let view = server.apps.get(&wanted.app)?.view.borrow().clone();
    let sandbox = match wanted.sandbox {
        None => None,
        Some(given) => {
            let ids: Vec<SandboxId> = view.sandboxes.iter().map(|sandbox| sandbox.id.clone()).collect();
            Some(by_prefix(ids, |id| id.as_str(), "sandbox", &given)?)
        }
    };
    let lines = server.executor.logs(LogQuery {
        app: view.name.clone(),
        service: wanted.service,
        sandbox,
        since: wanted.since.as_deref().map(parse_time).transpose()?,
        last: wanted.last.unwrap_or(LINES).min(LINES_MAX),
        follow: wanted.follow,
    });
    let events = lines
        .map(|line| match line {
            Ok(line) => Event::default().event("line").json_data(&line),
            Err(error) => Event::default()
                .event("error")
                .json_data(ApiError::new(ErrorCode::Internal, format!("reading the log: {error}"))),
        })
        .filter_map(async |event| event.ok().map(Ok))
        .take_until(server.ending.clone().cancelled_owned());
    Ok(Sse::new(events).keep_alive(KeepAlive::default()))
}

fn parse_time(text: &str) -> Result<Timestamp, ApiError> {
    text.parse().map_err(|why| {
        ApiError::new(ErrorCode::InvalidValue, format!("{text:?} is no time: {why}"))
            .field("since")
            .remedy("write it like 2026-01-31T12:00:00Z")
    })
}

//! Decides how a deploy is followed: its state from the store's own history, and beside it what it says on its way.

use super::Server;
use super::deploys::find;
use super::refusal::Refusal;
use crate::output::Output;
use crate::reads::{DeployState, DeployStates};
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Sse;
use axum::response::sse::{Event, KeepAlive};
use futures_util::{Stream, StreamExt, stream};
use miren_api::deploy::{Deploy, OutputLine};
use std::convert::Infallible;
use std::sync::Arc;

/// Follows a deploy: event `deploy` with the whole resource, now and at each change, the last one final; between them events
/// `output` (`OutputLine`), without an id: after a break they come again from the first line that is kept.
#[utoipa::path(get, path = "/v1/deploys/{id}/events", tag = "deploys",
    params(("id" = String, Path), ("last-event-id" = Option<String>, Header, description = "Id of the last event seen.")),
    responses((status = 200, content_type = "text/event-stream", body = Deploy),
        (status = 404, body = miren_api::error::ErrorBody)))]
pub async fn events(
    State(server): State<Server>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Refusal> {
    let deploy = find(&server, &id).await?;
    let seen = headers
        .get("last-event-id")
        .and_then(|id| id.to_str().ok()?.parse().ok());
    let output = (!deploy.status.is_final()).then(|| server.outputs.open(deploy.id.as_str()));
    let following = Following {
        line: output.as_ref().map_or(0, |output| output.base),
        output,
        states: server.reads.states(&deploy.id, seen.unwrap_or(0)),
        state: None,
        ended: false,
    };
    let events = stream::unfold(following, Following::next);
    let until_end = events.take_until(server.ending.clone().cancelled_owned());
    Ok(Sse::new(until_end).keep_alive(KeepAlive::default()))
}

/// A deploy being followed.
struct Following {
    states: DeployStates,
    /// Absent if it had ended before.
    output: Option<Arc<Output>>,
    /// Number of the last line sent.
    line: u64,
    /// Seen, to be sent after the lines that came before it.
    state: Option<DeployState>,
    ended: bool,
}

impl Following {
    async fn next(mut self) -> Option<(Result<Event, Infallible>, Self)> {
        loop {
            if let Some(line) = self.output.as_ref().and_then(|output| output.after(self.line)) {
                let line = after(self.line, line);
                self.line = line.number;
                let event = Event::default().event("output").json_data(&line).ok()?;
                return Some((Ok(event), self));
            }
            if let Some(DeployState { revision, deploy }) = self.state.take() {
                self.ended = deploy.status.is_final();
                let event = Event::default().event("deploy").id(revision.to_string());
                return Some((Ok(event.json_data(&deploy).ok()?), self));
            }
            if self.ended {
                return None;
            }
            let output = self.output.clone();
            let line = async {
                match &output {
                    Some(output) => output.beyond(self.line).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = line => {}
                state = self.states.next() => self.state = Some(state?),
            }
        }
    }
}

/// The line that comes after number `last`: that there are some missing, if so.
fn after(last: u64, line: OutputLine) -> OutputLine {
    match line.number - last - 1 {
        0 => line,
        missing => OutputLine {
            number: line.number - 1,
            text: format!("({missing} lines are not kept)"),
        },
    }
}

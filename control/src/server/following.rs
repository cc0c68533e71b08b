//! Decides how a deploy is followed: its state from the store's own history, and beside it what it says on its way.

use super::Server;
use super::deploys::find;
use super::refusal::Refusal;
use crate::output::Output;
use crate::record::{DeployRecord, Stored, decode};
use crate::store::{Cursor, Key, Record, Store, StoreError, Watch};
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
    let world = &server.control.apps.world;
    let output = (!deploy.status.is_final()).then(|| world.outputs.open(deploy.id.as_str()));
    let following = Following {
        line: output.as_ref().map_or(0, |output| output.base),
        output,
        states: States {
            store: Arc::clone(&world.store),
            key: Key::new(DeployRecord::KIND, deploy.id.as_str()),
            seen: seen.unwrap_or(0),
            watch: None,
        },
        state: None,
        ended: false,
    };
    let events = stream::unfold(following, Following::next);
    let until_end = events.take_until(server.control.ending.clone().cancelled_owned());
    Ok(Sse::new(until_end).keep_alive(KeepAlive::default()))
}

/// A deploy being followed.
struct Following {
    states: States,
    /// Absent if it had ended before.
    output: Option<Arc<Output>>,
    /// Number of the last line sent.
    line: u64,
    /// Seen, to be sent after the lines that came before it.
    state: Option<Seen>,
    ended: bool,
}

/// A state of a deploy.
struct Seen {
    revision: u64,
    deploy: Deploy,
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
            if let Some(Seen { revision, deploy }) = self.state.take() {
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

/// The states of a deploy: the newest first, then each change.
struct States {
    store: Arc<dyn Store>,
    key: Key,
    /// Revision of the last state that is known to whoever follows.
    seen: u64,
    watch: Option<Watch>,
}

impl States {
    /// The next one that is not known; none when there will be none. One that is dropped while it waits has taken nothing.
    async fn next(&mut self) -> Option<Seen> {
        loop {
            let (revision, body) = match self.watch.as_mut() {
                None => {
                    let record = self.store.get(&self.key).await.ok()??;
                    self.watch = Some(Watch::new(Arc::clone(&self.store), Cursor::after(record.revision)));
                    (record.revision, record.body)
                }
                Some(watch) => match watch.next().await? {
                    Ok(change) if change.key == self.key => (change.at.revision, change.body?),
                    Ok(_) => continue,
                    Err(StoreError::Compacted { .. }) => {
                        self.watch = None;
                        continue;
                    }
                    Err(_) => return None,
                },
            };
            let key = self.key.clone();
            let record = Record { key, revision, body };
            let deploy = decode::<DeployRecord>(&record).ok()?.deploy;
            if revision > self.seen {
                self.seen = revision;
                return Some(Seen { revision, deploy });
            }
            if deploy.status.is_final() {
                return None;
            }
        }
    }
}

//! Decides what is said about the kernel side: its state, and each change of a slot's word as it happens.

use super::Server;
use axum::Json;
use axum::extract::State;
use axum::response::Sse;
use axum::response::sse::{Event, KeepAlive};
use futures_util::{Stream, StreamExt, stream};
use miren_api::lease::LeaseKey;
use miren_api::resource::{FastPathStatus, SlotTransition};
use miren_loader::{ChangedBy, EXIT_CODE_UNKNOWN, Transition};
use std::convert::Infallible;
use tokio::sync::broadcast;

/// The fast path in numbers.
#[utoipa::path(get, path = "/v1/fastpath", tag = "fastpath", responses((status = 200, body = FastPathStatus)))]
pub async fn show(State(server): State<Server>) -> Json<FastPathStatus> {
    Json(server.control.apps.world.executor.fast_path())
}

/// Streams changes of slot words as events `transition`, from now on.
#[utoipa::path(get, path = "/v1/fastpath/events", tag = "fastpath",
    responses((status = 200, content_type = "text/event-stream", body = SlotTransition)))]
pub async fn events(State(server): State<Server>) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let ending = server.control.ending.clone().cancelled_owned();
    let transitions = server.control.apps.world.executor.transitions();
    let events = stream::unfold((server, transitions), |(server, mut transitions)| async move {
        let event = match transitions.recv().await {
            Ok(transition) => Event::default()
                .event("transition")
                .json_data(describe(&server, &transition))
                .ok()?,
            Err(broadcast::error::RecvError::Lagged(missed)) => Event::default().comment(format!("{missed} missed")),
            Err(broadcast::error::RecvError::Closed) => return None,
        };
        Some((Ok(event), (server, transitions)))
    });
    Sse::new(events.take_until(ending)).keep_alive(KeepAlive::default())
}

fn describe(server: &Server, transition: &Transition) -> SlotTransition {
    let key = LeaseKey {
        slot: transition.slot,
        generation: transition.generation,
    };
    let leased = server.control.apps.world.desk.known(key);
    let was_seen = transition.state.is_ended() && transition.exit_code != EXIT_CODE_UNKNOWN;
    SlotTransition {
        slot: transition.slot,
        generation: transition.generation,
        state: transition.state.name().to_owned(),
        by: match transition.by {
            ChangedBy::Kernel => "kernel",
            ChangedBy::Control => "control",
        }
        .to_owned(),
        at_ns: transition.at_ns,
        exit_code: was_seen.then_some(transition.exit_code),
        app: leased.as_ref().map(|leased| leased.app.clone()),
        sandbox: leased.map(|leased| leased.sandbox),
    }
}

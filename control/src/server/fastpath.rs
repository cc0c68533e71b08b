//! Decides what is said about the kernel side: its state, and each change of a slot's word as it happens.

use super::Server;
use axum::Json;
use axum::extract;
use axum::response::Sse;
use axum::response::sse::{Event, KeepAlive};
use futures_util::{Stream, StreamExt, stream};
use miren_api::lease::LeaseKey;
use miren_api::resource::{FastPathStatus, SlotTransition};
use miren_loader::{ChangedBy, EXIT_CODE_UNKNOWN, State, Transition};
use std::collections::HashMap;
use std::convert::Infallible;
use tokio::sync::broadcast;

/// The fast path in numbers.
#[utoipa::path(get, path = "/v1/fastpath", tag = "fastpath", responses((status = 200, body = FastPathStatus)))]
pub async fn show(extract::State(server): extract::State<Server>) -> Json<FastPathStatus> {
    Json(server.executor.fast_path())
}

/// Streams slot words as events `transition`: the latest change of each slot in use, then every change as it happens. A
/// reader that is too slow gets an event `missed` with their number.
#[utoipa::path(get, path = "/v1/fastpath/events", tag = "fastpath",
    responses((status = 200, content_type = "text/event-stream", body = SlotTransition)))]
pub async fn events(
    extract::State(server): extract::State<Server>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let ending = server.ending.clone().cancelled_owned();
    let executor = &server.executor;
    // Subscribed before the table is read: what changes in between is in one of them, or in both.
    let transitions = executor.transitions();
    let now = executor.slots();
    let told = now
        .iter()
        .map(|transition| (transition.slot, place(transition)))
        .collect();
    let listed: Vec<_> = now
        .iter()
        .filter_map(|transition| event(&server, transition))
        .map(Ok)
        .collect();
    let changes = stream::unfold(
        Changes {
            server,
            transitions,
            told,
        },
        Changes::next,
    );
    Sse::new(stream::iter(listed).chain(changes).take_until(ending)).keep_alive(KeepAlive::default())
}

/// What one watcher still has to be told.
struct Changes {
    server: Server,
    transitions: broadcast::Receiver<Transition>,
    /// How far the list at the beginning had told of each slot.
    told: HashMap<u32, (u64, State)>,
}

impl Changes {
    async fn next(mut self) -> Option<(Result<Event, Infallible>, Self)> {
        loop {
            let event = match self.transitions.recv().await {
                Ok(transition) if was_told(&self.told, &transition) => continue,
                Ok(transition) => event(&self.server, &transition)?,
                Err(broadcast::error::RecvError::Lagged(missed)) => {
                    Event::default().event("missed").data(missed.to_string())
                }
                Err(broadcast::error::RecvError::Closed) => return None,
            };
            return Some((Ok(event), self));
        }
    }
}

fn was_told(told: &HashMap<u32, (u64, State)>, transition: &Transition) -> bool {
    let told = told.get(&transition.slot);
    told.is_some_and(|told| place(transition) <= *told && transition.state != State::Free)
}

/// Changes of one slot happen in this order, FREE excepted.
fn place(transition: &Transition) -> (u64, State) {
    (transition.generation, transition.state)
}

fn event(server: &Server, transition: &Transition) -> Option<Event> {
    let event = Event::default().event("transition");
    event.json_data(describe(server, transition)).ok()
}

fn describe(server: &Server, transition: &Transition) -> SlotTransition {
    let key = LeaseKey {
        slot: transition.slot,
        generation: transition.generation,
    };
    let leased = server.desk.known(key);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r5_what_the_list_told_is_not_told_again_and_nothing_else_is_left_out() {
        let told = HashMap::from([(1, (5, State::Draining))]);
        let repeated = |slot, generation, state| {
            let transition = Transition {
                slot,
                generation,
                state,
                at_ns: 0,
                by: ChangedBy::Control,
                exit_code: EXIT_CODE_UNKNOWN,
                tgid: 0,
            };
            was_told(&told, &transition)
        };
        assert!(repeated(1, 5, State::Running));
        assert!(repeated(1, 5, State::Draining));
        assert!(repeated(1, 4, State::Dead));
        assert!(!repeated(1, 5, State::Stopping));
        assert!(!repeated(1, 5, State::Free), "it was released after the list");
        assert!(!repeated(1, 6, State::Pending));
        assert!(!repeated(2, 5, State::Running), "not in the list");
    }
}

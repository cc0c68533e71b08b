//! What keeps leases true: looking at the words, renewing, giving back.

use super::entry::Lease;
use super::{LeaseKey, Leases, Shared};
use miren_api::lease::RENEW_INTERVAL;
use miren_loader::{ProxyEvents, State};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// How often every word is looked at, should a hint have been lost, and how exact time limits on answers are.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// The tasks behind [`Leases`].
#[derive(Debug)]
pub struct Keeper {
    leases: Leases,
    to_release: mpsc::UnboundedReceiver<Arc<Lease>>,
}

impl Keeper {
    pub(super) fn new(leases: Leases, to_release: mpsc::UnboundedReceiver<Arc<Lease>>) -> Self {
        Self { leases, to_release }
    }

    /// Runs until it is dropped. `events` are the kernel's hints, where there are any.
    pub async fn run(self, events: Option<ProxyEvents>) {
        let Self { leases, to_release } = self;
        tokio::join!(
            look_at_all(&leases.shared),
            listen(&leases, events),
            renew(&leases),
            release(&leases.shared, to_release)
        );
    }
}

impl Shared {
    /// Looks at the word of a lease and does what it says.
    pub(super) fn look(&self, lease: &Arc<Lease>) {
        match self.slots.state(lease.key) {
            Some(State::Running) => return,
            // Requests in flight go on; new ones find the lease closed.
            Some(State::Pending | State::Draining | State::Stopping) => {}
            // Over, or another generation has the slot: nothing may reach it any more.
            Some(State::Free | State::Stopped | State::Dead) | None => {
                let cut = lease.conns().cut();
                if cut > 0 {
                    tracing::debug!(
                        slot = lease.key.slot,
                        generation = lease.key.generation,
                        cut,
                        "a sandbox ended"
                    );
                }
            }
        }
        if lease.close() {
            self.metrics.leases_closed.inc();
        }
        self.finish_if_idle(lease);
    }

    /// Gives a closed lease back once nothing is in flight under it.
    pub(super) fn finish_if_idle(&self, lease: &Arc<Lease>) {
        if lease.finish() {
            lease.conns().cut();
            // The receiver is only gone when the proxy is about to exit.
            let _ = self.finished.send(Arc::clone(lease));
        }
    }
}

/// Timers are a fallback: what a lost hint would have told is seen here.
async fn look_at_all(shared: &Shared) {
    let mut tick = tokio::time::interval(LOOK_INTERVAL);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let (held, now) = (shared.held(), Instant::now());
        for lease in &held {
            shared.look(lease);
            let cut = lease.conns().cut_overdue(now);
            shared.metrics.answers_overdue.inc_by(cut as u64);
        }
        shared.metrics.leases.set(held.len() as i64);
    }
}

/// The kernel's hints: a word changed, some microseconds ago.
async fn listen(leases: &Leases, events: Option<ProxyEvents>) {
    let Some(mut events) = events else { return };
    while let Some(exit) = events.next().await {
        leases.look(LeaseKey {
            slot: exit.slot,
            generation: exit.generation,
        });
    }
    tracing::warn!("the kernel's stream of exits ended; slot words are looked at every {LOOK_INTERVAL:?} instead");
}

/// Tells control which leases are in use and how much. What control calls lost takes no further request.
///
/// When control does not answer, leases go on: their words are the truth.
async fn renew(leases: &Leases) {
    let mut tick = tokio::time::interval(RENEW_INTERVAL);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    tick.tick().await;
    loop {
        tick.tick().await;
        let held = leases.shared.held();
        let keys: HashSet<LeaseKey> = held.iter().map(|lease| lease.key).collect();
        let demand = leases.demand();
        if keys.is_empty() && demand.is_empty() {
            continue;
        }
        match leases.shared.control.renew(keys.into_iter().collect(), demand).await {
            Ok(answer) => {
                for lease in held.iter().filter(|lease| answer.lost.contains(&lease.key)) {
                    if lease.close() {
                        leases.shared.metrics.leases_closed.inc();
                    }
                    leases.shared.finish_if_idle(lease);
                }
            }
            Err(error) => tracing::debug!(%error, "leases could not be renewed; RUNNING sandboxes go on serving"),
        }
    }
}

/// Gives finished leases back, in one request for all that finished meanwhile.
async fn release(shared: &Shared, mut to_release: mpsc::UnboundedReceiver<Arc<Lease>>) {
    let mut finished = Vec::new();
    while to_release.recv_many(&mut finished, 256).await > 0 {
        let serials: HashSet<u64> = finished.iter().map(|lease| lease.serial).collect();
        let still_held: HashSet<LeaseKey> = {
            let mut held = shared.held.lock();
            held.retain(|lease| !serials.contains(&lease.serial));
            held.iter().map(|lease| lease.key).collect()
        };
        let keys: Vec<LeaseKey> = finished
            .drain(..)
            .map(|lease| lease.key)
            .filter(|key| !still_held.contains(key))
            .collect();
        if keys.is_empty() {
            continue;
        }
        // Not retried: control forgets a lease that is not renewed.
        if let Err(error) = shared.control.release(keys).await {
            tracing::debug!(%error, "leases could not be given back; they expire");
        }
    }
}

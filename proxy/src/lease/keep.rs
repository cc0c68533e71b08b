//! What keeps leases true: looking at the words, giving back, writing down.

use super::entry::Lease;
use super::store::{Kept, LeaseStore};
use super::{LeaseKey, Leases, Shared};
use crate::life::folder::Folder;
use miren_api::lease::ReleasedLease;
use miren_loader::{ProxyEvents, State};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// How often every word is looked at, should a hint have been lost, and how exact time limits on answers are.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// How often stalled requests are looked for: a fifth of the least silence that counts as a stall.
const STALL_INTERVAL: Duration = Duration::from_millis(50);

/// Least time between two writes of the leases: changes in between are written together.
const WRITE_INTERVAL: Duration = Duration::from_millis(100);

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

    /// Runs until it is dropped. `events` are the kernel's hints, where there are any; leases are kept in `store` once it is this
    /// process's `folder`.
    pub async fn run(self, events: Option<ProxyEvents>, store: LeaseStore, folder: Folder) {
        let Self { leases, to_release } = self;
        tokio::join!(
            look_at_all(&leases.shared),
            move_stuck(&leases),
            listen(&leases, events),
            leases.keep_renewed(),
            write(&leases, store, folder),
            release(&leases.shared, to_release)
        );
    }
}

impl Shared {
    /// Looks at the word of a lease and does what it says.
    pub(super) fn look(&self, lease: &Arc<Lease>) {
        match self.slots.state(lease.key) {
            Some(State::Running) => {}
            // Requests in flight go on, for as long as control says; new ones find the lease closed.
            Some(State::Pending | State::Draining | State::Stopping) => {
                self.end(lease);
                if lease.asks_how_long() {
                    self.ask_how_long.notify_one();
                }
            }
            // Over, or another generation has the slot: nothing may reach it any more.
            Some(State::Free | State::Stopped | State::Dead) | None => {
                let cut = lease.cut();
                if cut > 0 {
                    tracing::debug!(
                        slot = lease.key.slot,
                        generation = lease.key.generation,
                        cut,
                        "a sandbox ended"
                    );
                }
                self.end(lease);
            }
        }
    }

    /// Lets no further request in under a lease.
    pub(super) fn end(&self, lease: &Arc<Lease>) {
        if lease.close() {
            self.metrics.leases_closed.inc();
            self.changed.notify_one();
        }
        self.finish_if_idle(lease);
    }

    /// Takes finished leases out of what is held; those that only have tunnels which were let off are looked at on. Returns those to
    /// give back: of a generation that is held under another lease too, that one knows of every answer from now on.
    fn take_out(&self, done: &[Arc<Lease>]) -> Vec<ReleasedLease> {
        let finished = done.iter().filter(|lease| lease.is_finished());
        let serials: HashSet<u64> = finished.map(|lease| lease.serial).collect();
        let mut held = self.held.lock();
        held.retain(|lease| !serials.contains(&lease.serial));
        let mut released: BTreeMap<LeaseKey, ReleasedLease> = BTreeMap::new();
        let given_back: Vec<_> = done.iter().filter(|lease| lease.give_back()).collect();
        for lease in given_back {
            let last = lease.released();
            let others = held.iter().filter(|other| other.key == lease.key);
            let mut others = others.filter(|other| !other.is_given_back()).peekable();
            if others.peek().is_none() {
                let known = released.entry(lease.key).or_insert(last);
                known.answer = known.answer.max(last.answer);
            }
            others.for_each(|other| other.granted_by(last.answer));
        }
        released.into_values().collect()
    }

    /// Gives a closed lease back once nothing is in flight under it that control has to wait for.
    pub(super) fn finish_if_idle(&self, lease: &Arc<Lease>) {
        if lease.finish() {
            lease.cut();
        } else if !lease.is_done() || lease.is_given_back() {
            return;
        }
        // The receiver is only gone when the proxy is about to exit.
        let _ = self.finished.send(Arc::clone(lease));
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
            lease.sweep(now);
            shared.metrics.cuts.drains.inc_by(lease.end_requests(now.into()) as u64);
            let cut = lease.conns().cut_overdue(now);
            shared.metrics.cuts.answers_overdue.inc_by(cut as u64);
        }
        shared.metrics.leases.set(held.len() as i64);
    }
}

/// A stalled sandbox makes no event: that nothing happens is seen by looking.
async fn move_stuck(leases: &Leases) {
    let mut tick = tokio::time::interval(STALL_INTERVAL);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let now = tick.tick().await;
        let closed = leases.shared.stalled();
        let pools = leases.pools.load();
        pools.values().for_each(|pool| pool.move_stuck(&closed, now));
    }
}

/// The kernel's hints: a word changed, some microseconds ago.
async fn listen(leases: &Leases, events: Option<ProxyEvents>) {
    let Some(mut events) = events else { return };
    while let Some(exit) = events.next().await {
        leases.look(leases.shared.slots.key(exit.slot, exit.generation));
    }
    tracing::warn!("the kernel's stream of exits ended; slot words are looked at every {LOOK_INTERVAL:?} instead");
}

/// Writes the leases that may be used to disk when they have changed, off the path of requests.
async fn write(leases: &Leases, store: LeaseStore, folder: Folder) {
    let mut written: Option<Vec<Kept>> = None;
    loop {
        leases.shared.changed.notified().await;
        let pen = folder.pen().await;
        let kept = leases.kept();
        if written.as_ref() == Some(&kept) {
            continue;
        }
        let (store, content) = (store.clone(), kept.clone());
        let save = move || {
            let _held = pen;
            store.save(content)
        };
        match tokio::task::spawn_blocking(save).await {
            Ok(Ok(())) => written = Some(kept),
            Ok(Err(error)) => {
                tracing::warn!(%error, "leases cannot be kept on disk; a restart without control would have none");
            }
            Err(error) => tracing::error!(%error, "keeping the leases failed"),
        }
        tokio::time::sleep(WRITE_INTERVAL).await;
    }
}

/// Gives finished leases back, in one request for all that finished meanwhile.
async fn release(shared: &Shared, mut to_release: mpsc::UnboundedReceiver<Arc<Lease>>) {
    let mut finished = Vec::new();
    while to_release.recv_many(&mut finished, 256).await > 0 {
        // One after the other: of a renewal that is under way control would take what is given back for held.
        let _alone = shared.telling.lock().await;
        let released = shared.take_out(&finished);
        finished.clear();
        if released.is_empty() || !shared.binding.holds() {
            continue;
        }
        // Not retried: control forgets a lease that is not renewed.
        if let Err(error) = shared.control.release(released).await {
            tracing::debug!(%error, "leases could not be given back; they expire");
        }
    }
}

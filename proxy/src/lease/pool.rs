//! The leases of one target: which of them takes the next request, and who waits when none has room.

use super::asking::Line;
use super::entry::{Lease, Permit};
use super::queue::{Queue, Ticket};
use super::repeat::Losses;
use super::stall::{self, Pace};
use super::wanted::Wanted;
use super::{LeaseKey, Shared};
use crate::metrics::PoolMetrics;
use crate::request::refusal::{Reason, Refusal};
use crate::routing::{Served, Target};
use crate::slots::Slots;
use arc_swap::ArcSwap;
use miren_api::PoolId;
use miren_api::lease::Demand;
use miren_loader::State;
use parking_lot::Mutex;
use prometheus::IntGauge;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// The leases of one (version, service).
#[derive(Debug)]
pub struct Pool {
    pub target: Arc<Target>,
    pub metrics: PoolMetrics,
    pub(super) pace: Pace,
    pub(super) losses: Losses,
    pub(super) shared: Arc<Shared>,
    pub(super) open: ArcSwap<Vec<Arc<Lease>>>,
    pub(super) queue: Queue,
    /// Whether control says that its requests may be asked of two sandboxes.
    pub(super) hedge: AtomicBool,
    /// Requests that are there, waiting or in flight.
    pub(super) wanted: Arc<Wanted>,
    pub(super) id: Mutex<Option<PoolId>>,
    /// Leases found to be of no use, to be told to control.
    pub(super) dropped: Mutex<Vec<LeaseKey>>,
    /// To control.
    pub(super) line: Line,
}

/// How waiting for room ended.
#[derive(Debug)]
pub enum Waited {
    Admitted(Permit),
    /// There is another routing snapshot: the host may lead elsewhere now.
    RoutesChanged,
    Refused(Refusal),
}

/// How long a request waits for another sandbox than those that refused it. Where a word lags behind (the table in a
/// file), the one that replaces a dead sandbox is there before this has passed.
const REFUSED_PATIENCE: Duration = Duration::from_millis(500);

/// Sandboxes that a request was sent to in vain.
#[derive(Clone, Debug, Default)]
pub struct Tried {
    /// All of them: another one is better.
    pub any: Vec<LeaseKey>,
    /// Those where nobody accepted the connection: there is no use in trying again at once.
    pub refused: Vec<LeaseKey>,
    /// Whether it may be asked of another sandbox while the first may still act on it: it only reads, and can be had again.
    pub hedge: bool,
    /// Whether a sandbox ended by itself with it.
    pub took_one_down: bool,
}

/// What a waiting request brings along.
#[derive(Debug)]
pub struct Waiter<'r> {
    pub tried: &'r Tried,
    /// Bytes of its head.
    pub bytes: u64,
    pub deadline: Instant,
}

/// The requests that wait for a pool's places.
#[derive(Clone, Copy, Debug)]
pub struct Crowd {
    pub waiting: u32,
    pub places: u32,
    /// How long the last one has waited.
    pub last_waits: Duration,
}

impl Pool {
    pub(super) fn new(target: Arc<Target>, shared: Arc<Shared>) -> Self {
        Self {
            metrics: shared.metrics.pool(target.app.as_str()),
            pace: Pace::default(),
            losses: Losses::default(),
            hedge: AtomicBool::new(true),
            queue: Queue::new(shared.limits.requests, shared.limits.bytes),
            wanted: Arc::default(),
            target,
            shared,
            open: ArcSwap::default(),
            id: Mutex::default(),
            dropped: Mutex::default(),
            line: Line::default(),
        }
    }

    /// A permit at once, if a sandbox has room and nobody waits before. No lock, no I/O.
    pub fn admit(self: &Arc<Self>, tried: &Tried) -> Option<Permit> {
        if self.queue.len() > 0 {
            return None;
        }
        let entered = self.take(tried, &tried.refused)?;
        Some(Permit::new(entered, Arc::clone(self), self.wanted.begin()))
    }

    /// Waits for a permit. `changes` tells of new routing snapshots; it must be older than the resolution that led here.
    pub async fn wait(self: &Arc<Self>, waiter: Waiter<'_>, changes: &mut watch::Receiver<Served>) -> Waited {
        let ticket = match self.queue.join(waiter.bytes) {
            Ok(ticket) => ticket,
            Err(refusal) => return Waited::Refused(refusal),
        };
        if !self.shared.binding.holds() {
            // After joining: who joined before was sent away with the rest.
            return Waited::Refused(Reason::Draining.into());
        }
        let _counted = Counted::new(&self.metrics.waiting);
        self.wait_in_queue(&ticket, &waiter, changes).await
    }

    async fn wait_in_queue(
        self: &Arc<Self>,
        ticket: &Ticket<'_>,
        waiter: &Waiter<'_>,
        changes: &mut watch::Receiver<Served>,
    ) -> Waited {
        let present = self.wanted.begin();
        self.start_acquiring();
        let mut never = waiter.tried.refused.as_slice();
        let patience = Instant::now() + REFUSED_PATIENCE;
        loop {
            // After joining: a permit that was given back before is found here, one given back later calls.
            if let Some(entered) = self.take(waiter.tried, never) {
                return Waited::Admitted(Permit::new(entered, Arc::clone(self), present));
            }
            if self.has_room() {
                // Not for this one: it was called in vain, and may have been called in another's place.
                self.queue.pass_on();
            }
            tokio::select! {
                biased;
                called = ticket.called() => if let Err(refusal) = called {
                    return Waited::Refused(refusal);
                },
                _ = changes.changed() => {
                    drop(present);
                    self.moves();
                    return Waited::RoutesChanged;
                }
                () = tokio::time::sleep_until(patience), if !never.is_empty() => never = &[],
                () = tokio::time::sleep_until(waiter.deadline) => {
                    return Waited::Refused(self.too_late());
                }
            }
        }
    }

    /// What is said to those whose time is over.
    fn too_late(&self) -> Refusal {
        if self.has_open() {
            return Reason::AtCapacity.into();
        }
        self.line.talk().fault.unwrap_or_else(|| Reason::WaitTimeout.into())
    }

    /// Enters the less loaded of two random leases with room; one that was tried only if there is no other, and none of
    /// `never`.
    fn take(&self, tried: &Tried, never: &[LeaseKey]) -> Option<Arc<Lease>> {
        let open = self.open.load();
        if tried.any.is_empty() {
            return self.take_among(&open, tried.hedge);
        }
        let without = |keys: &[LeaseKey]| -> Vec<_> {
            open.iter()
                .filter(|lease| !keys.contains(&lease.key))
                .cloned()
                .collect()
        };
        let others = without(&tried.any);
        if others.is_empty() {
            self.take_among(&without(never), tried.hedge)
        } else {
            self.take_among(&others, tried.hedge)
        }
    }

    fn take_among(&self, leases: &[Arc<Lease>], hedge: bool) -> Option<Arc<Lease>> {
        let preferred = match leases {
            [] => return None,
            [only] => return self.try_lease(only),
            many => less_loaded_of_two(many),
        };
        let answering = |lease: &&Arc<Lease>| !lease.is_avoided(hedge);
        let preferred = std::iter::once(preferred).filter(answering);
        let others = leases.iter().filter(answering);
        // One that is avoided is better than none: it may be that the whole service is slow.
        let mut order = preferred.chain(others).chain(leases);
        order.find_map(|lease| self.try_lease(lease))
    }

    /// Takes requests that can go elsewhere away from sandboxes that have stalled. `closed`: leases of any pool that had stalled when
    /// they were closed; one that freezes is retired for it, with what it was sent last.
    pub(super) fn move_stuck(&self, closed: &[Arc<Lease>], now: Instant) {
        let open = self.open.load();
        if open.is_empty() || !self.hedges() {
            return;
        }
        let Some(patience) = self.pace.patience() else { return };
        let mine = closed.iter().filter(|lease| lease.is_wanted_by(&self.wanted));
        let busy = open.iter().filter(|lease| lease.in_flight() > 0);
        for lease in busy.chain(mine) {
            let since_us = stall::now_us();
            let goes_elsewhere = |other: &&Arc<Lease>| other.key != lease.key && other.room() > 0;
            let others = || open.iter().filter(goes_elsewhere).any(|other| !other.is_avoided(true));
            if !lease.silence().is_longer_than(patience, since_us) || !others() {
                continue;
            }
            let cut = lease.conns().cut_stuck(patience, now.into_std(), || self.pace.spend());
            if cut == 0 {
                continue;
            }
            self.shared.metrics.stalls.moved.inc_by(cut.into());
            if lease.silence().stalled(cut, since_us) {
                self.shared.metrics.stalls.rests.inc();
                tracing::warn!(sandbox = %lease.sandbox, app = %self.target.app, ?patience,
                    "answers nothing: its requests go elsewhere, and it rests");
            }
        }
    }

    fn try_lease(&self, lease: &Arc<Lease>) -> Option<Arc<Lease>> {
        if lease.room() > 0 && lease.enter(&self.shared.slots) {
            return Some(Arc::clone(lease));
        }
        if !self.shared.slots.is_running(lease.key) {
            self.shared.look(lease);
        } else if lease.is_closed() {
            self.shared.finish_if_idle(lease);
        }
        None
    }

    /// A request of this target is about to look for room again, here or elsewhere.
    pub(super) fn moves(&self) {
        self.shared.moves();
    }

    pub(super) fn hedges(&self) -> bool {
        self.hedge.load(Ordering::Relaxed)
    }

    pub(super) fn slots(&self) -> &Slots {
        &self.shared.slots
    }

    pub(super) fn state_of(&self, lease: &Lease) -> Option<State> {
        self.shared.slots.state(lease.key)
    }

    /// A permit of `lease` was given back.
    pub(super) fn left(&self, lease: &Arc<Lease>) {
        if lease.is_closed() {
            self.shared.finish_if_idle(lease);
        } else {
            self.queue.call(1);
        }
    }

    /// A connection to `lease` could not be made: it is dropped, and control is told with the next acquire.
    pub fn drop_lease(self: &Arc<Self>, lease: &Arc<Lease>) {
        if lease.close() {
            // With others under way besides the one that was refused it is in use, and given back behind them.
            if lease.in_flight() <= 1 {
                self.dropped.lock().push(lease.key);
            }
            self.shared.changed.notify_one();
            self.metrics.leases_dropped.inc();
            self.open.rcu(|open| {
                open.iter()
                    .filter(|other| other.serial != lease.serial)
                    .cloned()
                    .collect::<Vec<_>>()
            });
            self.refresh();
        }
        self.shared.finish_if_idle(lease);
    }

    /// No route leads here any more: requests in flight go on, no other is let in.
    pub(super) fn close(&self) {
        self.line.talk().retired = true;
        self.close_leases();
    }

    /// Control writes another slot table: nobody is let in any more, nor waits for it.
    pub(super) fn let_go(&self) {
        self.close_leases();
        self.queue.refuse_all(Reason::Draining.into());
    }

    pub(super) fn close_leases(&self) {
        for lease in self.open.swap(Arc::default()).iter() {
            lease.close();
            self.shared.finish_if_idle(lease);
        }
        self.shared.changed.notify_one();
    }

    /// Whether a sandbox could take another request now.
    fn has_room(&self) -> bool {
        self.open.load().iter().any(|lease| lease.room() > 0)
    }

    /// Whether requests wait for room.
    pub fn is_wanted(&self) -> bool {
        self.queue.len() > 0
    }

    /// Who waits for room; none while nobody does.
    pub fn crowd(&self) -> Option<Crowd> {
        let last_waits = self.queue.last()?.elapsed();
        let open = self.open.load();
        Some(Crowd {
            waiting: u32::try_from(self.queue.len()).unwrap_or(u32::MAX),
            places: open.iter().map(|lease| lease.capacity()).fold(0, u32::saturating_add),
            last_waits,
        })
    }

    /// Whether a sandbox may take requests, now or when one of those it has ends.
    pub(super) fn has_open(&self) -> bool {
        self.open.load().iter().any(|lease| !lease.is_closed())
    }

    pub(super) fn id(&self) -> Option<PoolId> {
        self.id.lock().clone()
    }

    pub(super) fn is(&self, id: &PoolId) -> bool {
        self.id.lock().as_ref() == Some(id)
    }

    /// Requests that are there. One that has got its permit may stand in the queue for a moment longer; it is one all the same.
    pub(super) fn demand(&self) -> Demand {
        demand_of(&self.wanted, &self.queue)
    }
}

pub(super) fn demand_of(wanted: &Wanted, queue: &Queue) -> Demand {
    let all = wanted.count();
    let queued = u32::try_from(queue.len()).unwrap_or(u32::MAX).min(all);
    Demand {
        in_flight: all - queued,
        queued,
    }
}

/// Counts a waiting request as long as somebody waits for it.
struct Counted<'g>(&'g IntGauge);

impl<'g> Counted<'g> {
    fn new(gauge: &'g IntGauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

fn less_loaded_of_two(leases: &[Arc<Lease>]) -> &Arc<Lease> {
    let first = rand::random_range(0..leases.len());
    // A second one that differs: any of the others is equally likely.
    let second = (first + rand::random_range(1..leases.len())) % leases.len();
    let (first, second) = (&leases[first], &leases[second]);
    if second.in_flight() < first.in_flight() {
        second
    } else {
        first
    }
}

//! The right to send requests to sandboxes: who has room, who waits, and when a lease is over.
//!
//! Leases are kept per target, that is per (version, service): versions never share one. What decides whether a sandbox may
//! be used is its slot word, read before and after each permit is taken. The time limit of a lease is control's means
//! against dead proxies; while control is away, leases whose word says RUNNING go on serving (I7), also those that were
//! kept on disk by the process before this one. How many requests a lease is for is control's word alone: the proxies of a
//! node share each sandbox.

use crate::binding::Binding;
use crate::control::Control;
use crate::metrics::Metrics;
use crate::routing::{RouteTable, Target};
use crate::slots::Slots;
use arc_swap::ArcSwap;
use miren_api::lease::{Demand, LeaseKey, PoolDemand};
use miren_api::{AppName, PoolId};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use store::Kept;
use tokio::sync::{Mutex as AsyncMutex, Notify, mpsc};

mod acquire;
mod asking;
mod closing;
mod conns;
mod entry;
mod keep;
mod link;
mod pool;
mod queue;
mod renew;
mod repeat;
mod stall;
mod store;
#[cfg(test)]
mod tests;
mod wanted;

pub use entry::{Lease, Permit};
pub use keep::Keeper;
pub use link::{KeepLimits, Link};
pub use pool::{Crowd, Pool, Tried, Waited, Waiter};
pub use repeat::Ended;
pub use store::LeaseStore;

/// How often the demand is counted again when requests moved meanwhile.
const COUNTS: usize = 16;

/// How much may wait, and how long.
#[derive(Clone, Copy, Debug)]
pub struct WaitLimits {
    /// Requests per target.
    pub requests: usize,
    /// Bytes of their heads per target.
    pub bytes: u64,
    /// Longest wait of one request.
    pub time: Duration,
}

/// What all pools share.
#[derive(Debug)]
pub(crate) struct Shared {
    slots: Slots,
    binding: Binding,
    control: Control,
    limits: WaitLimits,
    keep: Arc<KeepLimits>,
    metrics: Arc<Metrics>,
    /// Every lease that has not been given back, closed ones with requests in flight too. Never touched by a request.
    held: Mutex<Vec<Arc<Lease>>>,
    /// Leases nobody uses any more, on their way back to control.
    finished: mpsc::UnboundedSender<Arc<Lease>>,
    /// Counts requests that went on from one target to another.
    moved: AtomicU64,
    /// Leases that may be used came, went or changed: what is kept on disk is out of date.
    changed: Notify,
    /// Control has to be told what is held, now.
    renew_now: Notify,
    /// As [`Shared::renew_now`], for the answer: how long what is under way to retired sandboxes may go on.
    ask_how_long: Notify,
    /// Control has said that it understands how many tunnels there are.
    hears_tunnels: AtomicBool,
    /// Held while control is told what is held, or given back.
    telling: AsyncMutex<()>,
}

/// All pools of this proxy. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Leases {
    pools: Arc<ArcSwap<HashMap<Arc<Target>, Arc<Pool>>>>,
    shared: Arc<Shared>,
}

impl Leases {
    /// The pools, and what has to be run to keep their leases.
    pub fn new(
        slots: Slots,
        control: Control,
        limits: WaitLimits,
        keep: KeepLimits,
        metrics: Arc<Metrics>,
    ) -> (Self, Keeper) {
        let (finished, to_release) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            binding: Binding::new(slots.table().clone()),
            slots,
            control,
            limits,
            keep: Arc::new(keep),
            metrics,
            held: Mutex::default(),
            finished,
            moved: AtomicU64::new(0),
            changed: Notify::new(),
            renew_now: Notify::new(),
            ask_how_long: Notify::new(),
            hears_tunnels: AtomicBool::new(false),
            telling: AsyncMutex::default(),
        });
        let leases = Self {
            pools: Arc::default(),
            shared,
        };
        (leases.clone(), Keeper::new(leases, to_release))
    }

    /// The pool of a target; made when it is first asked for. Takes no lock when it exists.
    pub fn pool(&self, target: &Arc<Target>) -> Arc<Pool> {
        if let Some(pool) = self.pools.load().get(target) {
            return Arc::clone(pool);
        }
        let new = Arc::new(Pool::new(Arc::clone(target), Arc::clone(&self.shared)));
        self.pools.rcu(|pools| {
            let mut pools = HashMap::clone(pools);
            pools.entry(Arc::clone(target)).or_insert_with(|| Arc::clone(&new));
            pools
        });
        self.pools.load().get(target).map_or(new, Arc::clone)
    }

    /// Gives up the pools that no route of `table` leads to. Requests in flight to them go on.
    pub fn keep_only(&self, table: &RouteTable) {
        let before = self.pools.rcu(|pools| {
            let kept = pools.iter().filter(|(target, _)| table.has(target));
            kept.map(|(target, pool)| (Arc::clone(target), Arc::clone(pool)))
                .collect::<HashMap<_, _>>()
        });
        for (_, pool) in before.iter().filter(|(target, _)| !table.has(target)) {
            pool.close();
        }
        self.shared
            .metrics
            .keep_only_apps(|app| table.leads_to(&AppName::from_text(app)));
    }

    /// Sandboxes of `id` came or went: the pools that use it ask for leases again.
    pub fn refresh(&self, id: &PoolId) {
        for pool in self.pools.load().values().filter(|pool| pool.is(id)) {
            pool.refresh();
        }
    }

    /// As [`Leases::refresh`], for every pool in use, after control was told what is held: it may be another process that
    /// knows nothing of it.
    pub fn refresh_all(&self) {
        self.shared.renew_now.notify_one();
    }

    /// Takes over what the process before this one kept on disk, as far as it is RUNNING and `table` leads to it. Control
    /// takes them for this proxy's when they are renewed, which is tried at once.
    pub fn restore(&self, store: &LeaseStore, table: &RouteTable) {
        let of = |target: &Arc<Target>| ((target.version.clone(), target.service.clone()), Arc::clone(target));
        let targets: HashMap<_, _> = table.targets().map(of).collect();
        for kept in store.load() {
            if let Some(target) = targets.get(&(kept.version.clone(), kept.service.clone())) {
                self.pool(target).restore(kept);
            }
        }
        let count = self.shared.held.lock().len();
        if count > 0 {
            tracing::info!(count, "serving under kept leases until control answers");
            self.shared.renew_now.notify_one();
        }
    }

    /// The leases that may be used, as they are kept on disk.
    fn kept(&self) -> Vec<Kept> {
        let mut kept: Vec<Kept> = self.pools.load().values().filter_map(|pool| pool.kept()).collect();
        kept.sort_by(|a, b| (&a.version, &a.service).cmp(&(&b.version, &b.service)));
        kept
    }

    /// Somebody says the word of `key` changed: looks at it.
    pub fn look(&self, key: LeaseKey) {
        for lease in self.shared.held().iter().filter(|lease| lease.key == key) {
            self.shared.look(lease);
            // It may be the time for what is under way that is another one.
            if lease.is_closed() && lease.in_flight() > 0 && !lease.is_given_back() {
                self.shared.ask_how_long.notify_one();
            }
        }
    }

    /// Whether the slot table is control's.
    pub fn binding(&self) -> &Binding {
        &self.shared.binding
    }

    /// Control writes another slot table: no request is let in by this one any more. Those in flight go on.
    pub fn let_go(&self) {
        self.pools.load().values().for_each(|pool| pool.let_go());
    }

    /// Gives every lease back: this process sends nothing more. Control then need not wait for it.
    pub async fn give_back(&self) {
        if !self.shared.binding.holds() {
            // What control calls the same is something else.
            return;
        }
        let keys = self.shared.held().iter().map(|lease| lease.released()).collect();
        if let Err(error) = self.shared.control.release(keys).await {
            tracing::debug!(%error, "leases could not be given back; they expire");
        }
    }

    /// Requests in flight and waiting, per pool that control knows. None while so many go from one target to another that some
    /// would be counted at both: what was told before holds a little longer.
    fn demand(&self) -> Vec<PoolDemand> {
        for _ in 0..COUNTS {
            let moved = self.shared.moved.load(Ordering::SeqCst);
            let demand = self.counted();
            if self.shared.moved.load(Ordering::SeqCst) == moved {
                return demand;
            }
        }
        Vec::new()
    }

    fn counted(&self) -> Vec<PoolDemand> {
        let mut demand: HashMap<PoolId, Demand> = HashMap::new();
        for pool in self.pools.load().values() {
            let Some(id) = pool.id() else { continue };
            let (of_pool, more) = (demand.entry(id).or_default(), pool.demand());
            of_pool.in_flight += more.in_flight;
            of_pool.queued += more.queued;
        }
        demand
            .into_iter()
            .map(|(pool, demand)| PoolDemand { pool, demand })
            .collect()
    }
}

impl Shared {
    /// A request leaves its target to look for room again, where its host leads now.
    fn moves(&self) {
        self.moved.fetch_add(1, Ordering::SeqCst);
    }

    fn held(&self) -> Vec<Arc<Lease>> {
        self.held.lock().clone()
    }

    /// Those that had stalled before they were closed, and have requests in flight. One that has not is silent because nobody asks.
    fn stalled(&self) -> Vec<Arc<Lease>> {
        let held = self.held.lock();
        let busy = held.iter().filter(|lease| lease.is_closed() && lease.in_flight() > 0);
        busy.filter(|lease| lease.silence().is_suspect()).cloned().collect()
    }
}

//! Decides how leases are asked for and waited on: one short lock over the tables, nothing called while it is held.

use super::{LeaseTable, ProxyTable};
use crate::clock::{Clock, later};
use jiff::Timestamp;
use miren_api::id::{AppName, PoolId, SandboxId};
use miren_api::lease::{Demand, LEASE_TTL, LeaseKey};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How often leases that nobody renewed are looked for.
const SWEEP: Duration = Duration::from_millis(500);

/// What a slot's generation is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leased {
    pub sandbox: SandboxId,
    pub app: AppName,
    pub pool: PoolId,
}

#[derive(Default)]
struct Tables {
    leases: LeaseTable,
    proxies: ProxyTable,
    sandboxes: HashMap<LeaseKey, Leased>,
    demand: BTreeMap<(PoolId, String), (Demand, Timestamp)>,
    /// Before this moment proxies may hold leases of an earlier process that they have not renewed yet.
    trusted_from: Option<Timestamp>,
}

/// Where proxies get and give back their leases. Cheap to clone.
#[derive(Clone)]
pub struct Desk {
    tables: Arc<Mutex<Tables>>,
    /// Counts changes that somebody may be waiting for.
    changed: watch::Sender<u64>,
    clock: Clock,
}

impl Desk {
    pub fn new(clock: Clock) -> Self {
        Self {
            tables: Arc::default(),
            changed: watch::Sender::new(0),
            clock,
        }
    }

    fn change<T>(&self, change: impl FnOnce(&mut Tables, Timestamp) -> T) -> T {
        let now = self.clock.now();
        let outcome = change(&mut self.tables.lock(), now);
        self.changed.send_modify(|count| *count += 1);
        outcome
    }

    /// Waits until `done` is true of the tables; asked again after each change, and at least every [`SWEEP`].
    async fn wait(&self, mut done: impl FnMut(&mut Tables, Timestamp) -> bool) {
        let mut changed = self.changed.subscribe();
        loop {
            changed.mark_unchanged();
            if done(&mut self.tables.lock(), self.clock.now()) {
                return;
            }
            // The sender lives in self; a timeout only lets time itself be seen to pass.
            let _ = tokio::time::timeout(SWEEP, changed.changed()).await;
        }
    }

    /// A sandbox has its slot: says what a lease on it is about.
    pub fn introduce(&self, key: LeaseKey, leased: Leased) {
        self.tables.lock().sandboxes.insert(key, leased);
    }

    pub fn known(&self, key: LeaseKey) -> Option<Leased> {
        self.tables.lock().sandboxes.get(&key).cloned()
    }

    /// Grants leases on those of `keys` that are not closed.
    pub fn grant(&self, proxy: &str, keys: &[LeaseKey]) -> Vec<LeaseKey> {
        self.change(|tables, now| {
            tables.proxies.sign(proxy, now);
            let granted = keys.iter().filter(|key| tables.leases.grant(proxy, **key, now));
            granted.copied().collect()
        })
    }

    /// Gives leases back.
    pub fn release(&self, proxy: &str, keys: &[LeaseKey]) {
        self.change(|tables, now| {
            tables.proxies.sign(proxy, now);
            for key in keys {
                tables.leases.release(proxy, *key);
            }
        });
    }

    /// Renews what is known and `running`, re-creating leases of an earlier process; the rest is lost.
    ///
    /// A lease on a draining generation is lost too, but stays held: requests are still in flight under it.
    pub fn renew(
        &self,
        proxy: &str,
        held: &[LeaseKey],
        running: impl Fn(LeaseKey) -> bool,
    ) -> (Vec<LeaseKey>, Vec<LeaseKey>) {
        let alive: Vec<(LeaseKey, bool)> = held.iter().map(|key| (*key, running(*key))).collect();
        self.change(|tables, now| {
            tables.proxies.sign(proxy, now);
            let renewed = |(key, alive): &(LeaseKey, bool)| {
                let known = tables.sandboxes.contains_key(key);
                if known && !*alive {
                    tables.leases.hold(proxy, *key, now);
                }
                known && *alive && tables.leases.grant(proxy, *key, now)
            };
            let (renewed, lost): (Vec<_>, Vec<_>) = alive.into_iter().partition(renewed);
            let keys = |of: Vec<(LeaseKey, bool)>| of.into_iter().map(|(key, _)| key).collect();
            (keys(renewed), keys(lost))
        })
    }

    /// Closes a generation to new leases; the future resolves when no proxy has one any more.
    pub fn close(&self, key: LeaseKey) -> impl Future<Output = ()> + Send + 'static {
        self.change(|tables, _| tables.leases.close(key));
        let desk = self.clone();
        async move {
            desk.wait(|tables, now| tables.trusted_from.is_none_or(|from| now >= from) && tables.leases.is_idle(key))
                .await;
        }
    }

    /// Until then "no lease" is not taken for an answer: an earlier process may have given some.
    pub fn trust_from(&self, at: Timestamp) {
        self.tables.lock().trusted_from = Some(at);
    }

    /// A generation is over.
    pub fn forget(&self, key: LeaseKey) {
        self.change(|tables, _| {
            tables.leases.forget(key);
            tables.sandboxes.remove(&key);
        });
    }

    /// What one proxy needs of a pool; holds as long as a lease would.
    pub fn demand(&self, proxy: &str, pool: &PoolId, demand: Demand) {
        self.change(|tables, now| {
            tables.demand.insert((pool.clone(), proxy.to_owned()), (demand, now));
        });
    }

    /// What all proxies together need of a pool.
    pub fn total_demand(&self, pool: &PoolId) -> Demand {
        let now = self.clock.now();
        let tables = self.tables.lock();
        let of_pool = tables
            .demand
            .range((pool.clone(), String::new())..)
            .take_while(|((of, _), _)| of == pool);
        of_pool
            .filter(|(_, (_, at))| now < later(*at, LEASE_TTL))
            .fold(Demand::default(), |sum, (_, (demand, _))| Demand {
                in_flight: sum.in_flight.saturating_add(demand.in_flight),
                queued: sum.queued.saturating_add(demand.queued),
            })
    }

    /// A proxy follows the snapshots until the returned guard is dropped; none when there are too many proxies.
    pub fn connect(&self, proxy: &str) -> Option<Connected> {
        self.change(|tables, now| tables.proxies.connected(proxy, now))
            .then(|| Connected {
                desk: self.clone(),
                proxy: proxy.to_owned(),
            })
    }

    pub fn acknowledge(&self, proxy: &str, generation: u64) {
        self.change(|tables, now| tables.proxies.acknowledge(proxy, generation, now));
    }

    /// Resolves when every live proxy serves `generation`. A proxy silent meanwhile loses its leases first.
    pub async fn acknowledged(&self, generation: u64) {
        let published = self.clock.now();
        self.wait(|tables, now| {
            let (waited_for, silent) = tables.proxies.lagging(generation, published, now);
            for proxy in silent {
                tables.leases.drop_proxy(&proxy);
            }
            waited_for.is_empty()
        })
        .await;
    }

    /// Drops what expired, for ever.
    pub async fn sweep(&self) {
        loop {
            tokio::time::sleep(SWEEP).await;
            self.change(|tables, now| {
                tables.leases.expire(now);
                for proxy in tables.proxies.expire(now) {
                    tables.leases.drop_proxy(&proxy);
                }
                tables.demand.retain(|_, (_, at)| now < later(*at, LEASE_TTL));
            });
        }
    }

    /// Leases held and proxies known, for metrics.
    pub fn counts(&self) -> (usize, usize) {
        let tables = self.tables.lock();
        (tables.leases.len(), tables.proxies.len())
    }
}

/// A proxy's stream.
pub struct Connected {
    desk: Desk,
    proxy: String,
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.desk
            .change(|tables, now| tables.proxies.disconnected(&self.proxy, now));
    }
}

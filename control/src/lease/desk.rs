//! Decides how leases are asked for, waited on and rebalanced: one short lock over the tables, nothing called while it is
//! held.

use super::changes::Changes;
use super::closing::Closings;
use super::{Ask, Effects, Granted, LeaseTable, ProxyTable, UnderWay};
use crate::clock::{Clock, later};
use jiff::Timestamp;
use miren_api::id::{AppName, PoolId, SandboxId};
use miren_api::lease::{ClosingLease, Demand, HeldLease, LEASE_TTL, LeaseKey, ReleasedLease, RenewedLease};
use miren_sandbox::Budgets;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{broadcast, watch};

/// How often leases that nobody renewed are looked for.
const SWEEP: Duration = Duration::from_millis(500);
/// How many tells a stream may be behind before it is told everything again.
const TELLS: usize = 1024;

/// What a slot's generation is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leased {
    pub sandbox: SandboxId,
    pub app: AppName,
    pub pool: PoolId,
}

/// What a proxy should ask again for. A hint, told over the proxy's stream.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tell {
    pub proxy: String,
    pub about: About,
}

/// What is another one than the proxy was told.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum About {
    /// Its share of a pool.
    Pool(PoolId),
    /// How long what it has under way there may go on.
    Closing(LeaseKey),
}

#[derive(Default)]
struct Tables {
    leases: LeaseTable,
    proxies: ProxyTable,
    sandboxes: HashMap<LeaseKey, Leased>,
    closings: Closings,
    demand: BTreeMap<(PoolId, String), (Demand, Timestamp)>,
    /// Number of the last answer with grants.
    answer: u64,
}

impl Tables {
    /// The number of the next answer. They go on rising when control is restarted: time has passed meanwhile.
    fn next_answer(&mut self, now: Timestamp) -> u64 {
        let by_time = u64::try_from(now.as_microsecond()).unwrap_or_default();
        self.answer = by_time.max(self.answer + 1);
        self.answer
    }

    /// What proxies told of a pool, who and when, as far as it still holds.
    fn demand_of(&self, pool: &PoolId, now: Timestamp) -> impl Iterator<Item = (&str, Demand, Timestamp)> {
        let of_pool = self.demand.range((pool.clone(), String::new())..);
        of_pool
            .take_while(move |((of, _), _)| of == pool)
            .map(|((_, proxy), (demand, at))| (&**proxy, *demand, *at))
            .filter(move |(_, _, at)| now < later(*at, LEASE_TTL))
    }

    fn tells(&self, effects: Effects) -> BTreeSet<Tell> {
        let known = |(key, proxy): (LeaseKey, String)| {
            let pool = self.sandboxes.get(&key)?.pool.clone();
            let about = About::Pool(pool);
            Some(Tell { proxy, about })
        };
        effects.told.into_iter().filter_map(known).collect()
    }

    /// Closes a generation; no deadline it has moves away. Who has to know of them.
    fn close(&mut self, key: LeaseKey, budgets: Budgets, now: Timestamp) -> Vec<Tell> {
        self.leases.close(key);
        self.closings.close(key, budgets, now);
        let tell = |proxy: &str| Tell {
            proxy: proxy.to_owned(),
            about: About::Closing(key),
        };
        self.leases.held_by(key).map(tell).collect()
    }
}

/// Where proxies get and give back their leases. Cheap to clone.
#[derive(Clone)]
pub struct Desk {
    tables: Arc<Mutex<Tables>>,
    /// Counts changes that somebody may be waiting for.
    changed: watch::Sender<u64>,
    tells: broadcast::Sender<Tell>,
    clock: Clock,
}

impl Desk {
    pub fn new(clock: Clock) -> Self {
        Self {
            tables: Arc::default(),
            changed: watch::Sender::new(0),
            tells: broadcast::channel(TELLS).0,
            clock,
        }
    }

    fn change<T>(&self, change: impl FnOnce(&mut Tables, Timestamp) -> T) -> T {
        let outcome = self.apply(change);
        self.changed.send_modify(|count| *count += 1);
        outcome
    }

    /// As [`Desk::change`], for what nobody waits for unless it frees a share.
    fn apply<T>(&self, change: impl FnOnce(&mut Tables, Timestamp) -> T) -> T {
        let now = self.clock.steady();
        let (outcome, freed, tells) = {
            let mut tables = self.tables.lock();
            let _whole = miren_log::Whole::begin("the lease desk");
            let absent = tables.proxies.absent(now);
            tables.leases.set_absent(absent);
            let outcome = change(&mut tables, now);
            let effects = tables.leases.take_effects();
            (outcome, effects.freed, tables.tells(effects))
        };
        if freed {
            self.changed.send_modify(|count| *count += 1);
        }
        self.send(tells);
        outcome
    }

    fn send(&self, tells: impl IntoIterator<Item = Tell>) {
        for tell in tells {
            // No receiver means that no proxy follows: it asks for everything when it does.
            let _ = self.tells.send(tell);
        }
    }

    /// Waits until `done` is true of the tables; asked again after each change, and at least every [`SWEEP`].
    async fn wait(&self, mut done: impl FnMut(&mut Tables, Timestamp) -> bool) {
        let mut changes = self.changes();
        loop {
            changes.seen();
            if self.apply(&mut done) {
                return;
            }
            changes.next(SWEEP).await;
        }
    }

    /// Tells of every change from now on that may let somebody have what he waits for.
    pub fn changes(&self) -> Changes {
        Changes(self.changed.subscribe())
    }

    /// Which proxies should ask again, from now on.
    pub fn tells(&self) -> broadcast::Receiver<Tell> {
        self.tells.subscribe()
    }

    /// A sandbox has its slot: says what a lease on it is about.
    pub fn introduce(&self, key: LeaseKey, leased: Leased) {
        self.tables.lock().sandboxes.insert(key, leased);
    }

    pub fn known(&self, key: LeaseKey) -> Option<Leased> {
        self.tables.lock().sandboxes.get(&key).cloned()
    }

    /// Grants leases on those that are neither closed nor over, with the number of the answer they are for. A share of 0
    /// that there was no lease before is none.
    pub fn grant(&self, proxy: &str, asks: &[Ask]) -> (u64, Vec<Granted>) {
        self.apply(|tables, now| {
            tables.proxies.sign(proxy, now);
            let answer = tables.next_answer(now);
            tables.leases.begin_answer(answer);
            let living = asks.iter().filter(|ask| tables.sandboxes.contains_key(&ask.key));
            let granted = living.filter_map(|ask| tables.leases.grant(proxy, *ask, now));
            let granted = granted.filter(|granted| granted.share > 0 || granted.before.is_some());
            (answer, granted.collect())
        })
    }

    /// Gives leases back, unless they were granted again by an answer that the proxy has not seen yet.
    pub fn give_back(&self, proxy: &str, leases: &[ReleasedLease]) {
        self.change(|tables, now| {
            tables.proxies.sign(proxy, now);
            for lease in leases {
                tables.leases.give_back(proxy, lease.key(), lease.answer, now);
            }
        });
    }

    /// Takes leases back that are of no use.
    pub fn release(&self, proxy: &str, keys: &[LeaseKey]) {
        self.change(|tables, now| {
            tables.proxies.sign(proxy, now);
            for key in keys {
                tables.leases.release(proxy, *key, now);
            }
        });
    }

    /// Renews what is known and RUNNING, re-creating leases of an earlier process; the rest is lost. With each lease comes
    /// what it is asked for; none when its sandbox is not RUNNING.
    ///
    /// A lease on a draining generation is lost too, but stays held: requests are still in flight under it.
    pub fn renew(&self, proxy: &str, held: &[(HeldLease, Option<Ask>)]) -> (Vec<RenewedLease>, Vec<LeaseKey>) {
        let (mut renewed, mut lost) = (Vec::new(), Vec::new());
        self.apply(|tables, now| {
            tables.proxies.sign(proxy, now);
            for (lease, ask) in held {
                let key = lease.key();
                let is_known = tables.sandboxes.contains_key(&key);
                let ask = ask.filter(|_| is_known);
                match ask.and_then(|ask| tables.leases.renew(proxy, *lease, ask, now)) {
                    Some(granted) => renewed.push(RenewedLease {
                        node: key.node,
                        slot: key.slot,
                        generation: key.generation,
                        capacity: granted.share,
                    }),
                    None => {
                        lost.push(key);
                        if is_known {
                            tables.leases.hold(proxy, *lease, now);
                        }
                    }
                }
            }
        });
        (renewed, lost)
    }

    /// Those of `keys` that are closed, and how long what is under way there may still go on.
    pub fn closing(&self, keys: &[LeaseKey]) -> Vec<ClosingLease> {
        let now = self.clock.steady();
        let tables = self.tables.lock();
        keys.iter().filter_map(|key| tables.closings.left(*key, now)).collect()
    }

    /// What is under way to a generation, from all proxies, as they last reported.
    pub fn under_way(&self, key: LeaseKey) -> UnderWay {
        self.tables.lock().leases.under_way(key)
    }

    /// Requests in flight to a generation.
    pub fn in_flight(&self, key: LeaseKey) -> u32 {
        self.under_way(key).requests
    }

    /// Requests in flight to all generations, and tunnels among them.
    pub fn all_under_way(&self) -> (u64, u64) {
        self.tables.lock().leases.all_under_way()
    }

    /// How many proxies have a lease on a generation.
    pub fn holders(&self, key: LeaseKey) -> usize {
        self.tables.lock().leases.holders(key)
    }

    /// Closes a generation to new leases, and tells those who have one how long what they have under way may go on; done again, it
    /// may only be less. The future resolves when no proxy has one any more.
    pub fn close(&self, key: LeaseKey, budgets: Budgets) -> impl Future<Output = ()> + Send + 'static {
        let tells = self.change(|tables, now| tables.close(key, budgets, now));
        self.send(tells);
        let desk = self.clone();
        async move {
            desk.wait(|tables, now| tables.leases.is_trusted(now) && tables.leases.is_idle(key))
                .await;
        }
    }

    /// Until then "no lease" is not taken for an answer: an earlier process may have given some.
    pub fn trust_from(&self, at: Timestamp) {
        self.tables.lock().leases.trust_from(at);
    }

    /// A generation is over.
    pub fn forget(&self, key: LeaseKey) {
        self.change(|tables, _| {
            tables.leases.forget(key);
            tables.closings.forget(key);
            tables.sandboxes.remove(&key);
        });
    }

    /// What one proxy needs of a pool; holds as long as a lease would.
    pub fn demand(&self, proxy: &str, pool: &PoolId, demand: Demand) {
        self.change(|tables, now| {
            tables.proxies.sign(proxy, now);
            tables.demand.insert((pool.clone(), proxy.to_owned()), (demand, now));
        });
    }

    /// What all proxies together need of a pool. Not those that may be gone: their requests went with them, and clients send
    /// them again to another one, which tells of them too.
    pub fn total_demand(&self, pool: &PoolId) -> Demand {
        let now = self.clock.steady();
        let tables = self.tables.lock();
        let present = tables.proxies.present(now);
        let told = tables
            .demand_of(pool, now)
            .filter(|(proxy, ..)| present.contains(proxy));
        told.fold(Demand::default(), |sum, (_, demand, _)| Demand {
            in_flight: sum.in_flight.saturating_add(demand.in_flight),
            queued: sum.queued.saturating_add(demand.queued),
        })
    }

    /// When the first of them will be over unless it is told again.
    pub fn demand_until(&self, pool: &PoolId) -> Option<Timestamp> {
        let tables = self.tables.lock();
        let told = tables.demand_of(pool, self.clock.steady());
        let needed = told.filter(|(_, demand, _)| demand.total() > 0);
        needed.map(|(.., at)| later(at, LEASE_TTL)).min()
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
        let published = self.clock.steady();
        self.wait(|tables, now| {
            let (waited_for, silent) = tables.proxies.lagging(generation, published, now);
            for proxy in silent {
                tables.leases.drop_proxy(&proxy, now);
            }
            waited_for.is_empty()
        })
        .await;
    }

    /// Drops what expired, for ever.
    pub async fn sweep(&self) {
        loop {
            tokio::time::sleep(SWEEP).await;
            self.apply(|tables, now| {
                tables.leases.expire(now);
                for proxy in tables.proxies.expire(now) {
                    tables.leases.drop_proxy(&proxy, now);
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

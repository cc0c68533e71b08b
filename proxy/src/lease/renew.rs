//! How leases are renewed: what is held and how much it is used goes to control, and its share of each comes back.

use super::closing::Deadlines;
use super::pool::Pool;
use super::store::Kept;
use super::{LeaseKey, Leases};
use miren_api::lease::{AcquireResponse, ClosingLease, HeldLease, RENEW_INTERVAL, RenewResponse};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::Instant;

fn until(left: &ClosingLease, now: Instant) -> (LeaseKey, Deadlines) {
    let (requests, tunnels) = (left.requests_ms, left.tunnels_ms);
    let deadlines = Deadlines::after(Duration::from_millis(requests), Duration::from_millis(tunnels), now);
    (left.key(), deadlines)
}

impl Leases {
    /// Renews at times, and at once when control is there again; then every pool asks for what is new.
    pub(super) async fn keep_renewed(&self) {
        let mut tick = tokio::time::interval(RENEW_INTERVAL);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        tick.tick().await;
        loop {
            let is_known = tokio::select! {
                _ = tick.tick() => true,
                () = self.shared.ask_how_long.notified() => true,
                () = self.shared.renew_now.notified() => false,
            };
            self.renew().await;
            if !is_known {
                // Only now: an acquire of leases that control does not know would be taken for that of a newcomer.
                tick.reset();
                self.pools.load().values().for_each(Pool::refresh);
            }
        }
    }

    /// Tells control which leases are in use and how much. What control calls lost takes no further request.
    ///
    /// When control does not answer, leases go on: their words are the truth.
    async fn renew(&self) {
        let _alone = self.shared.telling.lock().await;
        // Before anything else is asked: one that refuses all that was said knows of no lease.
        while !self.is_heard().await {}
    }

    /// Tells it once. False if it is to be told again at once, in fewer words.
    async fn is_heard(&self) -> bool {
        let held = self.held();
        let demand = self.demand();
        let binding = &self.shared.binding;
        if held.is_empty() && demand.is_empty() || !binding.holds() {
            return true;
        }
        let pools: Vec<Arc<Pool>> = self.pools.load().values().cloned().collect();
        let before: Vec<u64> = pools.iter().map(|pool| pool.line.talk().exchanges).collect();
        match self.shared.control.renew(held, demand).await {
            Ok(answer) if !binding.holds_for(answer.identity.as_ref()) => {}
            Ok(answer) => {
                self.shared.hears_tunnels.store(answer.hears_tunnels, Ordering::Relaxed);
                self.apply(&answer, &pools);
                // Two answers about the same leases, and no telling which is the newer one: it is asked for again.
                let with = pools.iter().zip(before);
                let crossed = with.filter(|(pool, before)| before % 2 == 1 || pool.line.talk().exchanges != *before);
                crossed.for_each(|(pool, _)| pool.refresh());
            }
            // Perhaps one of an earlier release has taken over, which would refuse all of it for a word that it does not know.
            Err(error) if self.shared.hears_tunnels.swap(false, Ordering::Relaxed) => {
                tracing::debug!(%error, "leases could not be renewed; trying again in fewer words");
                return false;
            }
            Err(error) => tracing::debug!(%error, "leases could not be renewed; RUNNING sandboxes go on serving"),
        }
        true
    }

    /// What this proxy holds. Two leases of one generation, an earlier one whose last requests run out, are one to control.
    fn held(&self) -> Vec<HeldLease> {
        let hears_tunnels = self.shared.hears_tunnels.load(Ordering::Relaxed);
        let mut held: BTreeMap<LeaseKey, HeldLease> = BTreeMap::new();
        for lease in self.shared.held().iter().filter(|lease| !lease.is_given_back()) {
            let one = held.entry(lease.key).or_insert(HeldLease {
                node: lease.key.node,
                slot: lease.key.slot,
                generation: lease.key.generation,
                in_flight: 0,
                capacity: 0,
                tunnels: 0,
            });
            one.in_flight = one.in_flight.saturating_add(lease.in_flight());
            one.capacity = one.capacity.max(lease.capacity());
            if hears_tunnels {
                one.tunnels = one.tunnels.saturating_add(lease.tunnels());
            }
        }
        held.into_values().collect()
    }

    fn apply(&self, answer: &RenewResponse, pools: &[Arc<Pool>]) {
        let lost: HashSet<LeaseKey> = answer.lost.iter().copied().collect();
        for lease in self.shared.held().iter().filter(|lease| lost.contains(&lease.key)) {
            self.shared.end(lease);
        }
        let now = Instant::now();
        let closing: BTreeMap<LeaseKey, Deadlines> = answer.closing.iter().map(|left| until(left, now)).collect();
        for lease in self.shared.held().iter() {
            if let Some(deadlines) = closing.get(&lease.key) {
                lease.tell(*deadlines);
            }
        }
        let shares: BTreeMap<LeaseKey, u32> = answer
            .renewed
            .iter()
            .map(|lease| (lease.key(), lease.capacity))
            .collect();
        for pool in pools {
            for lease in pool.open.load().iter() {
                if let Some(share) = shares.get(&lease.key) {
                    lease.set_capacity(*share);
                }
            }
            pool.call_for_room();
        }
        self.shared.changed.notify_one();
    }
}

impl Pool {
    /// The leases that may be used, if control has said whose they are.
    pub(super) fn kept(&self) -> Option<Kept> {
        let pool = self.id()?;
        let open = self.open.load();
        let leases = open.iter().filter(|lease| !lease.is_closed());
        Some(Kept {
            pool,
            version: self.target.version.clone(),
            service: self.target.service.clone(),
            leases: leases.map(|lease| lease.granted()).collect(),
            never_twice: !self.hedges(),
        })
        .filter(|kept| !kept.leases.is_empty())
    }

    /// Uses kept leases whose word says RUNNING for exactly their generation.
    pub(super) fn restore(&self, kept: Kept) {
        self.install(AcquireResponse {
            pool: kept.pool,
            leases: kept.leases,
            ttl_ms: 0,
            answer: 0,
            identity: None,
            hedge: !kept.never_twice,
        });
    }
}

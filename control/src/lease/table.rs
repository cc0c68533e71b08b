//! Decides which leases are held and with which share: granted until a moment, renewed, given back, lost.

use super::share::{Claim, divide};
use crate::clock::later;
use jiff::Timestamp;
use miren_api::lease::{HeldLease, LEASE_TTL, LeaseKey};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How long it counts that a proxy asked for a lease and got none. One that waits asks again sooner.
const ASKED: Duration = Duration::from_secs(2);

/// What a proxy wants of one sandbox generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    pub key: LeaseKey,
    /// Concurrent requests the sandbox takes, from all proxies together.
    pub capacity: u32,
    /// Requests this proxy has for it, in flight and waiting.
    pub need: u32,
}

/// What a proxy gets of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Granted {
    pub key: LeaseKey,
    pub share: u32,
    /// The share it had; none when it held no lease.
    pub before: Option<u32>,
}

/// What a change means for others.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// Who should ask again: it has more than its part while another is short, or could have more.
    pub told: BTreeSet<(LeaseKey, String)>,
    /// Whether somebody who waits for a share may get one now.
    pub freed: bool,
}

#[derive(Debug, Default)]
struct Sandbox {
    capacity: u32,
    /// Gets no lease any more.
    closed: bool,
    stakes: BTreeMap<String, Stake>,
}

#[derive(Debug)]
struct Stake {
    share: u32,
    need: u32,
    /// False: it asked, there was nothing left, and it may not send a request.
    held: bool,
    until: Timestamp,
    /// Number of the answer that granted it last.
    answer: u64,
    /// Requests in flight and tunnels among them, as last reported.
    under_way: Option<UnderWay>,
}

/// What is under way to a sandbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UnderWay {
    /// Tunnels included.
    pub requests: u32,
    pub tunnels: u32,
}

/// Every lease, by sandbox generation and proxy. Time is an argument.
///
/// The shares on a generation never sum up to more than its capacity: a share grows only into what nobody has, and it
/// shrinks when its proxy is told so. Only when the capacity itself shrinks is there more for a while.
#[derive(Debug, Default)]
pub struct LeaseTable {
    sandboxes: BTreeMap<LeaseKey, Sandbox>,
    /// Proxies that do not follow control now.
    absent: BTreeSet<String>,
    /// Before this moment proxies may hold leases of an earlier process that they have not renewed yet.
    trusted_from: Option<Timestamp>,
    effects: Effects,
    /// Number of the answer that grants are for.
    answer: u64,
}

impl LeaseTable {
    /// What the changes since the last call mean for others.
    pub fn take_effects(&mut self) -> Effects {
        std::mem::take(&mut self.effects)
    }

    /// These may be gone: when another is short, their shares shrink unasked.
    pub fn set_absent(&mut self, absent: BTreeSet<String>) {
        self.absent = absent;
    }

    pub fn trust_from(&mut self, at: Timestamp) {
        self.trusted_from = Some(at);
    }

    /// Whether every lease there may be is known.
    pub fn is_trusted(&self, now: Timestamp) -> bool {
        self.trusted_from.is_none_or(|from| now >= from)
    }

    /// Grants a lease, or goes on with it; refused once the generation is closed. A share of 0 is no lease to begin with.
    pub fn grant(&mut self, proxy: &str, ask: Ask, now: Timestamp) -> Option<Granted> {
        let granted = self.settle(proxy, ask, None, now)?;
        let stake = self.sandboxes.get_mut(&ask.key)?.stakes.get_mut(proxy)?;
        stake.answer = self.answer;
        Some(granted)
    }

    /// What is granted from now on goes out with this answer.
    pub fn begin_answer(&mut self, number: u64) {
        self.answer = number;
    }

    /// Goes on with a lease; one that is not known, of an earlier process, with the share it says it has if that is free.
    pub fn renew(&mut self, proxy: &str, held: HeldLease, ask: Ask, now: Timestamp) -> Option<Granted> {
        let granted = self.settle(proxy, ask, Some(held.capacity), now)?;
        self.hold(proxy, held, now);
        Some(granted)
    }

    fn settle(&mut self, proxy: &str, ask: Ask, claimed: Option<u32>, now: Timestamp) -> Option<Granted> {
        let Self { sandboxes, absent, .. } = self;
        let sandbox = sandboxes.entry(ask.key).or_default();
        if sandbox.closed {
            return None;
        }
        sandbox.capacity = ask.capacity;
        let before = sandbox
            .stakes
            .get(proxy)
            .filter(|stake| stake.held)
            .map(|stake| stake.share);
        let is_new = !sandbox.stakes.contains_key(proxy);
        let stake = sandbox.stakes.entry(proxy.to_owned()).or_insert(Stake::new(now));
        stake.need = ask.need;
        let parts = sandbox.parts(ask.key, absent, now);
        let mut freed = false;
        if !absent.contains(proxy) {
            for (name, stake) in sandbox.stakes.iter_mut().filter(|(name, _)| absent.contains(*name)) {
                freed |= stake.shrink(parts[name]);
            }
        }
        let is_lone = sandbox.stakes.len() == 1;
        let ceiling = match before {
            None => claimed,
            // Others may be there that have not been heard of since this process began.
            Some(share) if is_lone && share > 0 && self.trusted_from.is_some_and(|from| now < from) => Some(share),
            Some(_) => None,
        };
        let free = sandbox.capacity.saturating_sub(sandbox.taken());
        let stake = sandbox.stakes.get_mut(proxy)?;
        let available = stake.share.saturating_add(free);
        let share = parts[proxy].min(available).min(ceiling.unwrap_or(u32::MAX));
        freed |= stake.shrink(share);
        stake.share = share;
        stake.held |= share > 0;
        stake.until = later(now, if stake.held { LEASE_TTL } else { ASKED });
        self.effects.freed |= freed;
        self.tell(ask.key, Some((proxy, is_new)), now);
        Some(Granted {
            key: ask.key,
            share,
            before,
        })
    }

    /// Notes that a proxy still has requests in flight to this generation, whether or not it may begin others.
    pub fn hold(&mut self, proxy: &str, held: HeldLease, now: Timestamp) {
        let sandbox = self.sandboxes.entry(held.key()).or_default();
        let stake = sandbox.stakes.entry(proxy.to_owned()).or_insert(Stake::new(now));
        stake.held = true;
        stake.under_way = Some(UnderWay {
            requests: held.in_flight,
            tunnels: held.tunnels.min(held.in_flight),
        });
        stake.until = later(now, LEASE_TTL);
    }

    /// As [`LeaseTable::release`], by a proxy that knows the answers up to `seen`: a later one granted the lease again.
    pub fn give_back(&mut self, proxy: &str, key: LeaseKey, seen: u64, now: Timestamp) {
        let stake = self.sandboxes.get(&key).and_then(|sandbox| sandbox.stakes.get(proxy));
        if stake.is_some_and(|stake| stake.answer <= seen) {
            self.release(proxy, key, now);
        }
    }

    pub fn release(&mut self, proxy: &str, key: LeaseKey, now: Timestamp) {
        if let Some(sandbox) = self.sandboxes.get_mut(&key) {
            sandbox.stakes.remove(proxy);
            self.left(key, now);
        }
    }

    /// From now on nobody gets a lease on this generation; the leases there are stay until released or expired.
    pub fn close(&mut self, key: LeaseKey) {
        self.sandboxes.entry(key).or_default().closed = true;
    }

    /// The generation is over: nothing about it is kept.
    pub fn forget(&mut self, key: LeaseKey) {
        self.sandboxes.remove(&key);
    }

    /// A proxy is gone: so are its leases.
    pub fn drop_proxy(&mut self, proxy: &str, now: Timestamp) {
        self.retain(now, |name, _| name != proxy);
    }

    /// Drops the leases that nobody renewed.
    pub fn expire(&mut self, now: Timestamp) {
        self.retain(now, |_, stake| stake.until > now);
    }

    fn retain(&mut self, now: Timestamp, keep: impl Fn(&str, &Stake) -> bool) {
        let mut fewer = Vec::new();
        for (key, sandbox) in &mut self.sandboxes {
            let count = sandbox.stakes.len();
            sandbox.stakes.retain(|name, stake| keep(name, stake));
            if sandbox.stakes.len() < count {
                fewer.push(*key);
            }
        }
        for key in fewer {
            self.left(key, now);
        }
    }

    /// Somebody gave up a stake in this generation.
    fn left(&mut self, key: LeaseKey, now: Timestamp) {
        self.effects.freed = true;
        self.tell(key, None, now);
        if self
            .sandboxes
            .get(&key)
            .is_some_and(|sandbox| !sandbox.closed && sandbox.stakes.is_empty())
        {
            self.sandboxes.remove(&key);
        }
    }

    /// Notes who should ask again after a change by `actor`, which knows what it got. Its flag says that it came just now.
    fn tell(&mut self, key: LeaseKey, actor: Option<(&str, bool)>, now: Timestamp) {
        let Some(sandbox) = self.sandboxes.get(&key).filter(|sandbox| !sandbox.closed) else {
            return;
        };
        let parts = sandbox.parts(key, &self.absent, now);
        let is_free = sandbox.taken() < sandbox.capacity;
        let has_come = actor.is_some_and(|(_, is_new)| is_new);
        let mut stakes = sandbox.stakes.iter();
        let is_short = stakes.any(|(name, stake)| stake.share < parts[name] && (stake.share < stake.need || has_come));
        let others = sandbox
            .stakes
            .iter()
            .filter(|(name, _)| actor.is_none_or(|(actor, _)| actor != *name));
        let told = others.filter(|(name, stake)| {
            (is_short && stake.share > parts[*name]) || (is_free && stake.share < parts[*name])
        });
        self.effects.told.extend(told.map(|(name, _)| (key, name.clone())));
    }

    /// Whether no proxy has a lease on this generation.
    pub fn is_idle(&self, key: LeaseKey) -> bool {
        self.holders(key) == 0
    }

    /// Which proxies have a lease on this generation.
    pub fn held_by(&self, key: LeaseKey) -> impl Iterator<Item = &str> {
        let stakes = self.sandboxes.get(&key).map(|sandbox| &sandbox.stakes);
        let held = stakes.into_iter().flatten().filter(|(_, stake)| stake.held);
        held.map(|(proxy, _)| &**proxy)
    }

    /// How many proxies have a lease on this generation.
    pub fn holders(&self, key: LeaseKey) -> usize {
        self.sandboxes.get(&key).map_or(0, |sandbox| sandbox.leases().count())
    }

    /// What is under way to this generation, as last reported by those who have a lease on it.
    pub fn under_way(&self, key: LeaseKey) -> UnderWay {
        let leases = self.sandboxes.get(&key).into_iter().flat_map(Sandbox::leases);
        let reported = leases.filter_map(|stake| stake.under_way);
        reported.fold(UnderWay::default(), |sum, one| UnderWay {
            requests: sum.requests.saturating_add(one.requests),
            tunnels: sum.tunnels.saturating_add(one.tunnels),
        })
    }

    /// Requests in flight to all generations, and tunnels among them.
    pub fn all_under_way(&self) -> (u64, u64) {
        let leases = self.sandboxes.values().flat_map(Sandbox::leases);
        let reported = leases.filter_map(|stake| stake.under_way);
        reported.fold((0, 0), |(requests, tunnels), one| {
            (requests + u64::from(one.requests), tunnels + u64::from(one.tunnels))
        })
    }

    /// All shares on this generation together.
    pub fn taken(&self, key: LeaseKey) -> u32 {
        self.sandboxes.get(&key).map_or(0, Sandbox::taken)
    }

    pub fn len(&self) -> usize {
        self.sandboxes.values().map(|sandbox| sandbox.leases().count()).sum()
    }

    /// Whether there is nothing in it: no lease, nobody who asked for one, and no generation that was closed.
    pub fn is_empty(&self) -> bool {
        self.sandboxes.is_empty()
    }
}

impl Sandbox {
    fn leases(&self) -> impl Iterator<Item = &Stake> {
        self.stakes.values().filter(|stake| stake.held)
    }

    fn taken(&self) -> u32 {
        let shares = self.stakes.values().map(|stake| stake.share);
        shares.fold(0, u32::saturating_add)
    }

    /// What each proxy should have.
    fn parts(&self, key: LeaseKey, absent: &BTreeSet<String>, now: Timestamp) -> BTreeMap<String, u32> {
        let claim = |(name, stake): (&String, &Stake)| Claim {
            need: stake.need,
            present: !absent.contains(name),
        };
        let claims: Vec<Claim> = self.stakes.iter().map(claim).collect();
        let is_short = (self.capacity as usize) < claims.len();
        // What does not go round is not always the same proxy's, neither on every sandbox nor, if it is all, for ever.
        let turn = u64::from(key.slot) + if is_short { now.as_second().unsigned_abs() } else { 0 };
        let parts = divide(self.capacity, &claims, turn);
        self.stakes.keys().cloned().zip(parts).collect()
    }
}

impl Stake {
    fn new(now: Timestamp) -> Self {
        Self {
            share: 0,
            need: 0,
            held: false,
            until: now,
            answer: 0,
            under_way: None,
        }
    }

    /// Takes away what is above `part`; says whether that was something.
    fn shrink(&mut self, part: u32) -> bool {
        let is_less = part < self.share;
        self.share = self.share.min(part);
        is_less
    }
}

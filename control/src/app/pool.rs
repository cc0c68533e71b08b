//! Decides how many sandboxes a pool has: which to start, which to drain, and when to look again.

use crate::app::crash::healthy_after;
use crate::app::turn::Turn;
use crate::clock::{later, since};
use crate::record::{PoolRecord, SandboxRecord};
use jiff::Timestamp;
use miren_api::app_file::{Concurrency, FIXED_CAPACITY};
use miren_api::id::SandboxId;
use miren_api::lease::Demand;
use miren_api::resource::SandboxState;
use std::collections::BTreeSet;
use std::time::Duration;

#[cfg(test)]
mod tests;

/// Sandboxes of one pool that may be starting at once: a large pool must not starve its neighbours.
const STARTING_AT_ONCE: usize = 8;

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start a sandbox with this `MIREN_INSTANCE_NUM`.
    Start { number: u32 },
    /// No new requests to it; stop it when those in flight are done.
    Drain { id: SandboxId, reason: &'static str },
}

/// What a pool shall become.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub desired: u32,
    pub low_since: Option<Timestamp>,
    pub actions: Vec<Action>,
    /// When to plan again although nothing has happened.
    pub wake: Option<Timestamp>,
}

/// What is asked of a pool from outside.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted {
    /// What proxies need of it, or will once its deploy has switched.
    pub demand: Demand,
    /// A deploy waits for it: it has at least one sandbox, whatever the demand.
    pub deploying: bool,
    /// The node drains: what is asked of the pool from now on makes it no larger than this.
    pub at_most: Option<u32>,
    /// Whether its disks are its own now.
    pub turn: Turn,
    /// The node could not start its last one: when it may be tried again. One shows whether the fault is over.
    pub retry_at: Option<Timestamp>,
}

/// A sandbox of the pool, and whether requests were in flight to it when proxies last reported.
#[derive(Clone, Copy, Debug)]
pub struct Member<'r> {
    pub sandbox: &'r SandboxRecord,
    pub in_use: bool,
}

impl std::ops::Deref for Member<'_> {
    type Target = SandboxRecord;

    fn deref(&self) -> &SandboxRecord {
        self.sandbox
    }
}

/// Plans one pool from its own sandboxes, whatever version they were started for.
pub fn plan(pool: &PoolRecord, seen: &[Member<'_>], wanted: Wanted, now: Timestamp) -> Plan {
    let living: Vec<Member<'_>> = seen.iter().copied().filter(|sandbox| sandbox.counts()).collect();
    if pool.is_retiring() {
        return retire(&living, "its pool is retired");
    }
    let mut plan = size(pool, wanted, now);
    if wanted.turn == Turn::GivesWay {
        plan.actions = retire(&living, "a newer version takes its disk over").actions;
        return plan;
    }
    let desired = plan.desired as usize;
    if living.len() < desired && wanted.turn == Turn::Waits {
        // The end of the sandbox that is waited for makes another plan.
    } else if living.len() < desired {
        match wanted.retry_at {
            None => grow(&mut plan, pool, seen, desired - living.len(), now),
            Some(at) if now < at => plan.wake = earliest(plan.wake, Some(at)),
            Some(_) if living.iter().any(|sandbox| sandbox.state == SandboxState::Pending) => {}
            Some(_) => grow(&mut plan, pool, seen, 1, now),
        }
    } else {
        shrink(&mut plan, pool, living.clone(), desired);
    }
    let healthy_at = healthy_at(pool, &living);
    plan.wake = earliest(plan.wake, healthy_at.filter(|at| *at > now));
    plan
}

fn retire(living: &[Member<'_>], reason: &'static str) -> Plan {
    let drain = |sandbox: &Member<'_>| Action::Drain {
        id: sandbox.id.clone(),
        reason,
    };
    Plan {
        actions: living.iter().map(drain).collect(),
        ..Plan::default()
    }
}

/// The earlier of two moments, either of which may not exist.
pub fn earliest(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    a.into_iter().chain(b).min()
}

/// Smallest size that all versions referring to the pool are content with.
fn floor(pool: &PoolRecord, wanted: Wanted) -> u32 {
    let nothing_to_do = Wanted {
        demand: Demand::default(),
        ..wanted
    };
    let floors = pool.references.iter();
    floors
        .map(|reference| needed(&reference.concurrency, nothing_to_do))
        .max()
        .unwrap_or(0)
}

/// How many sandboxes a service with this concurrency needs: `clamp(ceil(requests / requests_per_instance), min, max)`.
pub fn needed(concurrency: &Concurrency, wanted: Wanted) -> u32 {
    match *concurrency {
        Concurrency::Fixed { count } => count,
        Concurrency::Auto {
            requests_per_instance,
            min,
            max,
            ..
        } => {
            let busy = wanted.demand.total().div_ceil(u64::from(requests_per_instance.max(1)));
            let floor = min.max(u32::from(wanted.deploying));
            u32::try_from(busy).unwrap_or(u32::MAX).min(max).max(floor)
        }
    }
}

/// Concurrent requests one of its sandboxes takes.
pub fn capacity(pool: &PoolRecord) -> u32 {
    match pool.newest().map(|reference| reference.concurrency) {
        Some(Concurrency::Auto {
            requests_per_instance, ..
        }) => requests_per_instance.max(1),
        _ => FIXED_CAPACITY,
    }
}

/// Grows at once, shrinks after less has been enough for `scale_down_delay`.
fn size(pool: &PoolRecord, wanted: Wanted, now: Timestamp) -> Plan {
    let floor = floor(pool, wanted);
    let mut plan = Plan {
        desired: floor,
        ..Plan::default()
    };
    let newest = pool.newest().map(|reference| reference.concurrency);
    let Some(
        concurrency @ Concurrency::Auto {
            scale_down_delay, max, ..
        },
    ) = newest
    else {
        return plan;
    };
    let needed = needed(&concurrency, wanted)
        .min(wanted.at_most.unwrap_or(u32::MAX))
        .max(floor);
    plan.desired = needed;
    let ceiling = max.max(floor);
    if needed < pool.desired.min(ceiling) {
        let low_since = pool.low_since.unwrap_or(now);
        if since(now, low_since) < scale_down_delay {
            plan.desired = pool.desired.min(ceiling);
            plan.low_since = Some(low_since);
            plan.wake = Some(later(low_since, scale_down_delay));
        }
    }
    plan
}

fn grow(plan: &mut Plan, pool: &PoolRecord, seen: &[Member<'_>], missing: usize, now: Timestamp) {
    if let Some(wait) = pool.crash.cooldown(now) {
        plan.wake = earliest(plan.wake, Some(later(now, wait)));
        return;
    }
    let starting = seen
        .iter()
        .filter(|sandbox| sandbox.state == SandboxState::Pending)
        .count();
    // After a crash one sandbox shows whether it is over; the others follow when it is RUNNING.
    let at_once = match pool.crash.count {
        0 => STARTING_AT_ONCE,
        _ if seen.iter().any(|sandbox| sandbox.state == SandboxState::Running) => STARTING_AT_ONCE,
        _ => 1,
    };
    let taken: BTreeSet<u32> = seen
        .iter()
        .filter(|sandbox| !sandbox.state.is_terminal())
        .map(|sandbox| sandbox.number)
        .collect();
    let free = (0..).filter(|number| !taken.contains(number));
    let starts = free.take(missing.min(at_once.saturating_sub(starting)));
    plan.actions.extend(starts.map(|number| Action::Start { number }));
}

/// Drains what is too many: those still starting first, then idle ones, those with the highest numbers first. Less load
/// is no reason to drain one in use: its turn comes when it is idle. A smaller number of the app's own is.
fn shrink(plan: &mut Plan, pool: &PoolRecord, mut living: Vec<Member<'_>>, wanted: usize) {
    let by_load = matches!(
        pool.newest().map(|reference| reference.concurrency),
        Some(Concurrency::Auto { .. })
    );
    living.sort_by_key(|sandbox| (sandbox.state != SandboxState::Running, !sandbox.in_use, sandbox.number));
    let surplus = living.split_off(wanted.min(living.len()));
    let surplus = surplus.into_iter().filter(|sandbox| !(by_load && sandbox.in_use));
    plan.actions.extend(surplus.map(|sandbox| Action::Drain {
        id: sandbox.id.clone(),
        reason: "fewer sandboxes are needed",
    }));
}

/// When a row of crashes will be over if nothing happens until then.
fn healthy_at(pool: &PoolRecord, living: &[Member<'_>]) -> Option<Timestamp> {
    if pool.crash.count == 0 && pool.crash.early == 0 {
        return None;
    }
    let oldest = living.iter().filter_map(|sandbox| sandbox.running_at).min()?;
    Some(later(oldest, healthy_after(pool.crash.count)))
}

/// How long the sandbox that has been RUNNING longest has been so.
pub fn longest_run(seen: &[&SandboxRecord], now: Timestamp) -> Option<Duration> {
    let running = seen.iter().filter(|sandbox| sandbox.state == SandboxState::Running);
    running
        .filter_map(|sandbox| Some(since(now, sandbox.running_at?)))
        .max()
}

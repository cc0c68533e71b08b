//! Decides how a pool's plan is carried out: saved first, then started or drained.

use super::book::Book;
use super::previewing::Making;
use super::{WRITE_AGAIN, wanting};
use crate::app::pool::{self, Action, Member, Plan, earliest};
use crate::app::spec;
use crate::app::{Hint, Owners, World};
use crate::clock::{later, shifted};
use crate::executor::Executor;
use crate::lease::Desk;
use crate::record::{Deadlines, SandboxRecord, Stored};
use futures_util::FutureExt;
use jiff::Timestamp;
use miren_api::id::{NodeId, PoolId, SandboxId};
use miren_api::resource::{Sandbox, SandboxState};
use miren_api::{ApiError, ErrorCode};
use miren_sandbox::Budgets;
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::sync::broadcast;

/// Why a sandbox ends with the node.
const NODE_DRAINS: &str = "the node drains";

/// What runs the sandboxes of an app, and who is told of them.
pub(super) struct Runner {
    pub executor: Arc<dyn Executor>,
    pub desk: Desk,
    pub hints: broadcast::Sender<Hint>,
    pub owners: Owners,
    /// Where they run.
    pub node: NodeId,
    /// Sandboxes that have been told to drain.
    pub draining: BTreeSet<SandboxId>,
}

impl Runner {
    pub fn new(world: &World) -> Self {
        Self {
            executor: Arc::clone(&world.executor),
            desk: world.desk.clone(),
            hints: world.hints.clone(),
            owners: Arc::clone(&world.owners),
            node: world.nodes.own(),
            draining: BTreeSet::new(),
        }
    }
}

/// The pools of an app and their sandboxes, over its records.
pub(super) struct Pools<'t> {
    pub book: &'t mut Book,
    pub runner: &'t mut Runner,
    pub making: &'t Making,
}

impl Pools<'_> {
    /// Plans one pool and does it; returns when to plan it again.
    pub async fn settle(&mut self, id: &PoolId) -> Option<Timestamp> {
        if self.book.stopping.is_some() {
            // The drain of the node says what becomes of its sandboxes.
            return None;
        }
        let now = self.book.now();
        let mut plan = self.plan_pool(id, now)?;
        // Who told of a demand may never tell of its end.
        let until = self
            .runner
            .desk
            .demand_until(id)
            .map(|steady| shifted(steady, self.book.offset));
        plan.wake = earliest(plan.wake, until);
        let mut started = Vec::new();
        for action in &plan.actions {
            match action {
                Action::Start { number } => started.extend(self.prepare(id, *number, now)),
                Action::Drain { id, reason } => self.drain(id, reason),
            }
        }
        if started.is_empty() {
            return plan.wake;
        }
        if !self.book.commit().await {
            for id in started {
                self.book.held.started(&id);
                if let Some(sandbox) = self.book.state.remove(&id) {
                    self.book.ledger.delete(sandbox.key());
                }
            }
            return Some(later(now, WRITE_AGAIN));
        }
        started.iter().for_each(|id| self.start(id));
        plan.wake
    }

    fn plan_pool(&mut self, id: &PoolId, now: Timestamp) -> Option<Plan> {
        let mut record = self.book.state.pools.get(id)?.clone();
        let asked = wanting::of(&record, self.book, self.making, &self.runner.desk);
        let members: Vec<&SandboxRecord> = self.book.state.members(id).collect();
        let ran = pool::longest_run(&members, now);
        let mut changed = ran.is_some_and(|ran_for| record.crash.note_healthy(ran_for));
        let members: Vec<Member<'_>> = members.into_iter().map(|sandbox| self.member(sandbox)).collect();
        let plan = pool::plan(&record, &members, asked, now);
        if plan.desired as usize
            <= members
                .iter()
                .filter(|member| member.state == SandboxState::Running)
                .count()
        {
            // Nothing is missing that the node could not start.
            self.book.faults.clear(id);
        }
        changed |= (plan.desired, plan.low_since) != (record.desired, record.low_since);
        if changed {
            record.desired = plan.desired;
            record.low_since = plan.low_since;
            self.book.ledger.put(&record);
            self.book.state.pools.insert(id.clone(), record);
        }
        Some(plan)
    }

    fn member<'r>(&self, sandbox: &'r SandboxRecord) -> Member<'r> {
        let key = sandbox.lease_key();
        Member {
            sandbox,
            in_use: key.is_some_and(|key| self.runner.desk.in_flight(key) > 0),
        }
    }

    fn prepare(&mut self, pool: &PoolId, number: u32, now: Timestamp) -> Option<SandboxId> {
        let pool = self.book.state.pools.get(pool)?;
        let permit = self.book.admission.start()?;
        let version = pool.newest()?.version.clone();
        let sandbox = SandboxRecord::new(pool, version, self.runner.node, number, now);
        let id = sandbox.id.clone();
        self.book.ledger.put(&sandbox);
        self.book.state.insert(sandbox);
        self.book.held.starts(id.clone(), permit);
        Some(id)
    }

    fn start(&self, id: &SandboxId) {
        let Some(sandbox) = self.book.state.sandbox(id) else {
            return;
        };
        let Some(pool) = self.book.state.pools.get(&sandbox.pool) else {
            return;
        };
        self.runner.owners.lock().insert(id.clone(), sandbox.app.clone());
        self.book.metrics.starts.inc();
        self.runner.executor.start(spec::order(pool, sandbox));
    }

    /// Lets a sandbox go: no new leases, then its word, then the wait for the leases there are.
    pub fn drain(&mut self, id: &SandboxId, reason: &str) {
        let lives = |sandbox: &SandboxRecord| !sandbox.state.is_terminal();
        if self.book.state.sandbox(id).is_some_and(lives) && self.runner.draining.insert(id.clone()) {
            self.let_go(id, reason);
        }
    }

    /// The node stops: what drains already has no more time than the node gives.
    pub fn hurry(&mut self) {
        for id in self.runner.draining.clone() {
            self.let_go(&id, NODE_DRAINS);
        }
    }

    /// The wall clock was set: the next daemon goes by it, too.
    pub fn keep_deadlines(&mut self) {
        let draining = self.runner.draining.iter();
        let records = draining.filter_map(|id| self.book.state.sandbox(id));
        records.for_each(|sandbox| self.book.ledger.put(sandbox));
    }

    /// What the service of a sandbox gives it when it has to go, or the node where that is less.
    pub fn budgets(&self, sandbox: &SandboxRecord) -> Budgets {
        let pool = self.book.state.pools.get(&sandbox.pool);
        let run = self.book.state.runs.get(&sandbox.id);
        let own = match (pool, run) {
            (Some(pool), _) => Budgets::of(&pool.spec),
            // Nothing was ever sent to it.
            (None, Some(run)) => Budgets {
                grace: run.spec.service.shutdown_timeout,
                ..Budgets::NONE
            },
            (None, None) => Budgets::NONE,
        };
        self.book.stopping.map_or(own, |most| own.at_most(most))
    }

    /// Done again, by this process or the next, it may only end sooner.
    fn let_go(&mut self, id: &SandboxId, reason: &str) {
        let now = self.book.now();
        let Some(sandbox) = self.book.state.sandbox(id) else {
            return;
        };
        let whole = self.budgets(sandbox);
        let deadlines = Deadlines::of(sandbox.deadlines, whole, now);
        let budgets = deadlines.left(whole, now);
        let key = sandbox.lease_key();
        if let Some(sandbox) = self.book.state.sandbox_mut(id) {
            sandbox.deadlines = Some(deadlines);
            self.book.ledger.put(&*sandbox);
        }
        let idle = match key {
            Some(key) => self.runner.desk.close(key, budgets).boxed(),
            None => std::future::ready(()).boxed(),
        };
        self.runner.executor.drain(id, reason, budgets, idle);
    }

    pub fn stop_sandbox(&mut self, id: &SandboxId) -> Result<Sandbox, ApiError> {
        match self.book.state.sandbox(id) {
            None => return Err(ApiError::new(ErrorCode::NotFound, format!("there is no sandbox {id}"))),
            Some(sandbox) if sandbox.state.is_terminal() => {
                let state = sandbox.state.as_str();
                return Err(ApiError::new(
                    ErrorCode::Conflict,
                    format!("sandbox {id} is {state} already"),
                ));
            }
            Some(_) => self.drain(id, "stopped by request"),
        }
        self.book.publish();
        let found = self.book.shown().sandboxes.get(id).cloned();
        found.ok_or_else(|| ApiError::new(ErrorCode::NotFound, format!("there is no sandbox {id}")))
    }
}

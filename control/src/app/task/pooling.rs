//! Decides how a pool's plan is carried out: saved first, then started or drained.

use super::{Task, WRITE_AGAIN};
use crate::app::pool::{self, Action, Member, Plan, Wanted, earliest};
use crate::app::spec;
use crate::app::turn::{self, Rival, Turn};
use crate::clock::{later, shifted};
use crate::record::{PoolRecord, SandboxRecord, Stored};
use futures_util::FutureExt;
use jiff::Timestamp;
use miren_api::id::{PoolId, SandboxId};
use miren_api::lease::Demand;
use miren_api::resource::{Sandbox, SandboxState};
use miren_api::{ApiError, ErrorCode};
use miren_sandbox::{Budgets, Facts};

/// Why a sandbox ends with the node.
const NODE_DRAINS: &str = "the node drains";

impl Task {
    /// Plans one pool and does it; returns when to plan it again.
    pub(super) async fn settle(&mut self, id: &PoolId) -> Option<Timestamp> {
        if self.stopping.is_some() {
            // The drain of the node says what becomes of its sandboxes.
            return None;
        }
        let now = self.now();
        let mut plan = self.plan_pool(id, now)?;
        // Who told of a demand may never tell of its end.
        let until = self
            .world
            .desk
            .demand_until(id)
            .map(|steady| shifted(steady, self.offset));
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
        if !self.commit().await {
            for id in started {
                self.held.started(&id);
                if let Some(sandbox) = self.state.remove(&id) {
                    self.ledger.delete(sandbox.key());
                }
            }
            return Some(later(now, WRITE_AGAIN));
        }
        started.iter().for_each(|id| self.start(id));
        plan.wake
    }

    fn plan_pool(&mut self, id: &PoolId, now: Timestamp) -> Option<Plan> {
        let mut record = self.state.pools.get(id)?.clone();
        let asked = self.wanted(&record);
        let members = self.state.members(id);
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
            self.world.node_faults.clear(id);
        }
        changed |= (plan.desired, plan.low_since) != (record.desired, record.low_since);
        if changed {
            record.desired = plan.desired;
            record.low_since = plan.low_since;
            self.ledger.put(&record);
            self.state.pools.insert(id.clone(), record);
        }
        Some(plan)
    }

    fn member<'r>(&self, sandbox: &'r SandboxRecord) -> Member<'r> {
        let key = sandbox.lease_key();
        Member {
            sandbox,
            in_use: key.is_some_and(|key| self.world.desk.in_flight(key) > 0),
        }
    }

    /// What proxies and deploys want of a pool. One that a deploy prepares is to take over what its service does now.
    pub(super) fn wanted(&self, pool: &PoolRecord) -> Wanted {
        let desk = &self.world.desk;
        let own = desk.total_demand(&pool.id);
        let waits = |seq: u64| {
            let deploy = self.state.deploys.get(&seq);
            deploy.is_some_and(|deploy| deploy.starting_at.is_some()) || self.making.is_starting(seq)
        };
        let deploying = pool.references.iter().any(|reference| waits(reference.seq));
        let same = |other: &&PoolRecord| other.service == pool.service && other.label == pool.label;
        let of_service = self.state.pools.values().filter(same);
        let most = |most: Demand, other: Demand| match most.total() < other.total() {
            true => other,
            false => most,
        };
        Wanted {
            demand: match deploying {
                true => of_service.map(|other| desk.total_demand(&other.id)).fold(own, most),
                false => own,
            },
            deploying,
            at_most: (!self.world.admission.grows()).then_some(pool.desired),
            turn: self.turn(pool),
            retry_at: self
                .world
                .node_faults
                .of(&pool.id)
                .map(|met| shifted(met.retry_at, self.offset)),
        }
    }

    fn turn(&self, pool: &PoolRecord) -> Turn {
        if pool.spec.disks.is_empty() {
            return Turn::Own;
        }
        let rival = |pool| Rival {
            pool,
            live: self
                .state
                .members(&pool.id)
                .iter()
                .any(|sandbox| !sandbox.state.is_terminal()),
        };
        let leaves = |sandbox: &&SandboxRecord| !sandbox.state.is_terminal() && !sandbox.counts();
        let leaves = self.state.members(&pool.id).iter().any(leaves);
        turn::of(pool, leaves, self.state.pools.values().map(rival))
    }

    fn prepare(&mut self, pool: &PoolId, number: u32, now: Timestamp) -> Option<SandboxId> {
        let pool = self.state.pools.get(pool)?;
        let permit = self.world.admission.start()?;
        let sandbox = SandboxRecord {
            id: SandboxId::generate(),
            app: pool.app.clone(),
            service: pool.service.clone(),
            version: pool.newest()?.version.clone(),
            pool: pool.id.clone(),
            number,
            state: SandboxState::Pending,
            reason: None,
            facts: Facts::default(),
            created_at: now,
            running_at: None,
            ended_at: None,
            unseen: false,
            node_fault: None,
        };
        let id = sandbox.id.clone();
        self.ledger.put(&sandbox);
        self.state.insert(sandbox);
        self.held.starts(id.clone(), permit);
        Some(id)
    }

    fn start(&self, id: &SandboxId) {
        let Some(sandbox) = self.state.sandbox(id) else { return };
        let Some(pool) = self.state.pools.get(&sandbox.pool) else {
            return;
        };
        self.world.owners.lock().insert(id.clone(), sandbox.app.clone());
        self.world.metrics.starts.inc();
        self.world
            .executor
            .start(spec::order(pool, sandbox, &self.world.artifacts));
    }

    /// Lets a sandbox go: no new leases, then its word, then the wait for the leases there are.
    pub(super) fn drain(&mut self, id: &SandboxId, reason: &str) {
        let Some(sandbox) = self.state.sandbox(id) else { return };
        if !sandbox.state.is_terminal() && self.draining.insert(id.clone()) {
            self.let_go(id, reason);
        }
    }

    /// The node stops: what drains already has no more time than the node gives.
    pub(super) fn hurry(&self) {
        self.draining.iter().for_each(|id| self.let_go(id, NODE_DRAINS));
    }

    /// Done again, it may only end sooner.
    fn let_go(&self, id: &SandboxId, reason: &str) {
        let Some(sandbox) = self.state.sandbox(id) else { return };
        let service = self.state.pools.get(&sandbox.pool).map(|pool| Budgets::of(&pool.spec));
        let own = service.unwrap_or(Budgets::NONE);
        let budgets = self.stopping.map_or(own, |most| own.at_most(most));
        let idle = match sandbox.lease_key() {
            Some(key) => self.world.desk.close(key, budgets).boxed(),
            None => std::future::ready(()).boxed(),
        };
        self.world.executor.drain(id, reason, budgets, idle);
    }

    pub(super) fn stop_sandbox(&mut self, id: &SandboxId) -> Result<Sandbox, ApiError> {
        match self.state.sandbox(id) {
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
        self.publish();
        let view = self.view.borrow().clone();
        let found = view.sandboxes.iter().find(|sandbox| sandbox.id == *id).cloned();
        found.ok_or_else(|| ApiError::new(ErrorCode::NotFound, format!("there is no sandbox {id}")))
    }
}

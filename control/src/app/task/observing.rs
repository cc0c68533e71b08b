//! Decides what a sandbox's news change: its record, its leases, its pool's crashes.

use super::pooling::Pools;
use crate::app::Hint;
use crate::app::crash::Death;
use crate::clock::since;
use crate::lease::Leased;
use crate::record::{SandboxRecord, Stored, no_pool};
use miren_api::resource::{NodeFault, SandboxState};
use miren_sandbox::{Budgets, EndedBy, SandboxChange};

/// Why a sandbox drains of which nothing else is known.
const DRAINED_BEFORE: &str = "it was draining when control restarted";

impl Pools<'_> {
    /// Takes over what was adopted: from now on the lease desk knows every sandbox that lives.
    pub fn take_over(&mut self, changes: Vec<SandboxChange>) {
        let known: Vec<SandboxRecord> = self.book.state.sandboxes().cloned().collect();
        for sandbox in &known {
            self.introduce(sandbox);
        }
        for change in changes {
            self.observe(change, false);
        }
    }

    /// Goes on with drains that an earlier process began.
    pub fn recover(&mut self) {
        let half_stopped =
            |sandbox: &&SandboxRecord| matches!(sandbox.state, SandboxState::Draining | SandboxState::Stopping);
        let half_stopped: Vec<_> = self
            .book
            .state
            .sandboxes()
            .filter(half_stopped)
            .map(|s| s.id.clone())
            .collect();
        for id in half_stopped {
            self.drain(&id, DRAINED_BEFORE);
        }
    }

    /// Takes in a state that a sandbox has reached. Ends are final, and no state is left upwards.
    pub fn observe(&mut self, change: SandboxChange, may_be_crash: bool) {
        let now = self.book.now();
        let known = self.book.state.sandbox(&change.id);
        let budgets = known.map_or(Budgets::NONE, |sandbox| self.budgets(sandbox));
        let Some(sandbox) = self.book.state.sandbox_mut(&change.id) else {
            tracing::warn!(sandbox = %change.id, "news of a sandbox this app does not know");
            return;
        };
        if sandbox.state.is_terminal() || change.state < sandbox.state {
            return;
        }
        let before = sandbox.clone();
        sandbox.state = change.state;
        sandbox.facts = change.facts;
        sandbox.reason = change.reason.or(sandbox.reason.take());
        match change.state {
            SandboxState::Running => sandbox.running_at = sandbox.running_at.or(Some(now)),
            SandboxState::Stopped | SandboxState::Dead => sandbox.ended_at = Some(now),
            SandboxState::Stopping => {
                if let Some(deadlines) = &mut sandbox.deadlines {
                    deadlines.stops(budgets, now);
                }
            }
            SandboxState::Pending | SandboxState::Draining => {}
        }
        sandbox.node_fault = change.node_fault;
        sandbox.unseen |= change.state.is_terminal() && !may_be_crash;
        let after = sandbox.clone();
        tracing::debug!(sandbox = %after.id, app = %after.app, service = %after.service, state = after.state.as_str(),
            reason = after.reason.as_deref(), "sandbox");
        self.book.ledger.put(&after);
        self.follow_up(&before, &after, may_be_crash);
    }

    fn follow_up(&mut self, before: &SandboxRecord, after: &SandboxRecord, may_be_crash: bool) {
        self.introduce(after);
        if after.state != SandboxState::Pending {
            self.book.held.started(&after.id);
        }
        let was_unasked = before.counts() && !self.runner.draining.contains(&after.id);
        if let Some(fault) = after.node_fault {
            self.note_node_fault(after, fault);
        } else if matches!(after.state, SandboxState::Dead | SandboxState::Draining) && was_unasked && may_be_crash {
            self.book.faults.clear(&after.pool);
            self.note_death(after);
        }
        if after.state == SandboxState::Running {
            self.book.faults.clear(&after.pool);
        }
        if after.state == SandboxState::Draining && was_unasked {
            // It failed its health checks, or was drained by an earlier process that had no time to say so: its leases are
            // closed and waited for as in any drain.
            self.drain(&after.id, after.reason.as_deref().unwrap_or(DRAINED_BEFORE));
        }
        if after.state.is_terminal() {
            self.runner.owners.lock().remove(&after.id);
            self.runner.draining.remove(&after.id);
            let keys = [before.lease_key(), after.lease_key()];
            keys.into_iter().flatten().for_each(|key| self.runner.desk.forget(key));
        }
        let serves = |sandbox: &SandboxRecord| sandbox.state == SandboxState::Running;
        if serves(before) != serves(after) {
            // No receiver means no proxy: nobody to tell.
            let _ = self.runner.hints.send(Hint::Pool(after.pool.clone()));
        }
    }

    /// Tells the lease desk which sandbox a slot's generation is.
    fn introduce(&self, sandbox: &SandboxRecord) {
        let is_leased = !sandbox.state.is_terminal() && sandbox.pool != no_pool();
        if let Some(key) = sandbox.lease_key().filter(|_| is_leased) {
            self.runner.desk.introduce(
                key,
                Leased {
                    sandbox: sandbox.id.clone(),
                    app: sandbox.app.clone(),
                    pool: sandbox.pool.clone(),
                },
            );
        }
    }

    /// It says nothing about the app. Of many attempts the last one is kept.
    fn note_node_fault(&mut self, sandbox: &SandboxRecord, fault: NodeFault) {
        let why = sandbox.reason.as_deref().unwrap_or_default();
        let is_wanted = self
            .book
            .state
            .pools
            .get(&sandbox.pool)
            .is_some_and(|pool| !pool.is_retiring());
        if is_wanted && self.book.stopping.is_none() {
            let now = self.book.clock.steady();
            self.book.faults.note(&sandbox.pool, fault, why, now);
        }
        let older = |other: &&SandboxRecord| other.node_fault.is_some() && other.id != sandbox.id;
        let members = self.book.state.members(&sandbox.pool);
        for id in members.filter(older).map(|other| other.id.clone()).collect::<Vec<_>>() {
            if let Some(older) = self.book.state.remove(&id) {
                self.book.ledger.delete(older.key());
            }
        }
    }

    /// R3: a death counts only in a pool that some version wants.
    fn note_death(&mut self, sandbox: &SandboxRecord) {
        let survived = self.book.state.ready(&sandbox.pool) > 0;
        let now = self.book.now();
        let Some(pool) = self.book.state.pools.get_mut(&sandbox.pool) else {
            return;
        };
        if pool.is_retiring() || self.book.stopping.is_some() {
            return;
        }
        let ended_at = sandbox.ended_at.unwrap_or(now);
        let death = Death {
            created_at: sandbox.created_at,
            ran_for: sandbox.running_at.map(|running| since(ended_at, running)),
            // One that was given up has no status, and it was its own doing.
            ended_by: sandbox
                .facts
                .ended_by
                .or((sandbox.state == SandboxState::Draining).then_some(EndedBy::Exit)),
            reason: sandbox.reason.clone(),
            survived,
        };
        if pool.crash.note(&death, now) {
            self.book.metrics.crashes.inc();
            tracing::warn!(pool = %pool.id, sandbox = %sandbox.id, count = pool.crash.count,
                until = ?pool.crash.cooldown_until, reason = sandbox.reason.as_deref(), "crash: the pool waits");
        }
        self.book.ledger.put(&*pool);
    }
}

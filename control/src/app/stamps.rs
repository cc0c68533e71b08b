//! Decides what becomes of times in an app's records when the wall clock is another one than they were taken from.

use super::state::AppState;
use crate::app::crash::{CrashRecord, backoff};
use crate::app::keys::Keys;
use crate::clock::{later, shifted};
use crate::record::{DeployRecord, PoolRecord, RunRecord, SandboxRecord};
use jiff::{SignedDuration, Timestamp};

/// Something with times that more time is measured from.
pub trait Stamps {
    /// Changes each of them.
    fn each(&mut self, change: &mut dyn FnMut(&mut Timestamp));

    /// The wall clock was set by so much: what was a while ago is as long ago as it was.
    fn shift(&mut self, by: SignedDuration) {
        self.each(&mut |at| *at = shifted(*at, by));
    }
}

impl AppState {
    /// What was read from the store may be of a clock that went ahead: nothing has happened later than `now`, and no pool
    /// waits longer than its crashes ask for.
    pub fn clamp(&mut self, now: Timestamp) {
        for pool in self.pools.values_mut() {
            let (until, paid) = (pool.crash.cooldown_until, pool.crash.paid_until);
            pool.each(&mut |at| *at = (*at).min(now));
            // Lies ahead by its nature, and guards itself against a clock that was set back.
            pool.crash.paid_until = paid;
            pool.crash.cooldown_until = until.map(|until| until.min(later(now, backoff(pool.crash.count))));
        }
        for sandbox in self.sandboxes_mut() {
            let deadlines = sandbox.deadlines;
            sandbox.each(&mut |at| *at = (*at).min(now));
            // As above: nothing is given but what is left of the budgets.
            sandbox.deadlines = deadlines;
        }
        for deploy in self.deploys.values_mut() {
            deploy.each(&mut |at| *at = (*at).min(now));
        }
        for run in self.runs.values_mut() {
            let given = run.until.duration_since(run.created_at);
            run.each(&mut |at| *at = (*at).min(now));
            // Lies ahead by its nature: it has no more time than it was given.
            run.until = shifted(run.created_at, given);
        }
    }
}

impl Stamps for AppState {
    fn each(&mut self, change: &mut dyn FnMut(&mut Timestamp)) {
        self.pools.values_mut().for_each(|pool| pool.each(change));
        self.sandboxes_mut().for_each(|sandbox| sandbox.each(change));
        self.deploys.values_mut().for_each(|deploy| deploy.each(change));
        self.runs.values_mut().for_each(|run| run.each(change));
        self.keys.each(change);
    }
}

impl Stamps for Keys {
    fn each(&mut self, change: &mut dyn FnMut(&mut Timestamp)) {
        self.times().for_each(change);
    }
}

impl Stamps for PoolRecord {
    fn each(&mut self, change: &mut dyn FnMut(&mut Timestamp)) {
        change(&mut self.created_at);
        self.low_since.iter_mut().for_each(&mut *change);
        self.crash.each(change);
    }
}

impl Stamps for CrashRecord {
    fn each(&mut self, change: &mut dyn FnMut(&mut Timestamp)) {
        self.last_at.iter_mut().for_each(&mut *change);
        self.cooldown_until.iter_mut().for_each(&mut *change);
        self.paid_until.iter_mut().for_each(change);
    }
}

impl Stamps for SandboxRecord {
    fn each(&mut self, change: &mut dyn FnMut(&mut Timestamp)) {
        change(&mut self.created_at);
        self.running_at.iter_mut().for_each(&mut *change);
        self.ended_at.iter_mut().for_each(&mut *change);
        if let Some(deadlines) = &mut self.deadlines {
            deadlines.each(change);
        }
    }
}

impl Stamps for RunRecord {
    fn each(&mut self, change: &mut dyn FnMut(&mut Timestamp)) {
        change(&mut self.created_at);
        change(&mut self.until);
        self.outcome.iter_mut().for_each(|outcome| change(&mut outcome.at));
    }
}

impl Stamps for DeployRecord {
    fn each(&mut self, change: &mut dyn FnMut(&mut Timestamp)) {
        self.starting_at.iter_mut().for_each(&mut *change);
        change(&mut self.deploy.started_at);
        self.deploy.finished_at.iter_mut().for_each(&mut *change);
        self.deploy.steps.iter_mut().for_each(|step| change(&mut step.at));
    }
}

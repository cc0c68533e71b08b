//! Decides what a drain does next: a pure function of what was asked for, what there is, and the time.

use super::phase::{Drain, Forced, Step};
use crate::app::pool::earliest;
use crate::clock::{later, since};
use jiff::Timestamp;
use miren_api::id::SandboxId;
use miren_api::resource::SandboxState;
use std::time::Duration;

#[cfg(test)]
mod tests;

/// Sandboxes that drain at a time: more would want more of the processor to say goodbye than there is.
pub const AT_A_TIME: usize = 32;
/// How often the forced phase tries again what has not worked.
const SWEEP: Duration = Duration::from_secs(1);
/// How often it is looked what is left of ended sandboxes. No event tells of the last mount and the last cgroup.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// A sandbox that has not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Living {
    pub id: SandboxId,
    pub state: SandboxState,
}

/// What there is on the node. Its gates are looked at first: what they counted out is in the rest.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// What the gate of the API let in and is not over.
    pub admitted: u64,
    /// What that of sandboxes let in and is neither RUNNING nor over.
    pub starts: u64,
    /// In the order in which they were started.
    pub living: Vec<Living>,
    /// How much is left of sandboxes that have ended; none when nobody has looked.
    pub left: Option<usize>,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Let no sandbox be started, and let apps plan none.
    CloseStarts,
    /// Drain these: new requests go to them no more, SIGTERM comes after the last one.
    Drain(Vec<SandboxId>),
    /// Give up what was let in and has not switched traffic.
    CallOff,
    /// End these at once.
    Kill(Vec<SandboxId>),
    /// Try clean-ups again that have failed.
    Hurry,
}

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub drain: Drain,
    pub actions: Vec<Action>,
    /// What there is has to be looked at again once the actions are done, before anything is waited for.
    pub again: bool,
    /// When to plan again although nothing has happened.
    pub wake: Option<Timestamp>,
}

/// Plans a drain. What is over is so also when its time is: nothing that came to its end in peace is called forced.
pub fn plan(drain: Drain, seen: &Seen, now: Timestamp) -> Plan {
    let mut plan = Plan {
        drain,
        actions: Vec::new(),
        again: false,
        wake: None,
    };
    plan.step_on(seen);
    // What has to be looked at first may be over.
    let is_late = !plan.again && plan.drain.deadline.is_some_and(|at| now >= at);
    if is_late && plan.drain.step != Step::Empty && plan.drain.force(now) {
        plan.step_on(seen);
    }
    plan.drain
        .told
        .retain(|id, _| seen.living.iter().any(|sandbox| sandbox.id == *id));
    if plan.drain.step >= Step::Sandboxes {
        plan.drain_more(seen, now);
    }
    plan.sweep(seen, now);
    plan.set_wake(now);
    plan
}

impl Plan {
    /// Takes as many steps as what was seen allows. What was seen before a gate was closed says nothing of the time after it.
    fn step_on(&mut self, seen: &Seen) {
        while !self.again && self.drain.step != Step::Empty {
            let drain = &self.drain;
            let is_forced = drain.forced.is_some();
            let is_starting = |sandbox: &Living| sandbox.state == SandboxState::Pending;
            let is_done = match drain.step {
                Step::Admitted => seen.admitted == 0 || is_forced || !drain.is_patient,
                Step::Starts => {
                    let starts = seen.starts > 0 || seen.living.iter().any(is_starting);
                    !starts || is_forced || !drain.is_patient
                }
                Step::Sandboxes => seen.living.is_empty() && seen.starts == 0,
                Step::CleanUps => seen.living.is_empty() && seen.starts == 0 && seen.left == Some(0),
                Step::Empty => false,
            };
            if !is_done {
                return;
            }
            self.drain.step = match drain.step {
                Step::Admitted => Step::Starts,
                Step::Starts => Step::Sandboxes,
                Step::Sandboxes => Step::CleanUps,
                Step::CleanUps | Step::Empty => Step::Empty,
            };
            match self.drain.step {
                Step::Starts => {
                    self.actions.push(Action::CloseStarts);
                    self.again = true;
                }
                // Nobody has looked yet.
                Step::CleanUps => self.again = seen.left.is_none(),
                Step::Admitted | Step::Sandboxes | Step::Empty => {}
            }
        }
    }

    /// Drains the next ones, also such as came late.
    fn drain_more(&mut self, seen: &Seen, now: Timestamp) {
        if self.drain.forced.is_some() {
            return;
        }
        let drains = |sandbox: &&Living| {
            self.drain.told.contains_key(&sandbox.id)
                || matches!(sandbox.state, SandboxState::Draining | SandboxState::Stopping)
        };
        let (under_way, others): (Vec<&Living>, Vec<&Living>) = seen.living.iter().partition(drains);
        let free = AT_A_TIME.saturating_sub(under_way.len());
        let next: Vec<SandboxId> = others
            .into_iter()
            .take(free)
            .map(|sandbox| sandbox.id.clone())
            .collect();
        if next.is_empty() {
            return;
        }
        self.drain.told.extend(next.iter().map(|id| (id.clone(), now)));
        self.actions.push(Action::Drain(next));
    }

    /// In the forced phase: kills what is there, each second again, and what comes late at once; until its time is over.
    fn sweep(&mut self, seen: &Seen, now: Timestamp) {
        let (is_over, is_overdue) = (self.drain.step == Step::Empty, self.drain.is_overdue(now));
        let Some(forced) = &mut self.drain.forced else { return };
        if is_over {
            return;
        }
        if !forced.called_off {
            forced.called_off = true;
            self.actions.push(Action::CallOff);
        }
        let is_due = forced.swept.is_none_or(|swept| since(now, swept) >= SWEEP) && !is_overdue;
        let next = seen
            .living
            .iter()
            .filter(|sandbox| is_due || !forced.killed.contains_key(&sandbox.id));
        let next: Vec<SandboxId> = next.map(|sandbox| sandbox.id.clone()).collect();
        forced.killed.extend(next.iter().map(|id| (id.clone(), now)));
        if !next.is_empty() {
            self.actions.push(Action::Kill(next));
        }
        if is_due {
            forced.swept = Some(now);
            self.actions.push(Action::Hurry);
        }
    }

    fn set_wake(&mut self, now: Timestamp) {
        let drain = &self.drain;
        if drain.step == Step::Empty {
            return;
        }
        let sweep = |forced: &Forced| Some(later(forced.swept?, SWEEP)).filter(|_| !drain.is_overdue(now));
        let look = (drain.step == Step::CleanUps).then(|| later(now, LOOK_AGAIN));
        let deadline = drain.deadline.filter(|_| drain.forced.is_none());
        let over = drain.forced_until().filter(|until| *until > now);
        let swept = drain.forced.as_ref().and_then(sweep);
        self.wake = [look, deadline, over, swept].into_iter().fold(None, earliest);
    }
}

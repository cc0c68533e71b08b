//! Decides in which phase a node is, and what may be asked of it in each.

use crate::clock::later;
use jiff::Timestamp;
use miren_api::id::SandboxId;
use miren_api::node::{DrainStep, NodePhase};
use miren_api::{ApiError, ErrorCode};
use std::collections::BTreeMap;
use std::time::Duration;

#[cfg(test)]
mod tests;

/// What the forced phase may take, whatever was left of the time before it.
pub const FORCED: Duration = Duration::from_secs(30);

/// How far a drain is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// The gate of the API is closed; what it had let in goes on.
    Admitted,
    /// So is that of sandboxes; those that are being started go on.
    Starts,
    Sandboxes,
    CleanUps,
    Empty,
}

/// What was forced, and what of it was killed when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forced {
    pub since: Timestamp,
    /// What was let in has been called off.
    pub called_off: bool,
    /// When everything was swept last.
    pub swept: Option<Timestamp>,
    pub killed: BTreeMap<SandboxId, Timestamp>,
}

/// A drain that was asked for. One way: only another generation of the node's gates takes work again.
///
/// Times are those of [`crate::clock::Clock::steady`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drain {
    pub since: Timestamp,
    pub step: Step,
    /// When it is forced unless it is over by then.
    pub deadline: Option<Timestamp>,
    pub forced: Option<Forced>,
    /// Sandboxes that were told to drain, and when.
    pub told: BTreeMap<SandboxId, Timestamp>,
    /// Whether what was let in, and what is being started, is waited for. Not when the daemon ends: its successor goes on with it.
    pub is_patient: bool,
}

impl Drain {
    /// Begins now; `limit` of zero: never forced.
    pub fn begin(now: Timestamp, limit: Duration, is_patient: bool) -> Self {
        Self {
            since: now,
            step: Step::Admitted,
            deadline: deadline(now, limit),
            forced: None,
            told: BTreeMap::new(),
            is_patient,
        }
    }

    /// Asked for once more: the time it has may only become shorter.
    pub fn shorten(&mut self, now: Timestamp, limit: Duration) {
        let asked = deadline(now, limit);
        self.deadline = self.deadline.into_iter().chain(asked).min();
    }

    /// What is left is killed from now on. Says whether this was the first time it was asked for.
    pub fn force(&mut self, now: Timestamp) -> bool {
        let is_first = self.forced.is_none() && self.step != Step::Empty;
        if is_first {
            self.forced = Some(Forced {
                since: now,
                called_off: false,
                swept: None,
                killed: BTreeMap::new(),
            });
        }
        is_first
    }

    /// When the forced phase is over.
    pub fn forced_until(&self) -> Option<Timestamp> {
        Some(later(self.forced.as_ref()?.since, FORCED))
    }

    /// The forced phase is over, and something is left.
    pub fn is_overdue(&self, now: Timestamp) -> bool {
        self.step != Step::Empty && self.forced_until().is_some_and(|until| now >= until)
    }

    pub fn phase(&self) -> NodePhase {
        match (self.step, &self.forced) {
            (Step::Empty, _) => NodePhase::Empty,
            (_, Some(_)) => NodePhase::Forced,
            (_, None) => NodePhase::Draining,
        }
    }

    pub fn waits_for(&self) -> Option<DrainStep> {
        match self.step {
            Step::Admitted => Some(DrainStep::Admitted),
            Step::Starts => Some(DrainStep::Starts),
            Step::Sandboxes => Some(DrainStep::Sandboxes),
            Step::CleanUps => Some(DrainStep::CleanUps),
            Step::Empty => None,
        }
    }

    /// Whether the node may take work again now. What has begun to end ends in any case.
    ///
    /// # Errors
    /// `conflict` in the forced phase, which is over soon.
    pub fn undo(&self, now: Timestamp) -> Result<(), ApiError> {
        if self.phase() != NodePhase::Forced || self.is_overdue(now) {
            return Ok(());
        }
        let message = "what is left on the node is being killed: it takes no work before that is over";
        let error = ApiError::new(ErrorCode::Conflict, message).retry_after(FORCED.as_secs());
        Err(error.remedy(format!("again in {} s", FORCED.as_secs())))
    }
}

fn deadline(now: Timestamp, limit: Duration) -> Option<Timestamp> {
    (!limit.is_zero()).then(|| later(now, limit))
}

/// Where the node is.
pub fn of(drain: Option<&Drain>, cordoned: bool, down: bool) -> NodePhase {
    match drain {
        _ if down => NodePhase::Down,
        Some(drain) => drain.phase(),
        None if cordoned => NodePhase::Cordoned,
        None => NodePhase::Active,
    }
}

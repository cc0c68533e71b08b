//! Decides when the log tells how far a drain is: at each step, every five seconds, and each minute once it takes long.

use crate::clock::{later, since};
use crate::drain::phase::{Drain, Step};
use jiff::Timestamp;
use miren_api::node::NodeStatus;
use std::time::Duration;

/// How often at first, and for how long that is.
const SOON: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(60));
/// How often then.
const LATER: Duration = Duration::from_secs(60);

/// What was told last, and when.
#[derive(Clone, Debug, Default)]
pub(super) struct Cadence {
    began: Option<Timestamp>,
    last: Option<Timestamp>,
    step: Option<Step>,
    overdue: bool,
}

impl Cadence {
    /// Whether it is told now.
    pub(super) fn is_due(&mut self, drain: Option<&Drain>, overdue: bool, now: Timestamp) -> bool {
        let Some(drain) = drain else { return false };
        self.began.get_or_insert(now);
        let news = self.step != Some(drain.step) || (overdue && !self.overdue);
        let is_due = drain.step != Step::Empty && now >= self.next(now);
        if news || is_due {
            (self.last, self.step, self.overdue) = (Some(now), Some(drain.step), overdue);
        }
        news || is_due
    }

    /// When it is told next although nothing has happened.
    pub(super) fn next(&self, now: Timestamp) -> Timestamp {
        let began = self.began.unwrap_or(now);
        let last = self.last.unwrap_or(now);
        let every = if since(last, began) < SOON.1 { SOON.0 } else { LATER };
        later(last, every)
    }
}

/// One line with the numbers, and one for each thing that holds it up once its time is over.
pub(super) fn say(status: &NodeStatus) {
    let (node, phase) = (&status.node, status.phase.as_str());
    let waits_for = status.waits_for.map_or("nothing", |step| step.as_words());
    let blockers: Vec<String> = status
        .blockers
        .iter()
        .map(|it| format!("{} ({})", it.id, it.why))
        .collect();
    let (blockers, more) = (blockers.join(", "), status.more_blockers);
    tracing::info!(node, phase, waits_for, admitted = status.admitted, starts = status.starts, requests = status.requests,
        sandboxes = status.living(), clean_ups = status.clean_ups, deadline = ?status.deadline, blockers, more, "drain");
    if status.overdue {
        tracing::error!(node, blockers, more, "the forced phase is over, and this is left");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told_at(seconds: impl Iterator<Item = i64>, step: impl Fn(i64) -> Step) -> Vec<i64> {
        let mut cadence = Cadence::default();
        let start = Timestamp::from_second(1_000_000).unwrap();
        let mut drain = Drain::begin(start, Duration::ZERO, true);
        let mut told = Vec::new();
        for second in seconds {
            drain.step = step(second);
            let now = later(start, Duration::from_secs(second.unsigned_abs()));
            if cadence.is_due(Some(&drain), false, now) {
                told.push(second);
            }
        }
        told
    }

    #[test]
    fn d4_the_log_tells_each_step_at_once_then_every_five_seconds_then_each_minute() {
        let told = told_at(0..200, |_| Step::Admitted);
        assert_eq!(told, [0, 5, 10, 15, 20, 25, 30, 35, 40, 45, 50, 55, 60, 120, 180]);
        let told = told_at(0..12, |second| if second < 3 { Step::Admitted } else { Step::Starts });
        assert_eq!(told, [0, 3, 8]);
        let told = told_at(0..30, |second| if second < 2 { Step::CleanUps } else { Step::Empty });
        assert_eq!(told, [0, 2], "nothing is told of what is over");
    }
}

//! Decides until when a sandbox that was told to go may take, whatever becomes of control and its clock meanwhile.

use crate::clock::{later, since};
use jiff::Timestamp;
use miren_sandbox::Budgets;
use serde::{Deserialize, Serialize};

/// Dates, kept with the sandbox: they only come nearer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deadlines {
    pub requests: Timestamp,
    pub tunnels: Timestamp,
    /// Of SIGKILL, once SIGTERM was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop: Option<Timestamp>,
}

impl Deadlines {
    /// What it is told to go by: those it has, or those that `budgets` lead to where these are sooner.
    #[must_use = "it is another one"]
    pub fn of(known: Option<Self>, budgets: Budgets, now: Timestamp) -> Self {
        let asked = Self {
            requests: later(now, budgets.requests),
            tunnels: later(now, budgets.tunnels),
            stop: None,
        };
        let Some(known) = known else { return asked };
        Self {
            requests: known.requests.min(asked.requests),
            tunnels: known.tunnels.min(asked.tunnels),
            stop: known.stop.map(|stop| stop.min(later(now, budgets.grace))),
        }
    }

    /// SIGTERM was sent, unless that is known.
    pub fn stops(&mut self, budgets: Budgets, now: Timestamp) {
        self.stop.get_or_insert(later(now, budgets.grace));
    }

    /// What is left of `budgets`, and no more than all of them: the clock may have been set back.
    #[must_use = "it is another one"]
    pub fn left(&self, budgets: Budgets, now: Timestamp) -> Budgets {
        Budgets {
            requests: since(self.requests, now),
            tunnels: since(self.tunnels, now),
            grace: self.stop.map_or(budgets.grace, |stop| since(stop, now)),
        }
        .at_most(budgets)
    }

    /// Each of them.
    pub fn each(&mut self, change: &mut dyn FnMut(&mut Timestamp)) {
        change(&mut self.requests);
        change(&mut self.tunnels);
        self.stop.iter_mut().for_each(change);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn budgets(requests: u64, tunnels: u64, grace: u64) -> Budgets {
        Budgets {
            requests: Duration::from_secs(requests),
            tunnels: Duration::from_secs(tunnels),
            grace: Duration::from_secs(grace),
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn l4_asked_again_they_only_come_nearer() {
        let first = Deadlines::of(None, budgets(30, 60, 10), at(100));
        assert_eq!(first.left(budgets(30, 60, 10), at(120)), budgets(10, 40, 10));
        let again = Deadlines::of(Some(first), budgets(30, 60, 10), at(120));
        assert_eq!(again, first, "a restart gives nothing");
        let hurried = Deadlines::of(Some(first), budgets(5, 60, 10), at(120));
        assert_eq!(hurried.left(budgets(30, 60, 10), at(120)), budgets(5, 40, 10));
    }

    #[test]
    fn l4_the_grace_runs_from_the_first_sigterm_on() {
        let mut deadlines = Deadlines::of(None, budgets(0, 0, 10), at(100));
        assert_eq!(deadlines.left(budgets(0, 0, 10), at(150)), budgets(0, 0, 10), "not yet");
        deadlines.stops(budgets(0, 0, 10), at(150));
        deadlines.stops(budgets(0, 0, 10), at(155));
        assert_eq!(deadlines.left(budgets(0, 0, 10), at(156)), budgets(0, 0, 4));
    }

    #[test]
    fn f8_a_clock_that_was_set_back_gives_no_more_than_the_budgets() {
        let mut deadlines = Deadlines::of(None, budgets(30, 60, 10), at(10_000));
        deadlines.stops(budgets(30, 60, 10), at(10_000));
        assert_eq!(deadlines.left(budgets(30, 60, 10), at(6_400)), budgets(30, 60, 10));
        assert_eq!(deadlines.left(budgets(30, 60, 10), at(13_600)), budgets(0, 0, 0));
    }
}

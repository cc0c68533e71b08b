//! Decides when a sandbox that is not wanted any more is told to end, and when it is killed. Time is an argument.

use crate::order::Budgets;
use std::time::{Duration, Instant};

#[cfg(test)]
mod tests;

/// How long after a deadline proxies may take to say that they have ended what was under way: to tell a WebSocket's client, and to
/// hear its answer, takes them a second at most. One that is silent for longer holds up nothing.
pub(crate) const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(2);

/// Where it stands. Deadlines are moments: nothing but an order moves them, and only nearer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leaving {
    /// DRAINING: what was let in goes on.
    Drains {
        requests_until: Instant,
        tunnels_until: Instant,
        grace: Duration,
    },
    /// STOPPING: SIGTERM was sent.
    Stops { until: Instant },
    /// SIGKILL was sent.
    Killed,
}

/// What comes about meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// It is to leave within these.
    Asked(Budgets),
    /// No proxy has anything under way there.
    Acknowledged,
    /// Nothing but that time has passed.
    Time,
    /// It is to end at once.
    Killed,
}

/// What is to be done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    Wait,
    /// SIGTERM.
    Terminate,
    /// SIGKILL.
    Kill,
}

impl Leaving {
    /// It begins to drain.
    pub(crate) fn begin(budgets: Budgets, now: Instant) -> Self {
        Self::Drains {
            requests_until: now + budgets.requests,
            tunnels_until: now + budgets.tunnels,
            grace: budgets.grace,
        }
    }

    /// It has been sent SIGTERM.
    pub(crate) fn stops(grace: Duration, now: Instant) -> Self {
        Self::Stops { until: now + grace }
    }

    /// When [`Event::Time`] leads to something.
    pub(crate) fn next(self) -> Option<Instant> {
        match self {
            Self::Drains {
                requests_until,
                tunnels_until,
                ..
            } => Some(requests_until.max(tunnels_until) + ACKNOWLEDGED_WITHIN),
            Self::Stops { until } => Some(until),
            Self::Killed => None,
        }
    }

    pub(crate) fn on(&mut self, event: Event, now: Instant) -> Act {
        let is_time = event == Event::Time && self.next().is_some_and(|next| now >= next);
        match (&mut *self, event) {
            (Self::Killed, _) => Act::Wait,
            (_, Event::Killed) => self.killed(),
            (Self::Drains { grace, .. }, Event::Acknowledged) => {
                *self = Self::stops(*grace, now);
                Act::Terminate
            }
            (Self::Drains { grace, .. }, Event::Time) if is_time => {
                *self = Self::stops(*grace, now);
                Act::Terminate
            }
            (Self::Stops { .. }, Event::Time) if is_time => self.killed(),
            (_, Event::Asked(budgets)) => {
                self.shorten(budgets, now);
                Act::Wait
            }
            (_, Event::Time | Event::Acknowledged) => Act::Wait,
        }
    }

    fn killed(&mut self) -> Act {
        *self = Self::Killed;
        Act::Kill
    }

    /// It was asked again: no deadline moves away.
    fn shorten(&mut self, budgets: Budgets, now: Instant) {
        match self {
            Self::Drains {
                requests_until,
                tunnels_until,
                grace,
            } => {
                *requests_until = (*requests_until).min(now + budgets.requests);
                *tunnels_until = (*tunnels_until).min(now + budgets.tunnels);
                *grace = (*grace).min(budgets.grace);
            }
            Self::Stops { until } => *until = (*until).min(now + budgets.grace),
            Self::Killed => {}
        }
    }
}

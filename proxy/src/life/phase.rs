//! Decides which phase the proxy is in, and what has to be done when another one begins. Time and counts are arguments.

use crate::config::FORCED;
use std::time::{Duration, Instant};

#[cfg(test)]
mod tests;

/// Where a proxy is between its start and its end. It only moves down this list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// It knows no routing yet.
    Boot,
    Serving,
    /// Whoever distributes requests is told to send no more; those that come are served.
    LameDuck,
    /// No new connection is taken; what is under way is finished.
    Draining,
    /// What is left is ended.
    Forced,
    Exit,
}

impl Phase {
    pub const ALL: [Self; 6] = [
        Self::Boot,
        Self::Serving,
        Self::LameDuck,
        Self::Draining,
        Self::Forced,
        Self::Exit,
    ];

    /// In metrics, logs and answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Boot => "boot",
            Self::Serving => "serving",
            Self::LameDuck => "lame_duck",
            Self::Draining => "draining",
            Self::Forced => "forced",
            Self::Exit => "exit",
        }
    }
}

/// What may happen to a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// It has routing.
    Ready,
    /// It is told to stop.
    Told,
    /// It is told to stop at once.
    Insisted,
    /// A successor accepts at its sockets.
    HandedOver,
    /// The slot table says nothing any more: it can serve no request.
    TableLost,
    /// No connection is left, and none can come.
    Idle,
    /// Time has passed.
    Time,
}

/// What is to be done, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Answers say that their connections end.
    KeepNone,
    /// No new connection is taken, but those that wait already are; who keeps one without a request has a moment.
    ShutDoor,
    /// No new connection is taken: the successor takes those that wait. Who keeps one is told with its next answer.
    LeaveDoor,
    CutRequests,
    CutTunnels,
}

/// How long each phase may take.
#[derive(Clone, Copy, Debug)]
pub struct Budgets {
    pub lame_duck: Duration,
    pub requests: Duration,
    pub tunnels: Duration,
    /// In place of `tunnels` where a successor serves: nobody waits for this process.
    pub upgrade_tunnels: Duration,
}

/// What is under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// Without tunnels.
    pub requests: usize,
    pub tunnels: usize,
}

/// The phase, and when it ends.
#[derive(Debug)]
pub struct Life {
    budgets: Budgets,
    phase: Phase,
    /// Of the phase as a whole: of LAMEDUCK and FORCED.
    until: Option<Instant>,
    /// While draining, until they are cut.
    requests_until: Option<Instant>,
    tunnels_until: Option<Instant>,
    has_cut: bool,
    /// A successor accepts, and nobody waits for this process.
    has_left_door: bool,
}

impl Life {
    pub fn new(budgets: Budgets) -> Self {
        Self {
            budgets,
            phase: Phase::Boot,
            until: None,
            requests_until: None,
            tunnels_until: None,
            has_cut: false,
            has_left_door: false,
        }
    }

    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Whether something was ended that would have gone on.
    pub fn has_cut(&self) -> bool {
        self.has_cut
    }

    /// When [`Event::Time`] changes something, at the latest.
    pub fn wakes_at(&self) -> Option<Instant> {
        [self.until, self.requests_until, self.tunnels_until]
            .into_iter()
            .flatten()
            .min()
    }

    /// What follows.
    pub fn on(&mut self, event: Event, left: Left, now: Instant) -> Vec<Step> {
        use Phase::{Boot, Draining, Forced, LameDuck, Serving};
        match (self.phase, event) {
            (Boot, Event::Ready) => self.phase = Serving,
            (Serving, Event::Told) if !self.budgets.lame_duck.is_zero() => {
                self.phase = LameDuck;
                self.until = Some(now + self.budgets.lame_duck);
                return vec![Step::KeepNone];
            }
            (Boot | Serving, Event::Told) | (Boot | Serving | LameDuck, Event::TableLost) => {
                return self.drain(Step::ShutDoor, self.budgets.tunnels, now);
            }
            (LameDuck, Event::Time) if is_over(self.until, now) => {
                return self.drain(Step::ShutDoor, self.budgets.tunnels, now);
            }
            (Boot | Serving | LameDuck, Event::HandedOver) => {
                return self.drain(Step::LeaveDoor, self.budgets.upgrade_tunnels, now);
            }
            (Boot | Serving | LameDuck | Draining, Event::Insisted) => return self.force(left, now),
            // Somebody waits for it, after all.
            (Draining, Event::Told) => {
                let sooner = now + self.budgets.tunnels;
                self.tunnels_until = self.tunnels_until.map(|until| until.min(sooner));
                let is_news = std::mem::take(&mut self.has_left_door);
                return is_news.then_some(Step::ShutDoor).into_iter().collect();
            }
            (Draining, Event::Time) => return self.cut_overdue(left, now),
            (Draining | Forced, Event::Idle) => self.exit(),
            (Forced, Event::Time) if is_over(self.until, now) => self.exit(),
            _ => {}
        }
        Vec::new()
    }

    fn drain(&mut self, door: Step, tunnels: Duration, now: Instant) -> Vec<Step> {
        self.phase = Phase::Draining;
        self.has_left_door = door == Step::LeaveDoor;
        self.until = None;
        self.requests_until = Some(now + self.budgets.requests);
        self.tunnels_until = Some(now + tunnels);
        vec![Step::KeepNone, door]
    }

    /// What has had its time is cut; when that is everything, nothing is waited for any more.
    fn cut_overdue(&mut self, left: Left, now: Instant) -> Vec<Step> {
        let mut steps = Vec::new();
        if is_over(self.requests_until, now) {
            self.requests_until = None;
            self.has_cut |= left.requests > 0;
            steps.push(Step::CutRequests);
        }
        if is_over(self.tunnels_until, now) {
            self.tunnels_until = None;
            self.has_cut |= left.tunnels > 0;
            steps.push(Step::CutTunnels);
        }
        // A request may yet become a tunnel.
        let may_wait = self.requests_until.is_some() || (self.tunnels_until.is_some() && left.tunnels > 0);
        if !may_wait {
            steps.extend(
                self.force(left, now)
                    .into_iter()
                    .filter(|step| *step == Step::CutTunnels),
            );
            steps.dedup();
        }
        steps
    }

    fn force(&mut self, left: Left, now: Instant) -> Vec<Step> {
        let door = (self.phase < Phase::Draining).then_some([Step::KeepNone, Step::ShutDoor]);
        self.phase = Phase::Forced;
        (self.requests_until, self.tunnels_until) = (None, None);
        self.until = Some(now + FORCED);
        self.has_cut |= left != Left::default();
        let cuts = [Step::CutRequests, Step::CutTunnels];
        door.into_iter().flatten().chain(cuts).collect()
    }

    fn exit(&mut self) {
        self.phase = Phase::Exit;
        (self.until, self.requests_until, self.tunnels_until) = (None, None, None);
    }
}

fn is_over(until: Option<Instant>, now: Instant) -> bool {
    until.is_some_and(|until| until <= now)
}

//! Decides which deaths are crashes, and how long a pool waits after them (ADRs 0006, 0007 and 0020).

use crate::clock::{later, since};
use jiff::Timestamp;
use miren_sandbox::EndedBy;
use std::time::Duration;

pub use crate::record::CrashRecord;

#[cfg(test)]
mod tests;

/// Wait after the first crash; doubles with each further one.
pub const FIRST_BACKOFF: Duration = Duration::from_secs(10);
/// Longest wait.
pub const LONGEST_BACKOFF: Duration = Duration::from_secs(15 * 60);
/// A healthy run at least this long, and at least as long as the last wait, ends a row of crashes. A sandbox that ends by
/// itself before that ended early.
pub const HEALTHY_RUN: Duration = Duration::from_secs(2 * 60);
/// Early ends in a row that are replaced at once: a single fault of a good program is no crash loop.
pub const EARLY_FORGIVEN: u32 = 2;

/// What replacements that follow no crash may cost a pool in advance. With what one of them costs, this is a burst of 10, 20 or 120
/// and then one each 12 s, 6 s or 1 s.
pub const CREDIT: Duration = Duration::from_secs(120);
/// Cost of one that nothing of the pool outlived.
pub const COST_ALONE: Duration = Duration::from_secs(12);
/// Cost of one that ended early and by itself beside a RUNNING one.
pub const COST_EARLY: Duration = Duration::from_secs(6);
/// Cost of any other one beside a RUNNING one: somebody may well kill working sandboxes one after the other.
pub const COST_BESIDE: Duration = Duration::from_secs(1);

/// A sandbox of a living pool that ended without being asked to.
#[derive(Clone, Debug)]
pub struct Death {
    pub created_at: Timestamp,
    /// How long it was RUNNING; none if it never was.
    pub ran_for: Option<Duration>,
    /// None when nobody saw it.
    pub ended_by: Option<EndedBy>,
    pub reason: Option<String>,
    /// Whether another sandbox of the pool is RUNNING.
    pub survived: bool,
}

impl CrashRecord {
    /// Takes one death into account; says whether it counted as a crash.
    pub fn note(&mut self, death: &Death, now: Timestamp) -> bool {
        self.last_reason.clone_from(&death.reason);
        let is_early = |ran_for| ran_for < healthy_after(self.count) && ended_by_itself(death);
        let is_crash = match death.ran_for {
            None => true,
            Some(ran_for) if is_early(ran_for) && !death.survived => {
                self.early += 1;
                self.early > EARLY_FORGIVEN
            }
            Some(_) => false,
        };
        let same_episode = self.last_at.is_some_and(|last| death.created_at <= last);
        match death.ran_for {
            Some(_) if !is_crash && !death.survived => self.pay(COST_ALONE, now),
            Some(ran_for) if !is_crash && is_early(ran_for) => self.pay(COST_EARLY, now),
            Some(_) if !is_crash => self.pay(COST_BESIDE, now),
            _ => {}
        }
        if !is_crash || same_episode {
            return false;
        }
        self.count += 1;
        self.last_at = Some(now);
        self.cooldown_until = Some(later(now, backoff(self.count)));
        true
    }

    /// Ends the row if a sandbox has been RUNNING long enough. Returns whether anything changed.
    pub fn note_healthy(&mut self, ran_for: Duration) -> bool {
        let worth_forgetting = self.count > 0 || self.early > 0;
        if worth_forgetting && ran_for >= healthy_after(self.count) {
            *self = Self {
                paid_until: self.paid_until,
                ..Self::default()
            };
            return true;
        }
        false
    }

    /// How much longer the pool waits, if it does: after crashes, or because it was replaced too often without one.
    pub fn cooldown(&self, now: Timestamp) -> Option<Duration> {
        let crashed = self.cooldown_until.map(|until| since(until, now));
        crashed.max(self.unpaid(now)).filter(|wait| !wait.is_zero())
    }

    /// However many end at once, the next replacement waits for the cost of one.
    fn pay(&mut self, cost: Duration, now: Timestamp) {
        let from = self.paid_until.filter(|_| self.is_plausible(now));
        let paid_until = later(from.map_or(now, |until| until.max(now)), cost);
        self.paid_until = Some(paid_until.min(later(now, CREDIT + cost)));
    }

    fn unpaid(&self, now: Timestamp) -> Option<Duration> {
        let owed = since(self.paid_until.filter(|_| self.is_plausible(now))?, now);
        owed.checked_sub(CREDIT)
    }

    /// Nobody owes more than this, unless the clock was set back: then nothing is owed.
    fn is_plausible(&self, now: Timestamp) -> bool {
        self.paid_until
            .is_some_and(|until| since(until, now) <= CREDIT + COST_ALONE)
    }
}

/// How long a RUNNING sandbox must live to end a row of `count` crashes.
pub fn healthy_after(count: u32) -> Duration {
    backoff(count).max(HEALTHY_RUN)
}

/// The wait after `count` crashes in a row: 10 s · 2^(count-1), at most 15 min.
pub fn backoff(count: u32) -> Duration {
    match count.checked_sub(1) {
        None => Duration::ZERO,
        Some(doublings) => FIRST_BACKOFF
            .saturating_mul(1_u32.checked_shl(doublings).unwrap_or(u32::MAX))
            .min(LONGEST_BACKOFF),
    }
}

/// Not ended from outside. SIGKILL is outside, unless the kernel sent it because memory ran out: that has a word of its own.
fn ended_by_itself(death: &Death) -> bool {
    const FROM_OUTSIDE: [i32; 4] = [libc::SIGHUP, libc::SIGINT, libc::SIGKILL, libc::SIGTERM];
    match death.ended_by {
        None => false,
        Some(EndedBy::Signal(signal)) => !FROM_OUTSIDE.contains(&signal),
        Some(EndedBy::Exit | EndedBy::OutOfMemory) => true,
    }
}

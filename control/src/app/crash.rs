//! Decides which deaths are crashes, and how long a pool waits after them (ADRs 0006 and 0007).

use crate::clock::{later, since};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::time::Duration;

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

/// A pool's crashes in a row.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CrashRecord {
    pub count: u32,
    /// Early ends in a row.
    pub early: u32,
    /// When the last crash was noted: sandboxes made before it belong to the same episode.
    pub last_at: Option<Timestamp>,
    pub cooldown_until: Option<Timestamp>,
    /// What the last one died of.
    pub last_reason: Option<String>,
}

/// A sandbox of a living pool that ended without being asked to.
#[derive(Clone, Debug)]
pub struct Death {
    pub created_at: Timestamp,
    /// How long it was RUNNING; none if it never was.
    pub ran_for: Option<Duration>,
    /// 128 + the signal when one ended it; none when nobody saw it.
    pub exit_code: Option<i32>,
    pub reason: Option<String>,
    /// Whether another sandbox of the pool is RUNNING.
    pub survived: bool,
}

impl CrashRecord {
    /// Takes one death into account; says whether it counted as a crash.
    pub fn note(&mut self, death: &Death, now: Timestamp) -> bool {
        self.last_reason.clone_from(&death.reason);
        let is_crash = match death.ran_for {
            None => true,
            Some(ran_for) if ran_for < healthy_after(self.count) && !death.survived && ended_by_itself(death) => {
                self.early += 1;
                self.early > EARLY_FORGIVEN
            }
            Some(_) => false,
        };
        let same_episode = self.last_at.is_some_and(|last| death.created_at <= last);
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
            *self = Self::default();
            return true;
        }
        false
    }

    /// How much longer the pool waits, if it does.
    pub fn cooldown(&self, now: Timestamp) -> Option<Duration> {
        let until = self.cooldown_until?;
        (until > now).then(|| since(until, now))
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

/// Not killed from outside. SIGKILL is outside too, unless the kernel sent it because memory ran out.
fn ended_by_itself(death: &Death) -> bool {
    const FROM_OUTSIDE: [i32; 4] = [libc::SIGHUP, libc::SIGINT, libc::SIGKILL, libc::SIGTERM];
    let out_of_memory = death.reason.as_deref().is_some_and(|reason| reason.contains("memory"));
    match death.exit_code {
        None => false,
        Some(code) => out_of_memory || !FROM_OUTSIDE.contains(&(code - 128)),
    }
}

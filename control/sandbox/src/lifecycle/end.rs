//! Decides what is said about a sandbox that has ended.

use super::Sandbox;
use super::boot_error::BootError;
use crate::bundle::Limits;
use crate::exit::{Ending, describe};
use crate::logs;
use crate::order::SandboxChange;
use miren_api::resource::SandboxState;
use miren_fault::Point;
use miren_loader::{EXIT_CODE_UNKNOWN, State};
use std::time::Duration;
use tokio::time::timeout;

/// How long the runtime may take to have the last lines and the exit status written.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// Lines of its log that go into the reason of a failed boot, and characters of each.
const TAIL_LINES: usize = 5;
const TAIL_CHARACTERS: usize = 300;

impl Sandbox {
    /// The one terminal announcement.
    pub(crate) async fn end(&mut self) -> SandboxChange {
        self.node.registry.forget_streams(&self.order.id);
        // First: the runtime may remove the cgroup when it tells how init ended.
        let kills = self.node.cgroups.out_of_memory_kills(self.id());
        let ending = self.ending().await;
        let of_command = ending.filter(|_| !self.was_cut_off());
        self.facts.ended_by = of_command.map(|ending| ending.by(kills > 0));
        // What never became the app has no status of the app's.
        let of_app = of_command.filter(|_| self.facts.pid.is_some());
        self.facts.exit_code = of_app.and_then(Ending::exit_code);
        let stopped = self
            .life
            .as_ref()
            .is_some_and(|life| life.state(&self.node.fast_path) == State::Stopped);
        let booting = self.is_booting();
        let mut reason = match &self.why {
            Some(why) => why.clone(),
            None if stopped => "retired before the system restarted".to_owned(),
            None => self.unexpected(ending, kills),
        };
        if booting && !stopped && self.facts.pid.is_some() {
            reason.push_str(&log_tail(&logs::last_lines(
                &self.node.log(&self.order),
                TAIL_LINES,
                TAIL_CHARACTERS,
            )));
        }
        self.state = if stopped {
            SandboxState::Stopped
        } else {
            SandboxState::Dead
        };
        tracing::info!(sandbox = %self.order.id, app = %self.order.app, state = self.state.as_str(), reason, "sandbox");
        self.change(self.state, Some(reason))
    }

    /// Whether its end is a failure of its start. What runs once and has begun to may be over in no time.
    fn is_booting(&self) -> bool {
        let has_begun = self.order.one_off.is_some() && self.facts.pid.is_some();
        self.state == SandboxState::Pending && !has_begun
    }

    /// Whether the daemon that started it went before its command was let go on: how it ended then says nothing about that.
    fn was_cut_off(&self) -> bool {
        self.is_adopted && self.is_booting() && self.facts.pid.is_none()
    }

    /// How init ended, after the last line is in the log.
    async fn ending(&self) -> Option<Ending> {
        let life = self.life.as_ref()?;
        let dir = self.dir();
        let seen = || {
            let view = self.node.fast_path.slot(life.slot);
            let is_seen = view.generation == life.generation && view.tgid != 0 && view.exit_code != EXIT_CODE_UNKNOWN;
            is_seen.then(|| view.exit_code.cast_signed())
        };
        let told = async {
            let _ = miren_fault::at(Point::StopLastWords).await;
            self.node.runtime.last_words(&dir, life.helper.as_ref(), seen()).await
        };
        // What does not end in time is killed by the clean-up.
        let told = timeout(LAST_WORDS, told).await.ok().flatten();
        // Again: the hook may have been late.
        Ending::agreed(told, seen())
    }

    /// The reason of an exit that nobody asked for.
    fn unexpected(&self, ending: Option<Ending>, out_of_memory_kills: u64) -> String {
        let booting = self.is_booting();
        if self.was_cut_off() {
            return BootError::Start("the system restarted before its command was started".into()).to_string();
        }
        let limits = Limits::of(self.order.service.resources, self.node.config.defaults);
        let how = describe(ending, (out_of_memory_kills > 0).then_some(limits.memory).flatten());
        match (booting, self.facts.port) {
            (false, _) => how,
            (true, Some(port)) => {
                BootError::Port(format!("{how} before it listened on port {port}").into()).to_string()
            }
            (true, None) => BootError::Start(format!("{how} right after its start").into()).to_string(),
        }
    }
}

fn log_tail(lines: &[String]) -> String {
    if lines.is_empty() {
        return "; it wrote nothing to its log".to_owned();
    }
    let below: String = lines.iter().map(|line| format!("\n  {line}")).collect();
    format!("; last log lines:{below}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_below_the_reason() {
        assert_eq!(log_tail(&[]), "; it wrote nothing to its log");
        let tail = log_tail(&["a".into(), "b".into()]);
        assert_eq!(tail, "; last log lines:\n  a\n  b");
    }
}

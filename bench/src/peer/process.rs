//! Decides whether a process that is no child of ours is still the same one, and how it is ended.

use std::fs;
use std::time::Duration;

use anyhow::Context;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::wait;

/// Longest wait for one that was told to end.
const LIMIT: Duration = Duration::from_secs(10);

/// A process by its number and the time of its start: a number alone may be another's by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    pid: i32,
    /// In ticks since boot, as the kernel has it.
    started: u64,
}

impl Process {
    /// None if there is none, or it has ended already.
    #[must_use]
    pub fn find(pid: i32) -> Option<Self> {
        let started = start_of(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?;
        Some(Self { pid, started })
    }

    #[must_use]
    pub fn pid(self) -> i32 {
        self.pid
    }

    #[must_use]
    pub fn is_there(self) -> bool {
        Self::find(self.pid) == Some(self)
    }

    /// What it calls itself.
    #[must_use]
    pub fn title(self) -> String {
        let line = fs::read(format!("/proc/{}/cmdline", self.pid)).unwrap_or_default();
        String::from_utf8_lossy(&line).replace('\0', " ")
    }

    #[must_use]
    pub fn children(self) -> Vec<Self> {
        let listed = fs::read_to_string(format!("/proc/{0}/task/{0}/children", self.pid)).unwrap_or_default();
        let pids = listed.split_whitespace().filter_map(|pid| pid.parse().ok());
        pids.filter_map(Self::find).collect()
    }

    /// Sends a signal; one that has ended needs none.
    ///
    /// # Errors
    /// When it may not be signalled.
    pub fn signal(self, signal: Signal) -> anyhow::Result<()> {
        if self.is_there() {
            kill(Pid::from_raw(self.pid), signal)
                .with_context(|| format!("sending {signal} to process {}", self.pid))?;
        }
        Ok(())
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// When it has not within `limit`.
    pub fn wait(self, limit: Duration) -> anyhow::Result<()> {
        let what = format!("process {} to end", self.pid);
        wait::until(&what, limit, || Ok((!self.is_there()).then_some(())))
    }

    /// Tells it to end, and sees to it that it and its children do.
    pub fn end(self) {
        let family: Vec<Self> = self.children().into_iter().chain([self]).collect();
        let told = self.signal(Signal::SIGTERM).and_then(|()| self.wait(LIMIT));
        if told.is_err() {
            for one in family {
                // Gone meanwhile, at best.
                let _ = one.signal(Signal::SIGKILL);
            }
        }
    }
}

/// The start in a line of `/proc/PID/stat`; none of one that has ended and is not yet waited for.
fn start_of(stat: &str) -> Option<u64> {
    // The name comes before it, in brackets, and may have spaces and brackets of its own.
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    // Field 22 of the line; the state was field 3.
    fields.nth(18)?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_told_by_its_start_and_one_that_ended_is_none() {
        let line = |state| format!("42 (a (b) c) {state} 1 42 42 0 -1 4194560 1 0 0 0 1 2 0 0 20 0 1 0 777 123 9");
        assert_eq!(start_of(&line("S")), Some(777));
        assert_eq!(start_of(&line("Z")), None);
        assert_eq!(start_of("42 (cut"), None);

        let own = Process::find(std::process::id() as i32).expect("this process");
        assert!(own.is_there());
        let another = Process {
            started: own.started + 1,
            ..own
        };
        assert!(!another.is_there(), "the number is another's by now");
    }

    #[test]
    fn one_that_was_told_to_end_is_gone_although_nobody_waits_for_it() {
        let mut child = std::process::Command::new("sleep").arg("600").spawn().expect("sleep");
        let process = Process::find(child.id() as i32).expect("a process");
        process.end();
        assert!(!process.is_there());
        assert!(!child.wait().expect("a child").success());
    }
}

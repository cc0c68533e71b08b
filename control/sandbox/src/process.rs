//! Decides whether a pid still is the process it was, and how that process is signalled and waited for.

use crate::readable::readable;
use crate::signal_number::SignalNumber;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use serde::{Deserialize, Serialize};
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// Names one process for as long as the machine is up: a reused pid has another start time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessRef {
    pub(crate) pid: u32,
    /// Clock ticks since boot, field 22 of `/proc/PID/stat`.
    pub(crate) started: u64,
}

/// A process held by a pidfd, so that nothing done to it can hit another one.
#[derive(Debug)]
pub(crate) struct Process {
    reference: ProcessRef,
    pidfd: OwnedFd,
}

impl Process {
    /// Takes hold of the process that has this pid now.
    pub(crate) fn open(pid: u32) -> io::Result<Self> {
        let number = libc::pid_t::try_from(pid).map_err(io::Error::other)?;
        // SAFETY: pidfd_open takes two integers and returns a descriptor that nobody else owns.
        let pidfd = unsafe { libc::syscall(libc::SYS_pidfd_open, number, 0) };
        if pidfd < 0 {
            return Err(io::Error::last_os_error());
        }
        let pidfd = i32::try_from(pidfd).map_err(io::Error::other)?;
        // SAFETY: the kernel has just returned it.
        let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
        // Read after the pidfd was opened: both are about the same process.
        let started = start_time(pid)?;
        Ok(Self {
            reference: ProcessRef { pid, started },
            pidfd,
        })
    }

    /// Takes hold of the process that has this pid now, if there is one.
    pub(crate) fn open_if_there(pid: u32) -> io::Result<Option<Self>> {
        match Self::open(pid) {
            Ok(process) => Ok(Some(process)),
            Err(error) if is_gone(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Takes hold of the process that was meant; `None` if it is gone, whoever has its pid now.
    pub(crate) fn find(reference: ProcessRef) -> io::Result<Option<Self>> {
        let found = Self::open_if_there(reference.pid)?;
        Ok(found.filter(|process| process.reference == reference))
    }

    pub(crate) fn reference(&self) -> ProcessRef {
        self.reference
    }

    pub(crate) fn pid(&self) -> u32 {
        self.reference.pid
    }

    /// Sends a signal; one to a process that has exited is no error.
    pub(crate) fn signal(&self, signal: impl Into<SignalNumber>) -> io::Result<()> {
        let none = std::ptr::null::<libc::siginfo_t>();
        // SAFETY: integers, and a null pointer that the call accepts as "no siginfo".
        let sent = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.pidfd.as_raw_fd(),
                signal.into().number(),
                none,
                0,
            )
        };
        match sent {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()).or_else(|error| if is_gone(&error) { Ok(()) } else { Err(error) }),
        }
    }

    /// What a signal does to it now.
    pub(crate) fn disposition(&self, signal: SignalNumber) -> Disposition {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()));
        status.map_or(Disposition::Default, |status| disposition(&status, signal))
    }

    /// Whether a signal or a tracer has stopped it.
    pub(crate) fn is_stopped(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid()));
        stat.is_ok_and(|stat| is_stopped(&stat))
    }

    /// Whether every thread of it has exited.
    pub(crate) fn has_exited(&self) -> bool {
        let mut fds = [PollFd::new(self.pidfd.as_fd(), PollFlags::POLLIN)];
        nix::poll::poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }

    /// The process that is told of its end; none once it has ended.
    pub(crate) fn parent(&self) -> io::Result<Option<u32>> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid()))?;
        // Read before the process is looked at: so it is about the one that was meant.
        let parent = parse_parent(&stat).filter(|_| !self.has_exited());
        Ok(parent)
    }

    /// Resolves when every thread of it has exited.
    pub(crate) async fn exited(&self) -> io::Result<()> {
        readable(&self.pidfd).await
    }
}

impl AsFd for Process {
    /// Readable once the process has exited.
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

/// Field 3 of `/proc/PID/stat`.
fn is_stopped(stat: &str) -> bool {
    after_name(stat).is_some_and(|fields| fields.trim_start().starts_with(['T', 't']))
}

/// What a process has decided about a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disposition {
    /// It is caught, or ignored on purpose.
    Handled,
    /// It waits until it is asked for, or until it is let through.
    Blocked,
    /// The default action, which does not happen to the first process of a pid namespace.
    Default,
}

/// Looks into the three signal masks of the text of `/proc/PID/status`.
fn disposition(status: &str, signal: SignalNumber) -> Disposition {
    let bit = 1_u64 << (signal.number() - 1);
    let is_in = |name: &str| {
        let digits = status.lines().find_map(|line| line.strip_prefix(name));
        let mask = digits.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok());
        mask.is_some_and(|mask| mask & bit != 0)
    };
    if is_in("SigCgt:") || is_in("SigIgn:") {
        Disposition::Handled
    } else if is_in("SigBlk:") {
        Disposition::Blocked
    } else {
        Disposition::Default
    }
}

fn is_gone(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ESRCH) || error.kind() == io::ErrorKind::NotFound
}

fn start_time(pid: u32) -> io::Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    parse_start_time(&stat).ok_or_else(|| io::Error::other(format!("/proc/{pid}/stat is not as in proc(5)")))
}

/// Field 4, counted from 1.
fn parse_parent(stat: &str) -> Option<u32> {
    after_name(stat)?.split_ascii_whitespace().nth(4 - 3)?.parse().ok()
}

/// Field 22, counted from 1.
fn parse_start_time(stat: &str) -> Option<u64> {
    after_name(stat)?.split_ascii_whitespace().nth(22 - 3)?.parse().ok()
}

/// The fields of `/proc/PID/stat` from the third on; the second one is a name that may contain spaces and brackets.
fn after_name(stat: &str) -> Option<&str> {
    stat.get(stat.rfind(')')? + 1..)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::signal::Signal;

    #[test]
    fn k5_another_process_with_the_same_pid_is_not_found() {
        let own = Process::open(std::process::id()).expect("own process");
        let reference = own.reference();
        assert!(Process::find(reference).expect("look-up").is_some());
        let reused = ProcessRef {
            started: reference.started + 1,
            ..reference
        };
        assert!(Process::find(reused).expect("look-up").is_none());
    }

    #[test]
    fn caught_ignored_and_blocked_signals_are_told_apart() {
        let status =
            |caught: &str| format!("SigBlk:\t0000000000000001\nSigIgn:\t0000000000001000\nSigCgt:\t{caught}\n");
        let of = |caught: &str, signal: Signal| disposition(&status(caught), signal.into());
        assert_eq!(of("0000000000004000", Signal::SIGTERM), Disposition::Handled);
        assert_eq!(of("0000000000000000", Signal::SIGTERM), Disposition::Default);
        assert_eq!(of("0", Signal::SIGPIPE), Disposition::Handled);
        assert_eq!(of("0", Signal::SIGHUP), Disposition::Blocked);
        assert_eq!(of("1", Signal::SIGHUP), Disposition::Handled);
        let last = SignalNumber::parse("RTMAX").expect("a signal");
        assert_eq!(disposition(&status("8000000000000000"), last), Disposition::Handled);
        assert_eq!(disposition(&status("0"), last), Disposition::Default);
    }

    #[test]
    fn only_state_t_is_stopped() {
        assert!(is_stopped("17 (sleep) T 1 17") && is_stopped("17 (a) S) t 1 17"));
        assert!(!is_stopped("17 (T) S 1 17") && !is_stopped("cut"));
    }

    #[test]
    fn the_start_time_is_found_behind_a_hostile_name() {
        let stat = "17 (a) b (c) S 1 17 17 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4242 99";
        assert_eq!((parse_start_time(stat), parse_parent(stat)), (Some(4242), Some(1)));
        assert_eq!(parse_start_time("17 (cut"), None);
    }
}

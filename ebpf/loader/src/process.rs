//! Decides whether a process still lives, so that its exit will be noticed, or is already on its way out.

use std::{
    collections::BTreeSet,
    io,
    os::fd::{AsFd, FromRawFd, OwnedFd},
};

use nix::poll::{PollFd, PollFlags, PollTimeout};

/// `PF_EXITING` of the kernel's task flags: set at the start of `do_exit`, before the exit tracepoint.
const PF_EXITING: u64 = 0x4;

/// A descriptor that becomes readable when the whole thread group has exited.
///
/// # Errors
/// ESRCH: no such process. EINVAL (since 6.9: ENOENT for some states): a thread, not a process.
pub(crate) fn open(tgid: u32) -> io::Result<OwnedFd> {
    let pid = libc::pid_t::try_from(tgid).map_err(io::Error::other)?;
    // SAFETY: pidfd_open takes two integers and returns a descriptor nobody else owns.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: just returned by the kernel.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Whether the process behind the descriptor has exited.
pub(crate) fn has_exited(pidfd: &OwnedFd) -> io::Result<bool> {
    let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    Ok(nix::poll::poll(&mut fds, PollTimeout::ZERO)? > 0)
}

/// Whether every thread is past the point where the exit hook may already have run.
///
/// The hook runs long before a pidfd becomes readable (a big process takes 100 ms and more to give back its memory), so
/// a pidfd alone would call such a process alive and its exit would never be seen. A thread that is not exiting yet will
/// run the hook, which then finds the entry made before this question was asked.
///
/// `false` also for a process whose threads cannot be seen; ask [`has_exited`] afterwards.
pub(crate) fn is_exiting(tgid: u32) -> bool {
    let first = threads(tgid);
    let exiting = |tid: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{tgid}/task/{tid}/stat"));
        // A thread that cannot be read any more is gone.
        stat.ok()
            .and_then(|stat| field(&stat, 9))
            .is_none_or(|flags| flags & PF_EXITING != 0)
    };
    // A thread the first listing missed was made by one that was not exiting then; the second listing has it.
    !first.is_empty() && first.iter().all(exiting) && threads(tgid).is_subset(&first)
}

/// Start time of a process in clock ticks since boot; with the pid it names one process for ever.
pub(crate) fn started(tgid: u32) -> Option<u64> {
    field(&std::fs::read_to_string(format!("/proc/{tgid}/stat")).ok()?, 22)
}

fn threads(tgid: u32) -> BTreeSet<u32> {
    let Ok(entries) = std::fs::read_dir(format!("/proc/{tgid}/task")) else {
        return BTreeSet::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// A field of `/proc/PID/stat`, counted from 1 as in proc(5). The second one may contain spaces and brackets.
fn field(stat: &str, number: usize) -> Option<u64> {
    let after_name = &stat[stat.rfind(')')? + 1..];
    after_name
        .split_ascii_whitespace()
        .nth(number.checked_sub(3)?)?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_counted_past_a_hostile_name() {
        let stat = "17 (a) b (c) S 1 17 17 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4242 99";
        assert_eq!(field(stat, 9), Some(4_194_560));
        assert_eq!(field(stat, 22), Some(4242));
        assert_eq!(field("17 (cut", 9), None);
    }

    #[test]
    fn this_process_lives() {
        let pid = std::process::id();
        assert!(!is_exiting(pid));
        assert!(!has_exited(&open(pid).expect("own pidfd")).expect("poll"));
        assert!(started(pid).is_some());
    }

    #[test]
    fn a_zombie_is_exiting() {
        let mut child = std::process::Command::new("true").spawn().expect("spawn");
        let pidfd = open(child.id()).expect("pidfd");
        let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
        nix::poll::poll(&mut fds, PollTimeout::from(10_000_u16)).expect("poll");
        assert!(has_exited(&pidfd).expect("poll"));
        assert!(is_exiting(child.id()));
        child.wait().expect("wait");
        assert!(
            has_exited(&pidfd).expect("poll") && !is_exiting(child.id()),
            "there is nothing left to look at"
        );
    }
}

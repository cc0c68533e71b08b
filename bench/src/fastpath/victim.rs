//! Decides what is killed: a process that does nothing, and dies with the benchmark.

use std::{
    io,
    os::fd::{FromRawFd, OwnedFd},
};

use anyhow::{Context, Result};
use nix::{
    sys::{
        prctl,
        signal::{Signal, kill},
        wait::waitpid,
    },
    unistd::{ForkResult, Pid, fork, pause},
};

/// A process that waits to be killed.
pub(super) struct Victim {
    pid: Pid,
    reaped: bool,
}

impl Victim {
    pub(super) fn start() -> Result<Self> {
        // SAFETY: the child only makes system calls.
        match unsafe { fork() }.context("forking a victim")? {
            ForkResult::Parent { child } => Ok(Self {
                pid: child,
                reaped: false,
            }),
            ForkResult::Child => {
                // Should this fail, the victim is only untidy: it is killed anyway.
                let _ = prctl::set_pdeathsig(Signal::SIGKILL);
                loop {
                    pause();
                }
            }
        }
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid.as_raw().unsigned_abs()
    }

    pub(super) fn pidfd(&self) -> Result<OwnedFd> {
        // SAFETY: two integers in, a new descriptor out.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, self.pid.as_raw(), 0) };
        let fd = i32::try_from(fd).ok().filter(|fd| *fd >= 0);
        let fd = fd.ok_or_else(io::Error::last_os_error).context("opening a pidfd")?;
        // SAFETY: just returned by the kernel.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }

    pub(super) fn kill(&self) -> Result<()> {
        kill(self.pid, Signal::SIGKILL).context("killing a victim")
    }

    pub(super) fn reap(mut self) -> Result<()> {
        self.reaped = true;
        waitpid(self.pid, None).map(drop).context("waiting for a victim")
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        if !self.reaped {
            // Only after an error, which is being reported already.
            let _ = kill(self.pid, Signal::SIGKILL).and_then(|()| waitpid(self.pid, None));
        }
    }
}

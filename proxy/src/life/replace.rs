//! How the running proxy is replaced on request: a successor is started that belongs to nobody, and waited for until it serves.

use super::folder;
use crate::config::Config;
use crate::error::{Before, StartError};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{ForkResult, Pid, fork, setsid};
use std::io::{self, Read};
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// Begins the line with which a successor says that it serves; its process id follows.
const SERVES: &str = "serves ";

/// What a successor says once it serves.
pub fn serves() -> String {
    format!("{SERVES}{}\n", std::process::id())
}

/// Starts this program in the place of the proxy with these settings. The id of the process that serves from now on. Where `limit` is
/// longer than it, or the running proxy, gives itself, they say what was wrong.
///
/// # Errors
/// When it does not come to serve: then the running proxy does, and what was started is ended.
pub fn replace(config: &Path, limit: Duration) -> Result<u32, StartError> {
    let program = std::env::current_exe().map_err(StartError::Successor)?;
    let mut command = Command::new(program);
    command.arg("--config").arg(config).args(["take-over", "--keep-log"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    // SAFETY: between fork and exec `detach` makes system calls only; this process has one thread.
    unsafe { command.pre_exec(detach) };
    let mut child = command.spawn().map_err(StartError::Successor)?;
    let said = child.stdout.take().map(|said| hear(said, limit));
    match said {
        Some(Ok(pid)) => {
            // Only the process between this one and the successor is meant.
            let _ = child.wait();
            Ok(pid)
        }
        Some(Err(why)) => Err(given_up(&mut child, why, config)),
        None => Err(given_up(&mut child, "cannot be heard".to_owned(), config)),
    }
}

/// Out of this terminal and this process's hands: whoever adopts orphans here has it from the first moment.
fn detach() -> io::Result<()> {
    setsid()?;
    // SAFETY: the process has one thread, and both go on with nothing but system calls.
    match unsafe { fork() }? {
        // SAFETY: ends this process at once, which owns nothing.
        ForkResult::Parent { .. } => unsafe { libc::_exit(0) },
        ForkResult::Child => Ok(()),
    }
}

/// Nothing of it stays: it is in the session that was made for it, which has the number of the process between.
fn given_up(child: &mut Child, why: String, config: &Path) -> StartError {
    if let Ok(session) = i32::try_from(child.id()) {
        // It may have ended by itself.
        let _ = killpg(Pid::from_raw(session), Signal::SIGKILL);
    }
    let _ = child.wait();
    let before = before(config);
    StartError::NoSuccessor { why, before }
}

/// What there is in place of it, by the lock that a proxy holds for as long as it lives.
fn before(config: &Path) -> Before {
    let Ok(config) = Config::read(config) else {
        return Before::Unknown;
    };
    match folder::is_taken(&config.data_dir) {
        Ok(true) => Before::Serves,
        Ok(false) => Before::None(config.data_dir),
        Err(_) => Before::Unknown,
    }
}

/// The id it says, or what it did instead.
fn hear(mut said: ChildStdout, limit: Duration) -> Result<u32, String> {
    let (mut text, deadline) = (Vec::new(), Instant::now() + limit);
    loop {
        if let Some(line) = text.strip_suffix(b"\n") {
            let line = String::from_utf8_lossy(line);
            let pid = line.strip_prefix(SERVES).and_then(|pid| pid.parse().ok());
            return pid.ok_or_else(|| format!("said {line:?}"));
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let wait = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(said.as_fd(), PollFlags::POLLIN)], wait) {
            Ok(0) => return Err(format!("did not serve within {limit:?}")),
            Ok(_) => {}
            Err(nix::errno::Errno::EINTR) => continue,
            Err(error) => return Err(format!("cannot be heard: {error}")),
        }
        let mut bytes = [0; 64];
        match said.read(&mut bytes) {
            Ok(0) => return Err("ended before it served".to_owned()),
            Ok(count) if text.len() < 1024 => text.extend_from_slice(&bytes[..count]),
            Ok(_) => return Err("says something else than that it serves".to_owned()),
            Err(error) => return Err(format!("cannot be heard: {error}")),
        }
    }
}

//! How the running proxy is replaced on request: a successor is started that belongs to nobody, and waited for until it serves.

use super::folder;
use crate::config::Config;
use crate::error::{Before, StartError};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{ForkResult, Pid, fork, setsid};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::time::Duration;

/// Begins the line with which a successor says that it serves; its process id follows.
const SERVES: &str = "serves ";
/// The line before it: from now on the running proxy may make way at any moment, so nobody ends this one.
const OFFERS: &str = "offers";
/// From that line to the other one, at most: a successor waits for two words of the process before it, for 10 s each.
const SETTLED: Duration = Duration::from_secs(30);

/// Until when a successor may offer to serve, on the clock that all processes of a machine share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Until(Duration);

impl Until {
    pub fn after(limit: Duration) -> Self {
        Self(now().saturating_add(limit))
    }

    fn left(self) -> Duration {
        self.0.saturating_sub(now())
    }

    fn is_over(self) -> bool {
        self.left().is_zero()
    }

    /// Says that this process offers to serve. The order settles it: who looks for the word behind this time, and finds none, knows
    /// that none is offered any more.
    ///
    /// # Errors
    /// When the time is over: then nothing may be offered.
    pub fn offers(self, say: impl FnOnce(&str) -> io::Result<()>) -> Result<(), StartError> {
        if let Err(error) = say(&format!("{OFFERS}\n")) {
            tracing::debug!(%error, "who began this upgrade is gone");
        }
        match self.is_over() {
            true => Err(StartError::HandOver("it did not come to serve in its time".to_owned())),
            false => Ok(()),
        }
    }
}

impl std::fmt::Display for Until {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0.as_millis())
    }
}

impl FromStr for Until {
    type Err = std::num::ParseIntError;

    /// Milliseconds of the clock.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse()
            .map(|milliseconds| Self(Duration::from_millis(milliseconds)))
    }
}

/// Where it cannot be read, every time is over.
fn now() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::MAX, Duration::from)
}

/// What a successor says once it serves.
pub fn serves() -> String {
    format!("{SERVES}{}\n", std::process::id())
}

/// Starts this program in the place of the proxy with these settings. The id of the process that serves from now on. It may offer to
/// serve until `limit` is over; where that is longer than it, or the running proxy, gives itself, they say what was wrong.
///
/// # Errors
/// When it does not come to serve: then the running proxy does, and what was started is ended.
pub fn replace(config: &Path, limit: Duration) -> Result<u32, StartError> {
    let program = std::env::current_exe().map_err(StartError::Successor)?;
    let mut command = Command::new(program);
    let until = Until::after(limit);
    command.arg("--config").arg(config).args(["take-over", "--keep-log"]);
    command.arg("--until").arg(until.to_string());
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    // SAFETY: between fork and exec `detach` makes system calls only; this process has one thread.
    unsafe { command.pre_exec(detach) };
    let mut child = command.spawn().map_err(StartError::Successor)?;
    let said = child.stdout.take().map(|said| hear(said, until, limit));
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
fn hear(mut said: impl Read + AsFd, mut until: Until, limit: Duration) -> Result<u32, String> {
    let mut text = Vec::new();
    let settled = Until(until.0.saturating_add(SETTLED));
    loop {
        while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
            let line = String::from_utf8_lossy(&text[..end]).into_owned();
            text.drain(..=end);
            if line != OFFERS {
                let pid = line.strip_prefix(SERVES).and_then(|pid| pid.parse().ok());
                return pid.ok_or_else(|| format!("said {line:?}"));
            }
            until = settled;
        }
        // Before the look: what is found behind that time was said before it.
        let is_over = until.is_over();
        let wait = match is_over {
            true => PollTimeout::ZERO,
            false => PollTimeout::try_from(until.left() + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX),
        };
        match poll(&mut [PollFd::new(said.as_fd(), PollFlags::POLLIN)], wait) {
            Ok(0) if is_over => return Err(format!("did not serve within {limit:?}")),
            Ok(0) | Err(nix::errno::Errno::EINTR) => continue,
            Ok(_) => {}
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    const OVER: Until = Until(Duration::ZERO);

    fn long() -> Until {
        Until::after(Duration::from_secs(3600))
    }

    #[test]
    fn i9_one_that_has_offered_to_serve_in_its_time_is_heard_out_behind_it() {
        let (said, mut says) = io::pipe().unwrap();
        says.write_all(b"offers\n").unwrap();
        let heard = std::thread::scope(|scope| {
            let other = said.try_clone().unwrap();
            let hears = scope.spawn(move || hear(said, Until::after(Duration::ZERO), Duration::ZERO));
            // Its time is over, and nothing more is there to be read.
            while poll(&mut [PollFd::new(other.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO) != Ok(0) {
                std::thread::yield_now();
            }
            let _ = says.write_all(b"serves 7\n");
            hears.join().unwrap()
        });
        assert_eq!(heard, Ok(7));
    }

    #[test]
    fn one_that_offers_nothing_in_its_time_is_given_up_and_one_that_says_something_else_too() {
        let (said, _says) = io::pipe().unwrap();
        let why = hear(said, OVER, Duration::from_secs(9)).unwrap_err();
        assert_eq!(why, "did not serve within 9s");
        for (text, told) in [
            (&b"?\n"[..], "said \"?\""),
            (b"offers\nserves x\n", "said \"serves x\""),
            (b"offers\n", "ended before it served"),
            (&[b'x'; 2000], "says something else than that it serves"),
        ] {
            let (said, mut says) = io::pipe().unwrap();
            says.write_all(text).unwrap();
            drop(says);
            assert_eq!(hear(said, long(), Duration::ZERO), Err(told.to_owned()));
        }
    }

    #[test]
    fn i9_who_says_that_it_offers_when_its_time_is_over_may_not() {
        let mut said = String::new();
        let mut say = |until: Until, word: &str| {
            until.offers(|text| {
                said.push_str(word);
                said.push_str(text);
                Ok(())
            })
        };
        assert!(say(long(), "in time: ").is_ok());
        assert!(say(OVER, "late: ").is_err());
        assert_eq!(said, "in time: offers\nlate: offers\n");
        // It becomes so while the word is said.
        let until = Until::after(Duration::from_millis(1));
        let slowly = until.offers(|_| {
            while !until.is_over() {
                std::thread::yield_now();
            }
            Ok(())
        });
        assert!(slowly.is_err());
        let gone = long().offers(|_| Err(io::ErrorKind::BrokenPipe.into()));
        assert!(gone.is_ok(), "nobody is there to end it");
    }

    #[test]
    fn a_time_is_the_same_in_another_process() {
        let until = Until::after(Duration::from_millis(12_345));
        let told: Until = until.to_string().parse().unwrap();
        assert!(told.0 <= until.0 && until.0 - told.0 < Duration::from_millis(1));
        assert!("soon".parse::<Until>().is_err());
    }
}

//! How one control makes way for another: while the store is locked nobody can open it, so the moment between the two is exact.

use super::keeper::{Keeper, Log};
use super::process;
use super::record::Record;
use crate::failure::{Doing, Failure};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::Signal;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// Between two looks at other processes, which tell nobody of what becomes of them.
const LOOK_AGAIN: Duration = Duration::from_millis(30);
/// From being asked to make way until it is killed: longer than control takes for what is under way.
const MAKES_WAY: Duration = Duration::from_secs(20);
/// Until the store has to be free.
const FREE: Duration = Duration::from_secs(40);
/// Until somebody has started it: supervisors wait between two starts.
const STARTED: Duration = Duration::from_secs(30);
/// So many processes that have ended before they were ready are enough to know.
const DEATHS: usize = 3;

/// No control can open the store while there is one.
pub struct Locked(#[expect(dead_code, reason = "held for its drop")] Flock<File>);

impl Locked {
    /// Lets in whatever is started from now on. What waits for the store already may run the program that was in place before.
    pub fn release(self, record: &Record) {
        let waiting = record.control.processes();
        waiting
            .into_iter()
            .for_each(|pid| process::signal(pid, Signal::SIGKILL));
    }
}

/// What has come of a start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Started {
    /// The program that is in place serves.
    InPlace,
    /// The one before it does: it was being started when that was replaced.
    Other,
    /// It has ended by itself, again and again, before it was ready.
    Ended(Failure),
}

/// Has every control of the node end, and keeps others out.
pub async fn lock(record: &Record) -> Result<Locked, Failure> {
    let path = record.data_dir.join("control.lock");
    let what = || format!("locking {}", path.display());
    let begun = Instant::now();
    let mut asked = Vec::new();
    loop {
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        match Flock::lock(file.doing(what)?, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(Locked(lock)),
            Err((_, Errno::EWOULDBLOCK)) => ask_to_make_way(record, &mut asked),
            Err((_, error)) => return Err(std::io::Error::from(error)).doing(what),
        }
        if begun.elapsed() > FREE {
            let holder = fs::read_to_string(&path).unwrap_or_default();
            let why = format!("process {} does not let it go", holder.trim());
            return Err(Failure::failed(why).doing(&what()));
        }
        sleep(LOOK_AGAIN).await;
    }
}

/// One that is ready finishes its step. One that is not has begun nothing; one that takes too long is ended, as a crash would.
fn ask_to_make_way(record: &Record, asked: &mut Vec<(u32, Instant)>) {
    let ready = process::control_at(&record.control_socket).filter(|listener| listener.is_ready);
    // Beside one that is ready there are only its children, for the moment that they look like it.
    let all = ready.map_or_else(|| record.control.processes(), |listener| vec![listener.pid]);
    for pid in all {
        let is_ready = ready.is_some();
        match asked.iter().find(|(other, _)| *other == pid) {
            None if is_ready => process::signal(pid, Signal::SIGUSR2),
            None => process::signal(pid, Signal::SIGKILL),
            Some((_, since)) if since.elapsed() > MAKES_WAY => process::signal(pid, Signal::SIGKILL),
            Some(_) => continue,
        }
        asked.retain(|(other, _)| *other != pid);
        asked.push((pid, Instant::now()));
    }
}

/// Whether the program that is in place serves.
pub fn serves(record: &Record) -> bool {
    let listener = process::control_at(&record.control_socket);
    listener.is_some_and(|listener| listener.is_ready && process::runs(listener.pid, &record.control.program))
}

/// How control is started where nobody does, and how long it may take.
pub struct Start<'s> {
    pub command: Option<&'s str>,
    pub limit: Duration,
    pub log: &'s Log,
}

/// Waits until one serves, or has ended so often that none will. An error says that nobody knows whether it would.
pub async fn starts(record: &Record, start: &Start<'_>) -> Result<Started, Failure> {
    let mut starter = start.command.map(run).transpose()?;
    let (mut begun, mut seen) = (Instant::now(), BTreeSet::new());
    loop {
        if let Some(listener) = process::control_at(&record.control_socket).filter(|listener| listener.is_ready) {
            return Ok(match process::runs(listener.pid, &record.control.program) {
                true => Started::InPlace,
                false => Started::Other,
            });
        }
        // Before the processes are looked at: what it has run in the foreground is gone then, too.
        let ended = starter.as_mut().and_then(|starter| starter.try_wait().ok().flatten());
        let (alive, was_started) = (starting(record), !seen.is_empty());
        seen.extend(alive.iter().copied());
        if !was_started && !seen.is_empty() {
            begun = Instant::now();
        }
        let died = seen.iter().filter(|pid| !alive.contains(pid)).count();
        if died >= DEATHS {
            let why = format!("it ended {died} times before it was ready");
            return Ok(Started::Ended(failed(record, start, why)));
        }
        if ended.is_some() && died > 0 && alive.is_empty() {
            // A supervisor would do the same.
            starter = start.command.map(run).transpose()?;
            continue;
        }
        let refused = ended.filter(|status| !status.success());
        let why = match seen.is_empty() {
            _ if refused.is_some() => format!("what starts it has ended ({})", refused.unwrap_or_default()),
            false if begun.elapsed() > start.limit => format!("it was not ready within {:?}", start.limit),
            true if begun.elapsed() > STARTED => format!(
                "nobody has started it within {STARTED:?}; its command line is {:?}",
                record.control.arguments.join(" ")
            ),
            _ => {
                sleep(LOOK_AGAIN).await;
                continue;
            }
        };
        return Err(failed(record, start, why));
    }
}

/// The controls that run, without what they have begun to start: for a moment that looks like them.
fn starting(record: &Record) -> Vec<u32> {
    let all = record.control.processes();
    let is_child = |pid: &u32| process::parent(*pid).is_some_and(|parent| all.contains(&parent));
    all.iter().copied().filter(|pid| !is_child(pid)).collect()
}

fn failed(record: &Record, start: &Start<'_>, why: String) -> Failure {
    let words = start.log.last_words();
    let told = if words.is_empty() {
        why
    } else {
        format!("{why}; it said:\n{words}")
    };
    Failure::failed(told).doing(&format!("starting {}", record.control.program.display()))
}

/// In a session of its own, so that it outlives this one.
fn run(command: &str) -> Result<Child, Failure> {
    let mut session = Command::new("setsid");
    session.args(["sh", "-c", command]);
    session.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    session.spawn().doing(|| format!("running {command:?}"))
}

/// Whether somebody starts control again, as far as that is known.
pub fn is_kept(pid: u32, control_socket: &Path) -> (Keeper, Log) {
    let keeper = Keeper::of(pid, control_socket.parent().unwrap_or(Path::new("/")));
    let log = keeper.log(pid);
    (keeper, log)
}

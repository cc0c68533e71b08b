//! One daemon: started until it is ready, restarted when it dies, stopped when asked.

use super::binary::Binary;
use super::desk::{Desk, Visitor};
use super::notify::Notifications;
use super::program::Program;
use super::stop::{Stop, StopLevel};
use crate::console::Notes;
use crate::failure::{Doing, Failure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::process::ExitStatus;
use std::time::{Duration, Instant};
use tokio::process::Child;
use tokio::time::sleep;

mod backoff;
#[cfg(test)]
mod tests;

use backoff::Backoff;

/// From start to ready: loading kernel programs and adopting sandboxes included.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// From SIGTERM to SIGKILL: longer than a drain (30 s), its stop grace (10 s), the forced end of what is left after it
/// (30 s) and the removal of everything.
const STOP_TIMEOUT: Duration = Duration::from_secs(90);
/// How much of the end of a log is searched for its last line.
const LOG_TAIL: u64 = 4096;

/// How a daemon's end came about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It ended when asked to.
    Gently,
    /// It had to be killed, or failed while it stopped; what it should have cleaned up may be left.
    Killed(String),
    /// It was killed because somebody insisted.
    Forced,
}

/// A daemon and what is known about its process.
pub struct Daemon {
    program: Program,
    notifications: Notifications,
    notes: Notes,
    child: Option<Child>,
    /// Those that have a successor, and finish what they have.
    retiring: Vec<Child>,
    /// Of one that can be replaced while it runs.
    binary: Option<Binary>,
    /// Where it can be asked for that.
    desk: Option<Desk>,
    started: Instant,
}

impl Daemon {
    /// Opens the socket it will report to, and empties its log.
    pub fn prepare(program: Program, notes: Notes) -> Result<Self, Failure> {
        let notifications = Notifications::listen(&program.notify, &program.notifier)?;
        std::fs::write(&program.log, "").doing(|| format!("writing {}", program.log.display()))?;
        let watch = |_| Binary::watch(&program.path).doing(|| format!("watching {}", program.path.display()));
        let binary = program.takes_over.map(watch).transpose()?;
        Ok(Self {
            binary,
            desk: None,
            retiring: Vec::new(),
            program,
            notifications,
            notes,
            child: None,
            started: Instant::now(),
        })
    }

    pub fn name(&self) -> &str {
        &self.program.name
    }

    /// Whoever asks there has it replaced by the program that is on disk.
    pub fn answers_at(&mut self, desk: Desk) {
        self.desk = Some(desk);
    }

    /// Starts it for the first time, and returns what it says about itself once it is ready.
    pub async fn start(&mut self, stop: Stop) -> Result<String, Failure> {
        self.launch(stop, StopLevel::Gently).await
    }

    /// Starts it and waits until it is ready, unless `level` is reached before.
    async fn launch(&mut self, mut stop: Stop, level: StopLevel) -> Result<String, Failure> {
        let what = || format!("starting {}", self.program.name);
        self.started = Instant::now();
        let child = self.child.insert(spawn(&self.program, &mut self.binary).doing(what)?);
        let failure = tokio::select! {
            ready = self.notifications.ready() => return ready.doing(what),
            status = child.wait() => {
                self.child = None;
                return Err(Failure::failed(self.last_words(&status?)).doing(&what()).remedy(self.log_remedy()));
            }
            () = sleep(READY_TIMEOUT) => Failure::failed(format!("not ready after {} s", READY_TIMEOUT.as_secs())),
            () = stop.reached(level) => Failure::interrupted(),
        };
        Err(failure.doing(&what()).remedy(self.log_remedy()))
    }

    /// Keeps it running until told to stop, then stops it.
    pub async fn keep(&mut self, mut stop: Stop) -> Ended {
        let mut backoff = Backoff::default();
        loop {
            let event = tokio::select! {
                () = stop.reached(StopLevel::Gently) => None,
                status = ended(&mut self.child) => Some(status),
                ready = self.notifications.ready() => {
                    if ready.is_ok() {
                        self.notes.line(&format!("{} is ready again ({})", self.program.name, self.pid()));
                    }
                    continue;
                }
                () = is_replaced(&mut self.binary) => {
                    // What became of it is in the notes.
                    let _ = self.replace(stop.clone(), READY_TIMEOUT).await;
                    continue;
                }
                visitor = visitor(&mut self.desk) => {
                    self.serve(visitor, stop.clone()).await;
                    continue;
                }
            };
            let Some(status) = event else {
                return self.stop(stop).await;
            };
            self.child = None;
            if matches!(&status, Ok(status) if status.success()) {
                // It was told to: to make way for the program that is on disk now.
                backoff = Backoff::default();
            }
            let wait = backoff.next(self.started.elapsed());
            let why = status.map_or_else(|error| error.to_string(), |status| self.last_words(&status));
            self.notes.line(&format!(
                "{} {why}; starting it again in {} ms",
                self.program.name,
                wait.as_millis()
            ));
            tokio::select! {
                () = stop.reached(StopLevel::Gently) => return self.stop_the_dead(stop).await,
                () = sleep(wait) => {}
            }
            self.started = Instant::now();
            match spawn(&self.program, &mut self.binary) {
                Ok(child) => self.child = Some(child),
                Err(error) => self.notes.line(&format!("starting {}: {error}", self.program.name)),
            }
        }
    }

    /// Has the program that is on disk now serve in the place of the process that runs, which finishes what it has.
    async fn replace(&mut self, stop: Stop, limit: Duration) -> Result<(), String> {
        let name = self.program.name.clone();
        match self.successor(stop, limit).await {
            Ok(successor) => {
                if let Some(binary) = &mut self.binary {
                    binary.serves();
                }
                self.retiring.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
                self.retiring.extend(self.child.replace(successor));
                self.started = Instant::now();
                self.notes.line(&format!(
                    "{name} has changed on disk: the new one serves ({})",
                    self.pid()
                ));
                Ok(())
            }
            Err(why) => {
                self.notes.line(&format!(
                    "{name} has changed on disk, and the new one does not serve: {why}; the old one does"
                ));
                Err(why)
            }
        }
    }

    /// Does what somebody asks for. What runs the program on disk already is not replaced.
    async fn serve(&mut self, visitor: Visitor, stop: Stop) {
        let limit = Duration::from_millis(visitor.request.limit_ms).min(READY_TIMEOUT);
        let outcome = match &self.binary {
            _ if visitor.request.replace != self.program.name => {
                Err(format!("{} is not replaced here", visitor.request.replace))
            }
            Some(binary) if self.child.is_some() && binary.is_served() => Ok(()),
            Some(_) if self.child.is_some() => self.replace(stop, limit).await,
            _ => Err(format!("{} does not run at the moment", self.program.name)),
        };
        visitor.answer(outcome).await;
    }

    /// One that is ready. Nothing is left of one that is not.
    async fn successor(&mut self, mut stop: Stop, limit: Duration) -> Result<Child, String> {
        if let Some(binary) = &mut self.binary {
            binary.is_tried();
        }
        let mut child = self.program.spawn_successor().map_err(|error| error.to_string())?;
        let why = tokio::select! {
            ready = self.notifications.ready() => match ready {
                Ok(_) => return Ok(child),
                Err(error) => error.to_string(),
            },
            status = child.wait() => {
                return Err(status.map_or_else(|error| error.to_string(), |status| self.last_words(&status)));
            }
            () = sleep(limit) => format!("not ready after {limit:?}"),
            () = stop.reached(StopLevel::Gently) => "told to stop".to_owned(),
        };
        signal(&child, Signal::SIGKILL);
        let _ = child.wait().await;
        Err(why)
    }

    /// Told to stop while it is down: one that has things to clean up is started once more to do so.
    async fn stop_the_dead(&mut self, stop: Stop) -> Ended {
        if !self.program.cleans_up {
            return Ended::Gently;
        }
        self.notes
            .line(&format!("starting {} once more, to clean up", self.program.name));
        match self.launch(stop.clone(), StopLevel::Forced).await {
            Ok(_) => self.stop(stop).await,
            Err(failure) => match self.stop(stop).await {
                Ended::Gently => Ended::Killed(failure.message),
                worse => worse,
            },
        }
    }

    /// Asks it to end, and waits; kills it when it takes too long or somebody insists.
    pub async fn stop(&mut self, mut stop: Stop) -> Ended {
        let mut retiring = std::mem::take(&mut self.retiring);
        let Some(mut child) = self.child.take() else {
            return Ended::Gently;
        };
        retiring
            .iter()
            .chain([&child])
            .for_each(|child| signal(child, Signal::SIGTERM));
        let all = async {
            let status = child.wait().await;
            for other in &mut retiring {
                // Theirs say nothing new.
                let _ = other.wait().await;
            }
            status
        };
        let outcome = tokio::select! {
            status = all => return self.conclude(status),
            () = sleep(STOP_TIMEOUT) => Ended::Killed(format!("killed after {} s", STOP_TIMEOUT.as_secs())),
            () = stop.reached(StopLevel::Forced) => Ended::Forced,
        };
        for mut child in retiring.into_iter().chain([child]) {
            signal(&child, Signal::SIGKILL);
            // A killed process always ends; its status says nothing new.
            let _ = child.wait().await;
        }
        outcome
    }

    /// What an end means that was asked for. A daemon without things to clean up may also say that it cut connections.
    fn conclude(&self, status: std::io::Result<ExitStatus>) -> Ended {
        let why = match status {
            Ok(status) if status.success() => return Ended::Gently,
            Ok(status) => self.last_words(&status),
            Err(error) => error.to_string(),
        };
        if self.program.cleans_up {
            return Ended::Killed(why);
        }
        self.notes.line(&format!("{} {why}", self.program.name));
        Ended::Gently
    }

    fn pid(&self) -> String {
        self.child
            .as_ref()
            .and_then(Child::id)
            .map_or_else(|| "gone".to_owned(), |pid| format!("pid {pid}"))
    }

    fn log_remedy(&self) -> String {
        format!("cat {}", self.program.log.display())
    }

    /// How it ended; where it ended by itself, with the last line it wrote, which is its reason.
    fn last_words(&self, status: &ExitStatus) -> String {
        let line = status.code().and_then(|_| last_line(&self.program.log));
        match line {
            Some(line) => {
                let prefix = format!("{}: ", self.program.name);
                let reason = line.trim_start_matches("error: ").trim_start_matches(&prefix);
                format!("ended ({status}): {reason}")
            }
            None => format!("ended ({status})"),
        }
    }
}

/// Starts the program that is on disk.
fn spawn(program: &Program, binary: &mut Option<Binary>) -> std::io::Result<Child> {
    if let Some(binary) = binary {
        binary.is_tried();
        binary.serves();
    }
    program.spawn()
}

/// Waits for somebody who asks; for ever where nobody can.
async fn visitor(desk: &mut Option<Desk>) -> Visitor {
    match desk {
        Some(desk) => desk.visitor().await,
        None => std::future::pending().await,
    }
}

/// Waits for a process that may not be there, because it could not be started.
async fn ended(child: &mut Option<Child>) -> std::io::Result<ExitStatus> {
    match child {
        Some(child) => child.wait().await,
        None => Err(std::io::Error::other("could not be started")),
    }
}

/// Waits until the program is another one; for ever where that cannot be seen.
async fn is_replaced(binary: &mut Option<Binary>) {
    if let Some(watched) = binary {
        if watched.changed().await.is_ok() {
            return;
        }
        *binary = None;
    }
    std::future::pending().await
}

/// Signals a child that has not been waited for: its process id cannot have become another's.
fn signal(child: &Child, signal: Signal) {
    if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
        // It may have ended by itself, which is what is wanted.
        let _ = kill(Pid::from_raw(pid), signal);
    }
}

fn last_line(log: &std::path::Path) -> Option<String> {
    use std::io::{Read, Seek, SeekFrom};
    let mut file = std::fs::File::open(log).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL))).ok()?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let line = text.lines().rev().find(|line| !line.trim().is_empty())?;
    Some(line.trim().to_owned())
}

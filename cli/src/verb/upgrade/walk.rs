//! The order in which a node gets another build, and goes back from any step. Each step is written down before it is begun, and may be
//! begun again.

use super::control::{self, Start, Started};
use super::keeper::{Keeper, Log};
use super::process;
use super::record::{Book, Phase, Record};
use super::{files, proxy, store};
use crate::console::Console;
use crate::failure::Failure;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What an old program gets at least, when it is to serve again: it has done so before.
const AGAIN: Duration = Duration::from_secs(120);

/// How often a control may be started that is not the one in place: one that was being started when that was replaced.
const STARTS: usize = 3;

/// What the operator said about how.
pub struct How {
    /// For each daemon, until it is ready.
    pub limit: Duration,
}

/// One step, as it is told.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    pub name: &'static str,
    /// `done` or `failed`.
    pub status: &'static str,
    pub duration_ms: u128,
}

/// An upgrade that is being done.
pub struct Walk<'w> {
    pub record: Record,
    pub book: &'w Book,
    pub how: &'w How,
    pub steps: Vec<Step>,
    log: Log,
}

impl Phase {
    pub fn name(self) -> &'static str {
        match self {
            Self::Stage => "stage",
            Self::Control => "control",
            Self::Proxy => "proxy",
            Self::Command => "command",
        }
    }

    /// What is about to be done.
    pub fn told(self) -> &'static str {
        match self {
            Self::Stage => "putting the new programs beside the old ones",
            Self::Control => "copying the store, and replacing control",
            Self::Proxy => "replacing the proxy",
            Self::Command => "replacing the command",
        }
    }

    pub const ALL: [Self; 4] = [Self::Stage, Self::Control, Self::Proxy, Self::Command];
}

impl<'w> Walk<'w> {
    pub fn new(record: Record, book: &'w Book, how: &'w How) -> Self {
        let run_dir = record.control_socket.parent().unwrap_or(Path::new("/")).to_owned();
        // As it speaks now; its successors do so there, too.
        let pid = process::control_at(&record.control_socket).map(|listener| listener.pid);
        let pid = pid.or_else(|| record.control.processes().first().copied());
        let log = pid.map_or(Log::Unknown, |pid| Keeper::of(pid, &run_dir).log(pid));
        Self {
            record,
            book,
            how,
            steps: Vec::new(),
            log,
        }
    }

    /// From the step that is written down through the last.
    pub async fn forward(&mut self, console: &Console) -> Result<(), Failure> {
        let begin = self.record.phase;
        for phase in Phase::ALL.into_iter().filter(|phase| *phase >= begin) {
            self.record.phase = phase;
            self.book.write(&self.record)?;
            note(console, phase.name(), phase.told());
            let begun = Instant::now();
            let done = match phase {
                Phase::Stage => self.stage(),
                Phase::Control => self.control().await,
                Phase::Proxy => self.proxy().await,
                Phase::Command => self.command(),
            };
            self.tell(phase.name(), begun, done.is_ok());
            done.map_err(|failure| failure.doing(&format!("step {:?}", phase.name())))?;
        }
        Ok(())
    }

    /// What only an upgrade needs that could still fail. Where this fails nothing goes back.
    pub fn finish(&mut self) -> Result<(), Failure> {
        self.give_up_copy()?;
        self.book.remove()
    }

    /// Nobody goes back to it from now on.
    fn give_up_copy(&mut self) -> Result<(), Failure> {
        self.record.copied = false;
        self.book.write(&self.record)?;
        store::remove_copy(&self.record)
    }

    fn tell(&mut self, name: &'static str, begun: Instant, is_done: bool) {
        self.steps.push(Step {
            name,
            status: if is_done { "done" } else { "failed" },
            duration_ms: begun.elapsed().as_millis(),
        });
    }

    fn stage(&self) -> Result<(), Failure> {
        let control = process::control_at(&self.record.control_socket).map(|listener| listener.pid);
        let proxy = proxy::running(&self.record);
        for program in self.record.programs() {
            let name = program.file_name().map(PathBuf::from).unwrap_or_default();
            let is_control = program == self.record.control.program;
            let is_proxy = self.record.proxy.as_ref().is_some_and(|role| role.program == program);
            match &self.record.from {
                Some(folder) => files::stage(&folder.join(name), &program)?,
                // What was there before is not known.
                None if !is_control && !is_proxy => {
                    files::keep_none(&program)?;
                    continue;
                }
                None => {}
            }
            let pid = if is_control {
                control
            } else {
                proxy.filter(|_| is_proxy)
            };
            match pid {
                Some(pid) if self.record.from.is_none() => files::swap(&program, pid)?,
                _ => files::keep(&program, pid)?,
            }
        }
        Ok(())
    }

    async fn control(&mut self) -> Result<(), Failure> {
        let program = self.record.control.program.clone();
        // A new program may have had the store already, if this step is done again.
        let is_staged = files::is_staged(&program);
        let mut is_old = is_staged || !self.record.copied;
        let mut is_done = !is_staged && control::serves(&self.record);
        for _ in 0..STARTS {
            if is_done {
                break;
            }
            let locked = control::lock(&self.record).await?;
            if is_old {
                self.give_up_copy()?;
                store::copy(&self.record)?;
                self.record.copied = true;
                self.book.write(&self.record)?;
            }
            files::install(&program)?;
            locked.release(&self.record);
            is_done = match self.starts(self.how.limit).await? {
                Started::InPlace => true,
                Started::Other => false,
                Started::Ended(failure) => return Err(failure),
            };
            // The one that served has it open still.
            is_old = !is_done;
        }
        if !is_done {
            return Err(other_serves(&program));
        }
        self.record.served = true;
        self.book.write(&self.record)
    }

    async fn starts(&self, limit: Duration) -> Result<Started, Failure> {
        let start = Start {
            command: self.record.start_control.as_deref(),
            limit,
            log: &self.log,
        };
        control::starts(&self.record, &start).await
    }

    async fn proxy(&self) -> Result<(), Failure> {
        let Some(role) = &self.record.proxy else { return Ok(()) };
        files::install(&role.program)?;
        proxy::replace(&self.record, role, self.record.restarts_proxy, self.how.limit).await
    }

    fn command(&self) -> Result<(), Failure> {
        self.record.command().map_or(Ok(()), |program| files::install(&program))
    }

    /// From whatever was done to what was before. `why`: what failed, or that it was asked for.
    pub async fn back(&mut self, why: &str, console: &Console) -> Result<(), Failure> {
        self.record.back = Some(why.to_owned());
        if self.record.copied && !self.record.restoring && files::is_staged(&self.record.control.program) {
            // No new control has had the store. What says so is removed next.
            self.record.copied = false;
            self.book.write(&self.record)?;
        }
        // A disk that is full does not keep the old programs from serving.
        let _ = self.book.write(&self.record);
        note(console, "back", "the old programs serve again");
        let begun = Instant::now();
        let done = self.go_back().await;
        self.tell("back", begun, done.is_ok());
        done?;
        self.finish()
    }

    async fn go_back(&mut self) -> Result<(), Failure> {
        let was_staged = self.record.phase > Phase::Stage;
        for program in self.record.programs() {
            match was_staged {
                true => files::restore(&program, self.record.from.is_none())?,
                false => files::unstage(&program, self.record.from.is_none())?,
            }
        }
        if was_staged && (!control::serves(&self.record) || self.record.store_comes_back()) {
            self.control_again(self.record.store_comes_back()).await?;
        }
        match &self.record.proxy {
            Some(role) if was_staged => proxy::replace(&self.record, role, self.record.restarts_proxy, AGAIN).await,
            _ => Ok(()),
        }
    }

    /// The old control, with the store as it is or as it was. Where it cannot go on with what the new one left, it gets the copy: that it
    /// cannot is known only of one that was started and ended.
    async fn control_again(&mut self, mut store_comes_back: bool) -> Result<(), Failure> {
        for _ in 0..STARTS {
            let locked = control::lock(&self.record).await?;
            if store_comes_back {
                self.restore()?;
            }
            locked.release(&self.record);
            match self.starts(AGAIN).await? {
                Started::InPlace => return Ok(()),
                Started::Other => {}
                Started::Ended(_) if self.record.copied && !store_comes_back => store_comes_back = true,
                Started::Ended(failure) => return Err(failure),
            }
        }
        Err(other_serves(&self.record.control.program))
    }

    /// Written down before it is begun and when it is done: what is half done is done again, and what is done is not.
    fn restore(&mut self) -> Result<(), Failure> {
        // Otherwise that of a first time is what is worth keeping.
        if self.record.copied && !self.record.restoring {
            store::forget_failed(&self.record)?;
        }
        (self.record.copied, self.record.restoring) = (true, true);
        self.book.write(&self.record)?;
        store::put_back(&self.record)?;
        (self.record.copied, self.record.restoring) = (false, false);
        self.book.write(&self.record)
    }
}

fn other_serves(program: &Path) -> Failure {
    Failure::failed(format!(
        "control is started from another file than {} again and again",
        program.display()
    ))
}

/// Says what goes on, to people.
pub fn note(console: &Console, name: &str, told: &str) {
    if !console.is_json() {
        console.note(&format!("  {name:<8} {told}"));
    }
}

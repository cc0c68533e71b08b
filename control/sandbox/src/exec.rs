//! Decides how a further command runs in a sandbox: how many at a time, and that none outlives whoever asked for it.

use crate::bundle::{self, ExecDir};
use crate::exit::exit_code;
use crate::node::Node;
use crate::order::Attach;
use crate::runtime::Executed;
use crate::streams::{self, Spoken, Streams};
use miren_api::id::SandboxId;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

/// Commands in one sandbox at a time: each of them costs a process of ours outside its limits.
pub(crate) const AT_A_TIME: usize = 8;
/// How long the start of one may take. Measured: 20 ms.
const START: Duration = Duration::from_secs(10);
/// What the next one is called; unique for as long as this daemon lives, and none outlives it.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// Why a command does not run.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    #[error("no sandbox {0} runs here")]
    NotThere(SandboxId),
    #[error("{AT_A_TIME} commands run in sandbox {0} already")]
    TooMany(SandboxId),
    #[error("preparing its pipes: {0}")]
    Pipes(#[from] io::Error),
    /// The runtime says why.
    #[error("{0}")]
    Refused(String),
}

/// A command that runs in a sandbox; dropping it kills the command.
pub struct Exec {
    pub streams: Streams,
    pub end: ExecEnd,
}

/// Tells how a command ended, and brings it about when it is dropped.
pub struct ExecEnd(Option<Running>);

struct Running {
    process: Box<dyn Executed>,
    dir: ExecDir,
    turn: OwnedSemaphorePermit,
}

impl ExecEnd {
    /// Waits for its end: its exit status, or 128 + the signal that ended it.
    ///
    /// # Errors
    /// When nobody can tell.
    pub async fn wait(&mut self) -> Result<i32, String> {
        let Some(running) = &mut self.0 else {
            return Err("it has ended".to_owned());
        };
        let status = running.process.wait().await?;
        exit_code(status).ok_or_else(|| format!("its status is {status:#x}"))
    }
}

impl Drop for ExecEnd {
    fn drop(&mut self) {
        if let Some(running) = self.0.take() {
            miren_log::spawn("the end of a command", end(running));
        }
    }
}

/// The clean-up of the sandbox waits for the turn to be given back.
async fn end(running: Running) {
    let Running { process, dir, turn } = running;
    process.end().await;
    dir.discard();
    drop(turn);
}

/// Starts a command in a sandbox whose init runs.
pub(crate) async fn start(
    node: &Arc<Node>,
    id: &SandboxId,
    command: Vec<String>,
    attach: Attach,
) -> Result<Exec, ExecError> {
    let turns = node.registry.execs(id).ok_or_else(|| ExecError::NotThere(id.clone()))?;
    let turn = turns.try_acquire_owned().map_err(|_| ExecError::TooMany(id.clone()))?;
    let dir = node.dir(id.as_str());
    if command.iter().any(|word| word.contains('\0')) || command.first().is_none_or(String::is_empty) {
        return Err(ExecError::Refused("a command is words without zero bytes".into()));
    }
    let name = format!("x{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let (exec, pipes) = bundle::prepare_exec(&dir, &name, &command, attach, node.runtime.sends_terminals())?;
    let started = match timeout(START, node.runtime.exec(&dir, &exec)).await {
        Ok(started) => started.map_err(|error| error.to_string()),
        Err(_) => Err(format!("it was not started within {START:?}")),
    };
    let process = match started {
        Ok(process) => process,
        Err(why) => {
            exec.discard();
            return Err(ExecError::Refused(why));
        }
    };
    let spoken = Spoken {
        node,
        dir,
        exec: Some(name),
        terminal: attach.terminal,
        end_input: process.end_input(),
    };
    let end = ExecEnd(Some(Running {
        process,
        dir: exec,
        turn,
    }));
    let streams = timeout(START, streams::open(pipes, spoken)).await;
    let streams = streams.map_err(|_| ExecError::Refused(format!("it had no terminal within {START:?}")))??;
    Ok(Exec { streams, end })
}

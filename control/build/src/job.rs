//! Decides how one command of a build runs: watched by a thread of its own, killed when nobody waits for it any more.

use crate::error::{BuildError, Tail};
use crate::line;
use crate::turn::Turn;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::io::{self, PipeReader};
use std::process::{Child, Command, ExitStatus};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Lines ahead of whoever is told of them; a builder that writes more waits.
const AHEAD: usize = 64;
/// Lines that an error has.
const TAIL: usize = 20;
/// How often an end is looked for once the output has ended: that comes just before it.
const END_CHECK: Duration = Duration::from_millis(2);

/// Whoever is told of each line.
pub(crate) type Tell<'t> = &'t (dyn Fn(String) + Send + Sync);

/// Runs it to its end. One that is dropped is killed; `turn` is kept until it really has ended.
pub(crate) async fn run(doing: &str, command: Command, turn: &Arc<Turn>, tell: Tell<'_>) -> Result<(), BuildError> {
    let turn = Arc::clone(turn);
    let failed = |status: String, tail| BuildError::Failed {
        doing: doing.to_owned(),
        status,
        tail: Tail(tail),
    };
    let (started, starting) = oneshot::channel();
    let (lines, mut incoming) = mpsc::channel(AHEAD);
    let (ended, ending) = oneshot::channel();
    std::thread::spawn(move || {
        let _ = ended.send(follow(command, started, &lines));
        drop(turn);
    });
    // Absent if it could not be started: then `ending` says why.
    let _killer = starting.await.ok().map(Killer);
    let mut tail = VecDeque::new();
    while let Some(line) = incoming.recv().await {
        tail.truncate(TAIL - 1);
        tail.push_front(line.clone());
        tell(line);
    }
    let tail = tail.into_iter().rev().collect();
    match ending.await {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(failed(status.to_string(), tail)),
        Ok(Err(error)) => Err(failed(error.to_string(), tail)),
        Err(_) => Err(failed("nobody saw its end".to_owned(), tail)),
    }
}

/// From start to end, on one thread: the kernel kills the child when the thread that started it ends.
fn follow(
    mut command: Command,
    started: oneshot::Sender<Arc<Mutex<Child>>>,
    lines: &mpsc::Sender<String>,
) -> io::Result<ExitStatus> {
    let (output, child) = start(&mut command)?;
    // It has our end of the pipe.
    drop(command);
    let child = Arc::new(Mutex::new(child));
    if let Err(child) = started.send(Arc::clone(&child)) {
        child.lock().kill()?;
    }
    line::each(output, |line| drop(lines.blocking_send(line)));
    loop {
        if let Some(status) = child.lock().try_wait()? {
            return Ok(status);
        }
        std::thread::sleep(END_CHECK);
    }
}

fn start(command: &mut Command) -> io::Result<(PipeReader, Child)> {
    let (output, input) = io::pipe()?;
    command.stdout(input.try_clone()?).stderr(input);
    Ok((output, command.spawn()?))
}

/// Kills a process when it is dropped, unless that has ended.
struct Killer(Arc<Mutex<Child>>);

impl Drop for Killer {
    fn drop(&mut self) {
        // Only a process that was not reaped is sent anything.
        if let Err(error) = self.0.lock().kill() {
            tracing::warn!(%error, "a builder cannot be killed");
        }
    }
}

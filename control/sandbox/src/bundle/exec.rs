//! Decides what a further command in a sandbox may do (what its first one may), and through which pipes, or which terminal, either of
//! them is spoken with.

use super::SandboxDir;
use crate::files;
use crate::order::Attach;
use nix::sys::stat::Mode;
use nix::unistd::{Uid, mkfifo};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use tokio::net::UnixListener;
use tokio::net::unix::pipe::{OpenOptions, Receiver, Sender};

/// What the first command of a sandbox is called among those that somebody speaks with.
const FIRST: &str = "init";
/// Where a runtime hands out a terminal that it has made.
const CONSOLE: &str = "console";

/// Files of one command that somebody speaks with; removed with this.
#[derive(Debug)]
pub(crate) struct ExecDir {
    path: PathBuf,
    /// What the runtime calls it.
    pub(crate) name: String,
    /// Whether it is given anything to read.
    pub(crate) has_input: bool,
    /// Whether it has a terminal in place of pipes.
    pub(crate) has_terminal: bool,
}

/// Our ends of what it is spoken with through. Each of them is open for as long as this is, so nobody waits for somebody to open the
/// other end.
#[derive(Debug)]
pub(crate) enum Pipes {
    Pipes {
        stdin: Option<Sender>,
        stdout: Receiver,
        /// None: it has a terminal, and the runtime moves what is written there.
        stderr: Option<Receiver>,
    },
    /// The runtime sends the terminal here.
    Console(UnixListener),
}

impl ExecDir {
    /// As its helper finds it.
    pub(crate) fn existing(dir: &SandboxDir, name: &str) -> Self {
        let path = dir.path().join("execs").join(name);
        // What has a terminal has one output.
        let (has_input, has_terminal) = (path.join("stdin").exists(), !path.join("stderr").exists());
        Self {
            path,
            name: name.to_owned(),
            has_input,
            has_terminal,
        }
    }

    /// That of the first command of a sandbox, if somebody speaks with it.
    pub(crate) fn of_first(dir: &SandboxDir) -> Option<Self> {
        let first = Self::existing(dir, FIRST);
        first.path.exists().then_some(first)
    }

    pub(crate) fn stdin(&self) -> PathBuf {
        self.path.join("stdin")
    }

    pub(crate) fn stdout(&self) -> PathBuf {
        self.path.join("stdout")
    }

    pub(crate) fn stderr(&self) -> PathBuf {
        self.path.join("stderr")
    }

    /// The socket that a runtime sends a terminal to.
    pub(crate) fn console(&self) -> PathBuf {
        self.path.join(CONSOLE)
    }

    /// The process of the runtime specification.
    pub(crate) fn process(&self) -> PathBuf {
        self.path.join("process.json")
    }

    /// What its helper had to complain about.
    pub(crate) fn helper_log(&self) -> PathBuf {
        self.path.join("helper.log")
    }

    fn remove(&self) -> io::Result<()> {
        files::remove_tree(&self.path)
    }

    /// Removes it. What cannot be goes with the sandbox.
    pub(crate) fn discard(&self) {
        if let Err(error) = self.remove() {
            tracing::warn!(%error, "the pipes of a command are left until its sandbox goes");
        }
    }

    /// Makes what it is spoken with through, of `owner`; `sends`: the runtime sends the terminals that it makes.
    fn make_pipes(&self, owner: Uid, sends: bool) -> io::Result<Pipes> {
        if self.has_terminal && sends {
            // By a short path: that of a socket has 107 bytes at most.
            let folder = File::open(&self.path)?;
            let path = format!("/proc/self/fd/{}/{CONSOLE}", folder.as_raw_fd());
            return Ok(Pipes::Console(UnixListener::bind(path)?));
        }
        let make = |path: &Path| -> io::Result<()> {
            mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR)?;
            Ok(nix::unistd::chown(path, Some(owner), None)?)
        };
        make(&self.stdout())?;
        let stderr = match self.has_terminal {
            true => None,
            false => {
                make(&self.stderr())?;
                Some(OpenOptions::new().open_receiver(self.stderr())?)
            }
        };
        let stdin = match self.has_input {
            true => {
                make(&self.stdin())?;
                Some(OpenOptions::new().read_write(true).open_sender(self.stdin())?)
            }
            false => None,
        };
        Ok(Pipes::Pipes {
            stdin,
            stdout: OpenOptions::new().open_receiver(self.stdout())?,
            stderr,
        })
    }
}

/// Makes everything that the runtime needs for a further command.
pub(crate) fn prepare_exec(
    dir: &SandboxDir,
    name: &str,
    command: &[String],
    attach: Attach,
    sends: bool,
) -> io::Result<(ExecDir, Pipes)> {
    let exec = place(dir, name, attach)?;
    let written = process(dir, command, attach).and_then(|process| files::write_json(&exec.process(), &process));
    let made = written.and_then(|()| exec.make_pipes(user(dir)?, sends));
    match made {
        Ok(pipes) => Ok((exec, pipes)),
        Err(error) => {
            exec.discard();
            Err(error)
        }
    }
}

/// The same for the first command of a sandbox, whose specification says the rest.
pub(crate) fn prepare_first(dir: &SandboxDir, attach: Attach, sends: bool) -> io::Result<Pipes> {
    place(dir, FIRST, attach)?.make_pipes(user(dir)?, sends)
}

fn place(dir: &SandboxDir, name: &str, attach: Attach) -> io::Result<ExecDir> {
    let exec = ExecDir {
        has_input: attach.stdin,
        has_terminal: attach.terminal.is_some(),
        ..ExecDir::existing(dir, name)
    };
    fs::create_dir_all(&exec.path)?;
    Ok(exec)
}

/// Gives the user of a sandbox one of its outputs: so `/dev/stdout` can be opened, which is a name for it, by whoever is not root.
pub(crate) fn give_to_user(dir: &SandboxDir, output: impl AsFd) -> io::Result<()> {
    Ok(nix::unistd::fchown(output, Some(user(dir)?), None)?)
}

/// Whoever the commands of a sandbox run as.
fn user(dir: &SandboxDir) -> io::Result<Uid> {
    let spec: Value = files::read_json(&dir.spec())?.unwrap_or_default();
    let uid = spec["process"]["user"]["uid"].as_u64();
    Ok(Uid::from_raw(
        uid.and_then(|uid| u32::try_from(uid).ok()).unwrap_or_default(),
    ))
}

/// The sandbox's own process with another command: same user, capabilities, environment, folder and limits.
fn process(dir: &SandboxDir, command: &[String], attach: Attach) -> io::Result<Value> {
    let spec: Option<Value> = files::read_json(&dir.spec())?;
    let mut process = spec.map(|mut spec| spec["process"].take()).unwrap_or_default();
    let fields = process.as_object_mut();
    let fields = fields.ok_or_else(|| io::Error::other("its specification is gone"))?;
    fields.insert("args".into(), json!(command));
    with_terminal(fields, attach);
    Ok(process)
}

/// Gives a process of the runtime specification a terminal, or takes it away.
pub(crate) fn with_terminal(process: &mut serde_json::Map<String, Value>, attach: Attach) {
    process.insert("terminal".into(), json!(attach.terminal.is_some()));
    process.remove("consoleSize");
    if let Some(size) = attach.terminal {
        process.insert(
            "consoleSize".into(),
            json!({ "height": size.rows, "width": size.columns }),
        );
        // What draws on one has to know what it can do; nobody was asked, and this is what they all can.
        if let Some(env) = process.get_mut("env").and_then(Value::as_array_mut)
            && !env
                .iter()
                .any(|one| one.as_str().is_some_and(|one| one.starts_with("TERM=")))
        {
            env.push(json!("TERM=xterm"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_cannot_be_prepared_leaves_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = SandboxDir(folder.path().to_owned());
        let attach = Attach::default();
        let prepared = prepare_exec(&dir, "x0", &["true".to_owned()], attach, false);
        let error = prepared.expect_err("there is no specification");
        assert_eq!(error.to_string(), "its specification is gone");
        assert!(!ExecDir::existing(&dir, "x0").path.exists());
    }
}

//! Decides what a further command in a sandbox may do (what its first one may), and through which pipes it is spoken with.

use super::SandboxDir;
use crate::files;
use nix::sys::stat::Mode;
use nix::unistd::{Uid, mkfifo};
use serde_json::{Value, json};
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use tokio::net::unix::pipe::{OpenOptions, Receiver, Sender};

/// Files of one further command; removed with this.
#[derive(Debug)]
pub(crate) struct ExecDir {
    path: PathBuf,
    /// What the runtime calls it.
    pub(crate) name: String,
    /// Whether it is given anything to read.
    pub(crate) has_input: bool,
}

/// Our ends of its pipes. Each of them is open for as long as this is, so nobody waits for somebody to open the other end.
#[derive(Debug)]
pub(crate) struct Pipes {
    pub(crate) stdin: Option<Sender>,
    pub(crate) stdout: Receiver,
    pub(crate) stderr: Receiver,
}

impl ExecDir {
    /// As its helper finds it.
    pub(crate) fn existing(dir: &SandboxDir, name: &str) -> Self {
        let path = dir.path().join("execs").join(name);
        let has_input = path.join("stdin").exists();
        Self {
            path,
            name: name.to_owned(),
            has_input,
        }
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

    /// The process of the runtime specification.
    pub(crate) fn process(&self) -> PathBuf {
        self.path.join("process.json")
    }

    /// What its helper had to complain about.
    pub(crate) fn helper_log(&self) -> PathBuf {
        self.path.join("helper.log")
    }

    pub(crate) fn remove(&self) -> io::Result<()> {
        files::remove_tree(&self.path)
    }
}

/// Makes everything that the runtime needs for one.
pub(crate) fn prepare_exec(
    dir: &SandboxDir,
    name: &str,
    command: &[String],
    has_input: bool,
) -> io::Result<(ExecDir, Pipes)> {
    let exec = ExecDir {
        has_input,
        ..ExecDir::existing(dir, name)
    };
    fs::create_dir_all(&exec.path)?;
    let process = process(dir, command)?;
    files::write_json(&exec.process(), &process)?;
    let owner = owner(&process);
    let make = |path: &Path| -> io::Result<()> {
        mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR)?;
        Ok(nix::unistd::chown(path, Some(owner), None)?)
    };
    make(&exec.stdout())?;
    make(&exec.stderr())?;
    let stdin = match has_input {
        true => {
            make(&exec.stdin())?;
            Some(OpenOptions::new().read_write(true).open_sender(exec.stdin())?)
        }
        false => None,
    };
    let pipes = Pipes {
        stdin,
        stdout: OpenOptions::new().open_receiver(exec.stdout())?,
        stderr: OpenOptions::new().open_receiver(exec.stderr())?,
    };
    Ok((exec, pipes))
}

/// Gives the user of a sandbox one of its outputs: so `/dev/stdout` can be opened, which is a name for it, by whoever is not root.
pub(crate) fn give_to_user(dir: &SandboxDir, output: impl AsFd) -> io::Result<()> {
    let spec: Value = files::read_json(&dir.spec())?.unwrap_or_default();
    Ok(nix::unistd::fchown(output, Some(owner(&spec["process"])), None)?)
}

/// Whoever the process of a specification runs as.
fn owner(process: &Value) -> Uid {
    let uid = process["user"]["uid"].as_u64();
    Uid::from_raw(uid.and_then(|uid| u32::try_from(uid).ok()).unwrap_or_default())
}

/// The sandbox's own process with another command: same user, capabilities, environment, folder and limits.
fn process(dir: &SandboxDir, command: &[String]) -> io::Result<Value> {
    let spec: Option<Value> = files::read_json(&dir.spec())?;
    let mut process = spec.map(|mut spec| spec["process"].take()).unwrap_or_default();
    let fields = process.as_object_mut();
    let fields = fields.ok_or_else(|| io::Error::other("its specification is gone"))?;
    fields.insert("args".into(), json!(command));
    Ok(process)
}

//! Decides how the daemon starts a helper and speaks with it until the command runs.

use super::helper::{GO, NAME, Report};
use crate::bundle::{Job, SandboxDir};
use crate::files;
use crate::process::Process;
use crate::runtime::{Created, LaunchError, Launched};
use async_trait::async_trait;
use miren_fault::Point;
use nix::sys::signal::Signal;
use std::ffi::OsString;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

/// A helper that has made a sandbox, and the socket to it.
pub(super) struct Launch {
    channel: Channel,
    helper: Process,
    init: Process,
}

/// What helper and daemon say to each other.
pub(super) struct Channel {
    stream: BufReader<UnixStream>,
    /// What the helper has to complain about.
    log: PathBuf,
}

/// A helper that has not made a sandbox. Nobody else would find one that hangs, so it is killed if it is given up.
pub(super) struct Unproven(pub(super) Option<Process>);

impl Drop for Unproven {
    fn drop(&mut self) {
        let killed = self.0.as_ref().map(|helper| helper.signal(Signal::SIGKILL));
        if let Some(Err(error)) = killed {
            tracing::warn!(%error, "a helper process could not be killed");
        }
    }
}

/// Keeps a helper that has ended from staying a zombie.
async fn reap(helper: Process, mut child: Child) {
    let reaped = match helper.exited().await {
        Ok(()) => child.wait().map(drop),
        Err(error) => Err(error),
    };
    if let Err(error) = reaped {
        tracing::warn!(pid = helper.pid(), %error, "a helper process could not be reaped");
    }
}

impl Launch {
    /// Starts the helper of a sandbox whose files are in place, and waits until init exists.
    pub(super) async fn begin(program: &Path, dir: &SandboxDir, job: &Job) -> Result<Self, LaunchError> {
        miren_fault::at(Point::CreateRuntime).await?;
        files::write_json(&dir.job(), job)?;
        let (mut channel, mut helper) = Channel::open(program, NAME, &[dir.path().into()], &dir.helper_log())?;
        let init = match channel.report().await? {
            Report::Created(init) => Process::find(init)?.ok_or_else(|| channel.silent())?,
            Report::Failed(why) => return Err(LaunchError::Refused(why)),
            Report::Started | Report::Ended(_) => return Err(channel.silent()),
        };
        let helper = helper.0.take().ok_or_else(|| channel.silent())?;
        Ok(Self { channel, helper, init })
    }
}

fn spawn(
    program: &Path,
    name: &str,
    arguments: &[OsString],
    log: &Path,
    channel: OwnedFd,
) -> Result<Process, LaunchError> {
    let spawned = Command::new(program)
        .arg0(name)
        .args(arguments)
        .env_clear()
        .current_dir("/")
        .stdin(channel)
        .stdout(Stdio::null())
        .stderr(File::create(log)?)
        .spawn();
    let program = program.display().to_string();
    let child = spawned.map_err(|source| LaunchError::Spawn { program, source })?;
    let helper = Process::open(child.id())?;
    // Only its end is taken there; the helper may well outlive this daemon.
    miren_log::spawn("reaping a helper", reap(Process::open(child.id())?, child));
    Ok(helper)
}

#[async_trait]
impl Created for Launch {
    fn init(&self) -> &Process {
        &self.init
    }

    async fn go(mut self: Box<Self>) -> Result<Launched, LaunchError> {
        miren_fault::at(Point::CreateStart).await?;
        self.channel.stream.get_mut().write_all(&[GO]).await?;
        match self.channel.report().await? {
            Report::Started => Ok(Launched {
                init: self.init,
                helper: self.helper,
            }),
            Report::Failed(why) => Err(LaunchError::Refused(why)),
            Report::Created(_) | Report::Ended(_) => Err(self.channel.silent()),
        }
    }
}

impl Channel {
    /// Starts a helper, which is `name` to itself, with a channel as its standard input.
    pub(super) fn open(
        program: &Path,
        name: &str,
        arguments: &[OsString],
        log: &Path,
    ) -> Result<(Self, Unproven), LaunchError> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let helper = spawn(program, name, arguments, log, OwnedFd::from(theirs))?;
        let channel = Self {
            stream: BufReader::new(UnixStream::from_std(ours)?),
            log: log.to_owned(),
        };
        Ok((channel, Unproven(Some(helper))))
    }

    pub(super) async fn report(&mut self) -> Result<Report, LaunchError> {
        let mut line = String::new();
        self.stream.read_line(&mut line).await?;
        serde_json::from_str(&line).map_err(|_| self.silent())
    }

    /// What it wrote before it died is the best there is.
    pub(super) fn silent(&self) -> LaunchError {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let last = text.lines().last().map(|line| format!(": {line}"));
        LaunchError::Silent(last.unwrap_or_default())
    }
}

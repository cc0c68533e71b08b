//! Decides how the daemon starts a helper and speaks with it until the command runs.

use super::helper::{GO, NAME, Report};
use super::{Job, SandboxDir};
use crate::files;
use crate::process::Process;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

/// Why there is no sandbox.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LaunchError {
    #[error("starting the helper process {program}: {source}")]
    Spawn { program: String, source: io::Error },
    #[error("the helper process: {0}")]
    Helper(#[from] io::Error),
    /// The helper says why.
    #[error("{0}")]
    Refused(String),
    #[error("the helper process ended without a word{0}")]
    Silent(String),
}

/// A helper that was started, and the socket to it.
pub(crate) struct Launch {
    channel: BufReader<UnixStream>,
    helper: Process,
    dir: SandboxDir,
}

/// A sandbox whose command runs.
pub(crate) struct Launched {
    pub(crate) init: Process,
    pub(crate) helper: Process,
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
    /// Starts the helper of a sandbox whose files are in place.
    pub(crate) fn spawn(program: &Path, dir: &SandboxDir, job: &Job) -> Result<Self, LaunchError> {
        files::write_json(&dir.job(), job)?;
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let spawned = Command::new(program)
            .arg0(NAME)
            .arg(dir.path())
            .env_clear()
            .current_dir("/")
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .stderr(File::create(dir.helper_log())?)
            .spawn();
        let program = program.display().to_string();
        let child = spawned.map_err(|source| LaunchError::Spawn { program, source })?;
        let helper = Process::open(child.id())?;
        // Only its end is taken there; the helper may well outlive this daemon.
        tokio::spawn(reap(Process::open(child.id())?, child));
        let channel = BufReader::new(UnixStream::from_std(ours)?);
        let dir = dir.clone();
        Ok(Self { channel, helper, dir })
    }

    /// Waits until init exists. It runs nothing before [`Launch::go`].
    pub(crate) async fn created(&mut self) -> Result<Process, LaunchError> {
        match self.report().await? {
            Report::Created(init) => Process::find(init)?.ok_or_else(|| self.silent()),
            Report::Failed(why) => Err(LaunchError::Refused(why)),
            Report::Started => Err(self.silent()),
        }
    }

    /// Lets init run the command.
    pub(crate) async fn go(mut self, init: Process) -> Result<Launched, LaunchError> {
        self.channel.get_mut().write_all(&[GO]).await?;
        match self.report().await? {
            Report::Started => Ok(Launched {
                init,
                helper: self.helper,
            }),
            Report::Failed(why) => Err(LaunchError::Refused(why)),
            Report::Created(_) => Err(self.silent()),
        }
    }

    async fn report(&mut self) -> Result<Report, LaunchError> {
        let mut line = String::new();
        self.channel.read_line(&mut line).await?;
        serde_json::from_str(&line).map_err(|_| self.silent())
    }

    /// What it wrote before it died is the best there is.
    fn silent(&self) -> LaunchError {
        let text = std::fs::read_to_string(self.dir.helper_log()).unwrap_or_default();
        let last = text.lines().last().map(|line| format!(": {line}"));
        LaunchError::Silent(last.unwrap_or_default())
    }
}

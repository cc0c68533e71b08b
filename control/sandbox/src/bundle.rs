//! Decides what a sandbox sees and may do, and which of its files the daemon, its runtime and its log share.

mod capabilities;
mod etc;
mod exec;
mod host;
mod inside;
mod layers;
mod overlay;
mod places;
mod program;
mod seccomp;
mod spec;

pub(crate) use etc::{Etc, resolvers};
pub(crate) use exec::{ExecDir, Pipes, give_to_user, prepare_exec, prepare_first, with_terminal};
pub(crate) use host::prepare as prepare_host;
pub(crate) use inside::Inside;
pub(crate) use layers::{Upper, furnish, make_points, prepare as prepare_layers, prepare_scratch};
pub(crate) use overlay::is_possible as overlay_is_possible;
pub(crate) use places::{Asked, Open, Places, of_disk, shown};
pub(crate) use program::Program;
pub(crate) use seccomp::Masks;
pub(crate) use spec::{Above, AppFiles, Limits, SpecInput, UMASK, Writable, write as write_spec};

use crate::cgroup;
use crate::config::LogRate;
use crate::logs::{Dropped, LogWriter, pump};
use crate::process::ProcessRef;
use miren_api::id::SandboxId;
use miren_api::resource::LogStream;
use miren_api::settings::Bytes;
use serde::{Deserialize, Serialize};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Files of one sandbox.
#[derive(Clone, Debug)]
pub(crate) struct SandboxDir(pub(crate) PathBuf);

impl SandboxDir {
    pub(crate) fn new(run_dir: &Path, sandbox: &str) -> Self {
        Self(run_dir.join("sandboxes").join(sandbox))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// The [`Job`] of its log.
    pub(crate) fn job(&self) -> PathBuf {
        self.0.join("job.json")
    }

    /// What the runtime is to make, in the runtime specification's terms.
    pub(crate) fn spec(&self) -> PathBuf {
        self.0.join("config.json")
    }

    /// The [`ShimAndLog`](crate::containerd::ShimAndLog) that a shim started.
    pub(crate) fn helper(&self) -> PathBuf {
        self.0.join("helper.json")
    }

    /// Its [`Processes`].
    pub(crate) fn processes(&self) -> PathBuf {
        self.0.join("processes.json")
    }

    /// The [`Exit`] a helper saw.
    pub(crate) fn exit(&self) -> PathBuf {
        self.0.join("exit.json")
    }

    /// The disks it has taken.
    pub(crate) fn disks(&self) -> PathBuf {
        self.0.join("disks.json")
    }

    /// The lines that its log does not have, [`Dropped`] in all.
    pub(crate) fn dropped(&self) -> PathBuf {
        self.0.join("dropped.json")
    }

    /// Locked by the helper for as long as it lives.
    pub(crate) fn lock(&self) -> PathBuf {
        self.0.join("lock")
    }

    /// What the helper itself had to complain about.
    pub(crate) fn helper_log(&self) -> PathBuf {
        self.0.join("helper.log")
    }

    /// State of the container runtime.
    pub(crate) fn state(&self) -> PathBuf {
        self.0.join("state")
    }

    pub(crate) fn rootfs(&self) -> PathBuf {
        self.0.join("rootfs")
    }

    /// Holds whatever it writes that is on no disk of its own; bounded.
    pub(crate) fn scratch(&self) -> PathBuf {
        self.0.join("scratch")
    }
}

/// A file or folder outside that appears inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shown {
    pub(crate) host: PathBuf,
    pub(crate) inside: PathBuf,
}

/// Whose log is to be written, and where.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) sandbox: SandboxId,
    pub(crate) service: String,
    pub(crate) log: PathBuf,
    /// Bytes at which a log file is rotated.
    pub(crate) log_bytes: u64,
    /// Number of log files.
    pub(crate) log_files: u32,
    /// Bytes and lines each second, and what of it may come at once. None in what an earlier release wrote.
    #[serde(default)]
    pub(crate) log_rate: Option<(u64, u64, Duration)>,
    /// What the writer joins, so that it has limits of its own.
    #[serde(default)]
    pub(crate) groups: Vec<PathBuf>,
    /// Somebody speaks with its first command, who gets what it writes in place of the log.
    #[serde(default)]
    pub(crate) is_attached: bool,
}

impl Job {
    pub(crate) fn open_log(&self) -> io::Result<LogWriter> {
        let (service, sandbox) = (self.service.clone(), self.sandbox.clone());
        LogWriter::open(&self.log, self.log_bytes, self.log_files, service, sandbox)
    }

    /// Moves what a sandbox writes to its log, within the limits of its writer, until nobody writes any more.
    pub(crate) fn pump(
        &self,
        dir: &SandboxDir,
        outputs: [OwnedFd; 2],
        init: Option<BorrowedFd<'_>>,
        log: &mut LogWriter,
    ) -> io::Result<()> {
        if let Err(error) = cgroup::join(&self.groups) {
            log.line(
                LogStream::System,
                format!("this log has no limits of its own: {error}").as_bytes(),
            );
            log.flush();
        }
        let rate = self
            .log_rate
            .map_or_else(LogRate::default, |(bytes, lines, burst)| LogRate {
                bytes: Bytes(bytes),
                lines,
                burst,
            });
        let mut all = Dropped::default();
        pump::run(outputs, init, log, rate, &mut |dropped| {
            all.add(dropped);
            // Only counted there: a line of the log says it already.
            let _ = crate::files::write_json(&dir.dropped(), &all);
        })
    }
}

/// The two processes of a sandbox that the host knows by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Processes {
    pub(crate) helper: ProcessRef,
    /// What its end is the sandbox's: the first process, and once that has started the app, the app. In releases without an init of
    /// ours both were one, and its name on disk is theirs.
    #[serde(rename = "init")]
    pub(crate) app: ProcessRef,
    /// The command was let go on. Releases that did not write this down had nothing that waits.
    #[serde(default = "yes")]
    pub(crate) has_begun: bool,
}

fn yes() -> bool {
    true
}

/// How the app ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Exit {
    /// Raw wait status.
    pub(crate) status: i32,
}

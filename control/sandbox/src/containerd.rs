//! Decides how a sandbox is made with containerd: which records it gets there, and how they go again.
//!
//! containerd only runs what is made here: root, specification, network and cgroup are the embedded runtime's. No snapshot, image or
//! content of containerd is used, so its garbage collector has nothing to take away.

mod client;
mod exec;
mod log;

pub(crate) use log::{ShimAndLog, main_if_asked as log_main_if_asked};

use crate::bundle::{ExecDir, Job, Processes, SandboxDir};
use crate::exit::Ending;
use crate::files;
use crate::process::Process;
use crate::runtime::{Created, Executed, LaunchError, Launched, Runtime};
use async_trait::async_trait;
use client::{Client, Failed, TaskIo};
use exec::Joined;
use futures_util::future::BoxFuture;
use miren_api::exec::TerminalSize;
use nix::sys::signal::Signal;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::timeout;

/// How long a shim may take to end once its task is deleted.
const SHIM_END: Duration = Duration::from_secs(1);

/// The containers of one node: they have a namespace of containerd to themselves.
pub(crate) struct Containerd {
    client: Client,
    /// The executable that writes logs.
    helper: PathBuf,
}

impl Containerd {
    /// Does not connect yet: sandboxes live on without containerd, so a daemon starts without it as well.
    ///
    /// # Errors
    /// When the path cannot be that of a socket.
    pub(crate) fn new(socket: &Path, node: &str, helper: &Path) -> Result<Self, String> {
        Ok(Self {
            client: Client::new(socket, &format!("miren-{node}"))?,
            helper: helper.to_owned(),
        })
    }
}

/// A container whose init waits.
struct Waiting {
    client: Client,
    sandbox: String,
    init: Process,
    helper: Process,
}

#[async_trait]
impl Runtime for Containerd {
    async fn create(&self, dir: &SandboxDir, job: &Job) -> Result<Box<dyn Created>, LaunchError> {
        let sandbox = job.sandbox.to_string();
        files::write_json(&dir.job(), job)?;
        let spec = std::fs::read(dir.spec())?;
        self.client.create_container(&sandbox, spec).await?;
        let first = job.is_attached.then(|| ExecDir::of_first(dir)).flatten();
        let stdio = match &first {
            Some(first) => TaskIo::of(first),
            None => TaskIo::to_log(&log::uri(&self.helper, dir)),
        };
        let pid = self.client.create_task(&sandbox, stdio).await?;
        let init = Process::open(pid)?;
        if first.is_some() {
            log::without(dir, &init)?;
        }
        let helper: Option<ShimAndLog> = files::read_json(&dir.helper())?;
        let helper = helper
            .map(|helper| Process::find(helper.process))
            .transpose()?
            .flatten();
        let helper = helper.ok_or_else(|| LaunchError::Silent(": the process that writes the log".into()))?;
        let processes = Processes {
            helper: helper.reference(),
            app: init.reference(),
            has_begun: false,
        };
        files::write_json(&dir.processes(), &processes)?;
        Ok(Box::new(Waiting {
            client: self.client.clone(),
            sandbox,
            init,
            helper,
        }))
    }

    async fn exec(&self, dir: &SandboxDir, exec: &ExecDir) -> Result<Box<dyn Executed>, LaunchError> {
        let sandbox = dir.path().file_name().and_then(OsStr::to_str).unwrap_or_default();
        Ok(Box::new(Joined::begin(&self.client, sandbox, exec).await?))
    }

    fn sends_terminals(&self) -> bool {
        false
    }

    /// The shim holds the pipe open, so that a client may go and come again.
    fn end_input(&self, dir: &SandboxDir) -> BoxFuture<'static, ()> {
        let sandbox = dir.path().file_name().and_then(OsStr::to_str).unwrap_or_default();
        exec::end_input(&self.client, sandbox, "")
    }

    async fn resize(&self, dir: &SandboxDir, exec: Option<&str>, size: TerminalSize) -> Result<(), String> {
        let sandbox = dir.path().file_name().and_then(OsStr::to_str).unwrap_or_default();
        let resized = self.client.resize(sandbox, exec, size).await;
        resized.map_err(|error| error.to_string())
    }

    /// Deleting the task closes the pipes of the log.
    async fn last_words(&self, dir: &SandboxDir, helper: Option<&Process>, seen: Option<i32>) -> Option<Ending> {
        let sandbox = dir.path().file_name()?.to_str()?;
        let told = self.client.delete_task(sandbox).await;
        if let Some(helper) = helper {
            let _ = helper.exited().await;
        }
        let told = told
            .inspect_err(|error| tracing::warn!(sandbox, %error, "containerd does not say how it ended"))
            .ok()
            .flatten();
        let ending = Ending::agreed(told, seen)?;
        if told.is_some() {
            log::say_how_it_ended(dir, ending);
        }
        Some(ending)
    }

    async fn forget(&self, dir: &SandboxDir) -> Result<(), String> {
        let sandbox = dir.path().file_name().and_then(OsStr::to_str).unwrap_or_default();
        let told = |error: Failed| error.to_string();
        self.client.delete_task(sandbox).await.map_err(told)?;
        self.client.delete_container(sandbox).await.map_err(told)?;
        end_shim(dir).await.map_err(|error| format!("ending its shim: {error}"))
    }

    async fn found(&self) -> Result<BTreeSet<String>, String> {
        self.client.containers().await.map_err(|error| error.to_string())
    }

    async fn forget_node(&self) -> Result<(), String> {
        self.client.delete_namespace().await.map_err(|error| error.to_string())
    }
}

/// A shim ends with its task. One whose making was broken off is forgotten by containerd and lives on, as does what it started.
async fn end_shim(dir: &SandboxDir) -> io::Result<()> {
    let Some(ShimAndLog { process, shim }) = files::read_json(&dir.helper())? else {
        return Ok(());
    };
    for reference in [shim, process] {
        let Some(process) = Process::find(reference)? else {
            continue;
        };
        if timeout(SHIM_END, process.exited()).await.is_err() {
            process.signal(Signal::SIGKILL)?;
        }
    }
    Ok(())
}

#[async_trait]
impl Created for Waiting {
    fn init(&self) -> &Process {
        &self.init
    }

    async fn go(self: Box<Self>) -> Result<Launched, LaunchError> {
        self.client.start_task(&self.sandbox).await?;
        Ok(Launched {
            init: self.init,
            helper: self.helper,
        })
    }
}

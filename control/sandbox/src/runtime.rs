//! Decides what a container runtime does for a sandbox: makes it, lets its command run, says how it ended, forgets it.

use crate::bundle::{ExecDir, Job, SandboxDir};
use crate::exit::Ending;
use crate::process::Process;
use async_trait::async_trait;
use futures_util::future::BoxFuture;
use miren_api::exec::TerminalSize;
use std::collections::BTreeSet;
use std::io;

/// Why there is no sandbox.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LaunchError {
    #[error("starting the helper process {program}: {source}")]
    Spawn { program: String, source: io::Error },
    #[error("the helper process: {0}")]
    Helper(#[from] io::Error),
    /// The runtime says why.
    #[error("{0}")]
    Refused(String),
    /// The runtime does not answer.
    #[error("{0}")]
    Away(String),
    #[error("the helper process ended without a word{0}")]
    Silent(String),
}

impl From<miren_fault::Fault> for LaunchError {
    fn from(fault: miren_fault::Fault) -> Self {
        Self::Helper(fault.into())
    }
}

/// A sandbox that exists, and whose init waits. Nothing runs in it if this is dropped.
#[async_trait]
pub(crate) trait Created: Send {
    fn init(&self) -> &Process;

    /// Lets init run the command.
    async fn go(self: Box<Self>) -> Result<Launched, LaunchError>;
}

/// A sandbox whose command runs.
pub(crate) struct Launched {
    pub(crate) init: Process,
    /// What writes its log, and may hold it besides.
    pub(crate) helper: Process,
}

/// A further command that runs in a sandbox. It is killed if this is dropped.
#[async_trait]
pub(crate) trait Executed: Send {
    /// Tells it, once our end of its input is closed, that there will be no more. A pipe alone does so unless others hold it.
    fn end_input(&self) -> BoxFuture<'static, ()>;

    /// Waits for its end; its raw wait status. May be called again if it was given up.
    async fn wait(&mut self) -> Result<i32, String>;

    /// Ends it, if it runs still, and returns when nothing of it is left.
    async fn end(self: Box<Self>);
}

/// What makes sandboxes of bundles. Whether they live is seen from their processes, never asked here.
#[async_trait]
pub(crate) trait Runtime: Send + Sync {
    /// Makes the sandbox whose bundle is in `dir`.
    async fn create(&self, dir: &SandboxDir, job: &Job) -> Result<Box<dyn Created>, LaunchError>;

    /// Runs a further command in a sandbox whose init runs.
    async fn exec(&self, dir: &SandboxDir, exec: &ExecDir) -> Result<Box<dyn Executed>, LaunchError>;

    /// Whether it sends the terminals that it makes to a socket; else it moves what is written there itself.
    fn sends_terminals(&self) -> bool;

    /// Tells the first command of a sandbox, once our end of its input is closed, that there will be no more.
    fn end_input(&self, dir: &SandboxDir) -> BoxFuture<'static, ()>;

    /// Makes the terminal of a command of a sandbox this large; `exec`: which one, none the first. For a runtime that sends none.
    async fn resize(&self, dir: &SandboxDir, exec: Option<&str>, size: TerminalSize) -> Result<(), String>;

    /// For a sandbox whose init is gone: waits until its last line is in the log. How it ended, if anyone saw it; `seen` is the raw
    /// wait status that the kernel's hook saw.
    async fn last_words(&self, dir: &SandboxDir, helper: Option<&Process>, seen: Option<i32>) -> Option<Ending>;

    /// Removes what the runtime itself keeps of a sandbox whose processes were killed. What is gone is no error.
    async fn forget(&self, dir: &SandboxDir) -> Result<(), String>;

    /// Sandboxes of this node that the runtime keeps something of.
    async fn found(&self) -> Result<BTreeSet<String>, String>;

    /// Removes what the runtime keeps of the node once nothing is left of its sandboxes.
    async fn forget_node(&self) -> Result<(), String>;
}

/// What a user is told about a command that is not there, whichever runtime found out. An image may name one as long as it wants.
pub(crate) fn not_found(command: &str) -> String {
    format!("command not found: {command:.200}")
}

/// As [`not_found`], for one that is there.
pub(crate) fn not_executable(command: &str) -> String {
    format!("command not executable: {command:.200}; set its mode with chmod +x")
}

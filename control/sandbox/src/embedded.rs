//! Decides how a sandbox is made with libcontainer: by a helper process of its own, which holds it and writes its log.

mod exec;
mod executor;
mod helper;
mod launch;
mod stdio;

pub(crate) use exec::main_if_asked as exec_main_if_asked;
pub(crate) use helper::main_if_asked;

use crate::bundle::{ExecDir, Exit, Job, SandboxDir};
use crate::exit::Ending;
use crate::files;
use crate::process::Process;
use crate::runtime::{Created, Executed, LaunchError, Runtime};
use crate::streams::no_end;
use async_trait::async_trait;
use exec::Joined;
use futures_util::future::BoxFuture;
use launch::Launch;
use miren_api::exec::TerminalSize;
use std::collections::BTreeSet;
use std::path::PathBuf;

/// Sandboxes held by helper processes. What they leave are files and processes, which every runtime's clean-up removes.
pub(crate) struct Embedded {
    /// The executable that becomes a helper.
    pub(crate) helper: PathBuf,
}

#[async_trait]
impl Runtime for Embedded {
    async fn create(&self, dir: &SandboxDir, job: &Job) -> Result<Box<dyn Created>, LaunchError> {
        Ok(Box::new(Launch::begin(&self.helper, dir, job).await?))
    }

    async fn exec(&self, dir: &SandboxDir, exec: &ExecDir) -> Result<Box<dyn Executed>, LaunchError> {
        Ok(Box::new(Joined::begin(&self.helper, dir, exec).await?))
    }

    fn sends_terminals(&self) -> bool {
        true
    }

    fn end_input(&self, _: &SandboxDir) -> BoxFuture<'static, ()> {
        no_end()
    }

    async fn resize(&self, _: &SandboxDir, _: Option<&str>, _: TerminalSize) -> Result<(), String> {
        Err("its terminal is not here".to_owned())
    }

    /// The helper sees the exit after the last line is in the log.
    async fn last_words(&self, dir: &SandboxDir, helper: Option<&Process>, seen: Option<i32>) -> Option<Ending> {
        if let Some(helper) = helper {
            // One that cannot be watched is killed by the clean-up.
            let _ = helper.exited().await;
        }
        let recorded: Option<Exit> = files::read_json(&dir.exit()).ok().flatten();
        Ending::agreed(recorded.map(|exit| Ending::Status(exit.status)), seen)
    }

    async fn forget(&self, _: &SandboxDir) -> Result<(), String> {
        Ok(())
    }

    async fn found(&self) -> Result<BTreeSet<String>, String> {
        Ok(BTreeSet::new())
    }

    async fn forget_node(&self) -> Result<(), String> {
        Ok(())
    }
}

//! Decides how a sandbox is made with libcontainer: by a helper process of its own, which holds it and writes its log.

mod executor;
mod helper;
mod launch;

pub(crate) use helper::main_if_asked;

use crate::bundle::{Exit, Job, SandboxDir};
use crate::files;
use crate::process::Process;
use crate::runtime::{Created, LaunchError, Runtime};
use async_trait::async_trait;
use launch::Launch;
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

    /// The helper sees the exit after the last line is in the log.
    async fn last_words(&self, dir: &SandboxDir, helper: Option<&Process>) -> Option<i32> {
        if let Some(helper) = helper {
            // One that cannot be watched is killed by the clean-up.
            let _ = helper.exited().await;
        }
        let recorded: Option<Exit> = files::read_json(&dir.exit()).ok().flatten();
        recorded.map(|exit| exit.status)
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

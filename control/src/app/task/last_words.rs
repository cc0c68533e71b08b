//! Decides what a failed deploy says: the reason, and the last lines that the sandbox wrote which tells why.

use super::supply::Supply;
use crate::app::Event;
use crate::executor::Executor;
use crate::record::DeployRecord;
use futures_util::StreamExt;
use miren_api::id::{AppName, SandboxId};
use miren_api::resource::{LogLine, LogStream};
use miren_sandbox::logs::{LogQuery, in_short};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Lines of its log that a failed deploy shows.
const LINES: usize = 10;
/// Characters of each.
const CHARACTERS: usize = 1000;
/// Longest time spent on reading them.
const PATIENCE: Duration = Duration::from_secs(1);

/// What sandboxes wrote last of which deploys failed, by number; None: it is being read.
#[derive(Default)]
pub(super) struct LastWords(BTreeMap<u64, Option<Vec<String>>>);

impl LastWords {
    pub fn set(&mut self, seq: u64, lines: Vec<String>) {
        if let Some(asked) = self.0.get_mut(&seq) {
            *asked = Some(lines);
        }
    }

    pub fn forget(&mut self, seq: u64) {
        self.0.remove(&seq);
    }
}

impl Supply {
    /// `error`, and below it the last lines of `sandbox`. None: they are being read, and an event tells of them.
    pub fn with_last_words(&mut self, record: &DeployRecord, sandbox: SandboxId, error: &str) -> Option<String> {
        let seq = record.deploy.seq;
        if let Some(known) = self.last_words.0.get(&seq) {
            return known.as_ref().map(|lines| below(error, lines));
        }
        self.last_words.0.insert(seq, None);
        let (executor, app) = (Arc::clone(&self.executor), record.deploy.app.clone());
        let events = self.events.clone();
        miren_log::spawn("the last lines of a sandbox", async move {
            let lines = tokio::time::timeout(PATIENCE, written(&*executor, app, sandbox)).await;
            let lines = lines.unwrap_or_default();
            // A task that is gone needs to know nothing.
            let _ = events.send(Event::LastWords { seq, lines });
        });
        None
    }
}

fn below(error: &str, lines: &[String]) -> String {
    match lines {
        [] => error.to_owned(),
        lines => format!("{error}\nlast lines of its log:\n{}", lines.join("\n")),
    }
}

async fn written(executor: &dyn Executor, app: AppName, sandbox: SandboxId) -> Vec<String> {
    let query = LogQuery {
        app,
        service: None,
        sandbox: Some(sandbox),
        since: None,
        last: LINES,
        follow: false,
    };
    let lines = executor.logs(query).filter_map(async |line| line.ok());
    let lines: Vec<LogLine> = lines.collect().await;
    let of_app = lines.into_iter().filter(|line| line.stream != LogStream::System);
    of_app.map(|line| in_short(&line, CHARACTERS)).collect()
}

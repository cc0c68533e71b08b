//! Decides what a failed deploy says: the reason, and the last lines the sandbox wrote.

use crate::app::task::Task;
use crate::record::DeployRecord;
use futures_util::StreamExt;
use miren_api::resource::{LogLine, LogStream};
use miren_sandbox::logs::LogQuery;
use std::time::Duration;

/// Lines of its log that a failed deploy shows.
const LINES: usize = 10;
/// Longest time spent on reading them.
const PATIENCE: Duration = Duration::from_secs(1);

impl Task {
    /// `error`, and below it the tail of the log of the sandbox that tells why.
    pub(super) async fn with_log(&self, record: &DeployRecord, error: String) -> String {
        let Some(sandbox) = self.culprit(record) else {
            return error;
        };
        let query = LogQuery {
            app: record.deploy.app.clone(),
            service: None,
            sandbox: Some(sandbox),
            since: None,
            last: LINES,
            follow: false,
        };
        let lines = self
            .world
            .executor
            .logs(query)
            .filter_map(async |line| line.ok())
            .collect();
        let lines: Vec<LogLine> = tokio::time::timeout(PATIENCE, lines).await.unwrap_or_default();
        let written: Vec<String> = lines
            .into_iter()
            .filter(|line| line.stream != LogStream::System)
            .map(|line| line.line)
            .collect();
        if written.is_empty() {
            return error;
        }
        format!("{error}\nlast lines of its log:\n{}", written.join("\n"))
    }
}

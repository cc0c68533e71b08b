//! Decides how a query for log lines is answered: what exists first, then what is written.

use super::follow::Follow;
use super::history;
use super::tail::Tail;
use futures_util::Stream;
use jiff::Timestamp;
use miren_api::id::{AppName, SandboxId};
use miren_api::resource::LogLine;
use std::io;
use std::path::{Path, PathBuf};
use tokio::sync::mpsc;

#[cfg(test)]
mod tests;

/// Lines that may wait for a slow reader.
const WAITING: usize = 256;

/// Which lines are wanted.
#[derive(Clone, Debug)]
pub struct LogQuery {
    pub app: AppName,
    /// Only this service.
    pub service: Option<String>,
    /// Only this sandbox.
    pub sandbox: Option<SandboxId>,
    /// Only lines from then on.
    pub since: Option<Timestamp>,
    /// At most this many of those that exist already: the newest.
    pub last: usize,
    /// Goes on with lines as they are written, for as long as the stream is read.
    pub follow: bool,
}

/// The lines that match, oldest first. Ends after the existing ones unless `follow` is set. An app without logs has none.
/// To be called within a runtime.
pub fn read(log_dir: &Path, query: LogQuery) -> impl Stream<Item = io::Result<LogLine>> + Send + 'static {
    let (lines, receiver) = mpsc::channel(WAITING);
    let log_dir = log_dir.to_owned();
    // One that panics ends its reader's stream, and nothing else.
    miren_log::spawn(
        "reading logs",
        miren_log::caught("reading logs", async move {
            if let Err(error) = answer(log_dir, query, &lines).await {
                // A reader that is gone does not want to know.
                let _ = lines.send(Err(error)).await;
            }
        }),
    );
    futures_util::stream::unfold(receiver, |mut receiver| async {
        let line = receiver.recv().await?;
        Some((line, receiver))
    })
}

async fn answer(log_dir: PathBuf, query: LogQuery, lines: &mpsc::Sender<io::Result<LogLine>>) -> io::Result<()> {
    if query.follow {
        let mut follow = Follow::open(log_dir, query)?;
        while let Some(batch) = follow.next(lines).await? {
            if !send(lines, batch).await {
                break;
            }
        }
        return Ok(());
    }
    let found = tokio::task::spawn_blocking(move || existing(&log_dir, &query));
    let found = found.await.map_err(io::Error::other)??;
    send(lines, found).await;
    Ok(())
}

fn existing(log_dir: &Path, query: &LogQuery) -> io::Result<Vec<LogLine>> {
    let logs = history::logs(log_dir, query)?;
    let opened: io::Result<Vec<Option<Tail>>> = logs.iter().map(|log| Tail::open(log)).collect();
    history::lines(opened?.iter_mut().flatten(), query)
}

/// False when nobody reads any more.
async fn send(lines: &mpsc::Sender<io::Result<LogLine>>, batch: Vec<LogLine>) -> bool {
    for line in batch {
        if lines.send(Ok(line)).await.is_err() {
            return false;
        }
    }
    true
}

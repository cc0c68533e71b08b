//! When what is in use gets to disk: off the path of requests and acknowledgements, and again when it could not be written.

use super::{RouteTable, SnapshotStore};
use crate::control::Backoff;
use crate::life::folder::Folder;
use crate::metrics::Metrics;
use miren_api::routing::RoutingDelta;
use parking_lot::Mutex;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

#[cfg(test)]
mod tests;

/// Most changes that wait to be written, and most routes, apps and labels in them together; when there are more, everything is
/// written instead.
const MOST_CHANGES: usize = 256;
const MOST_CHANGED: usize = 20_000;
/// First pause after a failed write.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// Longest pause between attempts to write.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What is not on disk yet.
#[derive(Debug, Default)]
pub(super) struct Unwritten {
    next: Mutex<Next>,
    more: Notify,
}

/// The newest table, and how what was taken before has become it: by changes, or not known.
#[derive(Debug)]
struct Next {
    table: Option<Arc<RouteTable>>,
    changes: Option<Vec<RoutingDelta>>,
}

impl Default for Next {
    fn default() -> Self {
        Self {
            table: None,
            changes: Some(Vec::new()),
        }
    }
}

impl Unwritten {
    /// `table` is in use, by this change of the one put before; none: it is a new one.
    pub(super) fn put(&self, table: Arc<RouteTable>, change: Option<RoutingDelta>) {
        let mut next = self.next.lock();
        next.table = Some(table);
        next.changes = match (next.changes.take(), change) {
            (Some(mut changes), Some(change)) if changes.len() < MOST_CHANGES => {
                changes.push(change);
                let changed: usize = changes.iter().map(changed_by).sum();
                (changed <= MOST_CHANGED).then_some(changes)
            }
            _ => None,
        };
        self.more.notify_one();
    }

    /// Once there is any.
    async fn take(&self) -> (Arc<RouteTable>, Option<Vec<RoutingDelta>>) {
        loop {
            let next = std::mem::take(&mut *self.next.lock());
            match next.table {
                Some(table) => return (table, next.changes),
                None => self.more.notified().await,
            }
        }
    }

    /// It could not be written. A newer one has to be written as a whole.
    fn give_back(&self, table: Arc<RouteTable>) {
        let mut next = self.next.lock();
        next.table.get_or_insert(table);
        next.changes = None;
        self.more.notify_one();
    }
}

/// Routes, apps and labels that a change tells of.
fn changed_by(change: &RoutingDelta) -> usize {
    let labels: usize = change.apps.values().map(|app| 1 + app.ephemeral.len()).sum();
    change.routes.len() + change.removed_routes.len() + change.removed_apps.len() + labels
}

/// Writes everything that is put in `unwritten` once it is this process's `folder`, until it is dropped.
pub(super) async fn keep(unwritten: &Unwritten, store: &SnapshotStore, folder: &Folder, metrics: &Metrics) {
    let mut writer = store.writer();
    let mut pause = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
    let mut said = false;
    loop {
        let (table, changes) = unwritten.take().await;
        let unwritable = Arc::clone(&table);
        let pen = folder.pen().await;
        let write = move || {
            let _held = pen;
            let written = writer.keep(&table, changes.as_deref());
            (writer, written)
        };
        let written = tokio::task::spawn_blocking(write).await;
        let failed = |error| (store.writer(), Err(io::Error::other(error)));
        let (after, written) = written.unwrap_or_else(failed);
        writer = after;
        match written {
            Ok(()) => {
                pause.reset();
                said = false;
            }
            Err(error) => {
                metrics.snapshot_write_errors.inc();
                if !std::mem::replace(&mut said, true) {
                    tracing::error!(%error, "the routing snapshot cannot be kept on disk; a restart without control would use an older one");
                }
                unwritten.give_back(unwritable);
                tokio::time::sleep(pause.pause()).await;
            }
        }
    }
}

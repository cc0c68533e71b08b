//! Decides how changes are followed: read from the history, woken by the revision, so that none can be missed.

use super::{Change, Cursor, Revision, Store, StoreError};
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::watch;

/// Changes read from the history at once.
const PAGE: usize = 256;

/// Every change after a place in the history, in order.
pub struct Watch {
    store: Arc<dyn Store>,
    after: Cursor,
    newest: watch::Receiver<Revision>,
    page: VecDeque<Change>,
}

impl Watch {
    /// Follows what is written after `after`.
    pub fn new(store: Arc<dyn Store>, after: Cursor) -> Self {
        let newest = store.revision();
        Self {
            store,
            after,
            newest,
            page: VecDeque::new(),
        }
    }

    /// The next change; waits for it. None when the store is closed.
    ///
    /// # Errors
    /// [`StoreError::Compacted`] when the watch fell too far behind.
    pub async fn next(&mut self) -> Option<Result<Change, StoreError>> {
        loop {
            if let Some(change) = self.page.pop_front() {
                self.after = change.at;
                return Some(Ok(change));
            }
            self.newest.mark_unchanged();
            match self.store.changes(self.after, PAGE).await {
                Ok(page) if page.is_empty() => self.newest.changed().await.ok()?,
                Ok(page) => self.page = page.into(),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

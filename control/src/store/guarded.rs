//! Decides which errors of a store end the process: those after which it will never take a write of this process again.

use super::{Change, Cursor, Key, Kind, Record, Revision, Selection, Store, StoreError, Write};
use crate::fatal::Fatal;
use async_trait::async_trait;
use std::sync::Arc;
use tokio::sync::watch;

/// A store whose end is the end of the process, whoever meets it first.
pub struct Guarded {
    store: Arc<dyn Store>,
    fatal: Fatal,
}

impl Guarded {
    pub fn new(store: Arc<dyn Store>, fatal: Fatal) -> Self {
        Self { store, fatal }
    }

    fn passed<T>(&self, answer: Result<T, StoreError>) -> Result<T, StoreError> {
        answer.inspect_err(|error| {
            if error.is_final() {
                self.fatal.end(error.to_string());
            }
        })
    }
}

#[async_trait]
impl Store for Guarded {
    async fn get(&self, key: &Key) -> Result<Option<Record>, StoreError> {
        self.passed(self.store.get(key).await)
    }

    async fn list(&self, kind: Kind, which: Selection) -> Result<Vec<Record>, StoreError> {
        self.passed(self.store.list(kind, which).await)
    }

    async fn commit(&self, writes: Vec<Write>) -> Result<Revision, StoreError> {
        self.passed(self.store.commit(writes).await)
    }

    async fn changes(&self, after: Cursor, limit: usize) -> Result<Vec<Change>, StoreError> {
        self.passed(self.store.changes(after, limit).await)
    }

    fn epoch(&self) -> u64 {
        self.store.epoch()
    }

    fn revision(&self) -> watch::Receiver<Revision> {
        self.store.revision()
    }
}

//! Decides how a task writes the records it owns: gathered, then committed together, each against the revision it last saw.

use crate::record::{Stored, UndecodableRecord, decode};
use crate::store::{Content, Expect, Key, Record, Revision, Selection, Store, StoreError, Write};
use miren_api::{ApiError, ErrorCode};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Why records could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Undecodable(#[from] UndecodableRecord),
}

impl From<LoadError> for ApiError {
    fn from(error: LoadError) -> Self {
        Self::new(ErrorCode::Internal, error.to_string())
    }
}

/// Reads one record without taking it over.
pub async fn find<T: Stored>(store: &dyn Store, id: &str) -> Result<Option<T>, LoadError> {
    match store.get(&Key::new(T::KIND, id)).await? {
        Some(record) => Ok(Some(decode(&record)?)),
        None => Ok(None),
    }
}

/// Reads records without taking them over.
pub async fn list<T: Stored>(store: &dyn Store, which: Selection) -> Result<Vec<T>, LoadError> {
    let records = store.list(T::KIND, which).await?;
    records.iter().map(|record| Ok(decode(record)?)).collect()
}

/// The records of one writer.
pub struct Ledger {
    store: Arc<dyn Store>,
    revisions: HashMap<Key, Revision>,
    batch: BTreeMap<Key, Option<Content>>,
}

impl Ledger {
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self {
            store,
            revisions: HashMap::new(),
            batch: BTreeMap::new(),
        }
    }

    /// Reads records and takes over writing them.
    pub async fn load<T: Stored>(&mut self, which: Selection) -> Result<Vec<T>, LoadError> {
        let records = self.store.list(T::KIND, which).await?;
        records.iter().map(|record| self.adopt(record)).collect()
    }

    /// Takes over writing a record that was read elsewhere.
    pub fn adopt<T: Stored>(&mut self, record: &Record) -> Result<T, LoadError> {
        self.revisions.insert(record.key.clone(), record.revision);
        Ok(decode(record)?)
    }

    /// Notes a record's new content; a later note of the same record replaces it.
    pub fn put<T: Stored>(&mut self, record: &T) {
        match serde_json::to_string(record) {
            Ok(body) => {
                let indexes = record.indexes();
                self.batch.insert(record.key(), Some(Content { body, indexes }));
            }
            Err(error) => tracing::error!(key = %record.key(), %error, "a record cannot be written as JSON"),
        }
    }

    /// Notes that a record is gone.
    pub fn delete(&mut self, key: Key) {
        if self.revisions.contains_key(&key) {
            self.batch.insert(key, None);
        } else {
            self.batch.remove(&key);
        }
    }

    /// Forgets what was noted and not committed.
    pub fn discard(&mut self) {
        self.batch.clear();
    }

    /// Commits everything noted, all or nothing. After an error the notes are still there, for another try.
    pub async fn flush(&mut self) -> Result<(), StoreError> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let writes: Vec<Write> = self
            .batch
            .iter()
            .map(|(key, content)| self.write(key, content))
            .collect();
        let count = writes.len() as u64;
        let last = self.store.commit(writes).await?;
        for ((key, content), revision) in std::mem::take(&mut self.batch).into_iter().zip(last + 1 - count..) {
            match content {
                Some(_) => self.revisions.insert(key, revision),
                None => self.revisions.remove(&key),
            };
        }
        Ok(())
    }

    fn write(&self, key: &Key, content: &Option<Content>) -> Write {
        let expect = self
            .revisions
            .get(key)
            .map_or(Expect::Absent, |at| Expect::Revision(*at));
        Write {
            key: key.clone(),
            expect,
            content: content.clone(),
        }
    }
}

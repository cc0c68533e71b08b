//! Decides how a task writes the records it owns: gathered, then committed together, each against the revision it last saw.

use crate::record::{Stored, UndecodableRecord, decode};
use crate::store::{Content, Expect, Key, Record, Revision, Selection, Store, StoreError, Write};
use miren_api::{ApiError, ErrorCode};
use split::{Split, split};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use verdict::Verdict;

mod split;
mod verdict;

/// How soon it is looked again what became of a write, when that could not be read.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

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

/// Why a process ends whose records are written by others too.
pub fn somebody_else_wrote(key: &Key) -> String {
    format!("{key} was written by somebody else: control is the only one that may write to its store while it runs")
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

    /// Commits everything noted: all or nothing, unless that is more than one transaction takes; then in several, in an order in
    /// which each may be the last. After an error nothing of what is still noted was written, and it can be tried again: a write
    /// whose answer was lost is looked for until it is known what became of it.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when a record is somebody else's: not this ledger, which is its only writer, has written it.
    /// [`StoreError::TooLarge`] when one record is more than a transaction takes; everything else is written.
    pub async fn flush(&mut self) -> Result<(), StoreError> {
        let noted = self.batch.iter().map(|(key, content)| self.write(key, content));
        let Split { transactions, refused } = split(noted.collect());
        for writes in transactions {
            match self.store.commit(writes.clone()).await {
                Ok(revision) => self.written(&writes, Some(revision)),
                Err(error) if error.leaves_doubt() => self.settle(&writes, error).await?,
                Err(error) => return Err(error),
            }
        }
        refused.map_or(Ok(()), Err)
    }

    /// Takes over what the store has of one transaction. Without a revision it only deleted.
    fn written(&mut self, writes: &[Write], revision: Option<Revision>) {
        for write in writes {
            self.batch.remove(&write.key);
            match revision.filter(|_| write.content.is_some()) {
                Some(revision) => self.revisions.insert(write.key.clone(), revision),
                None => self.revisions.remove(&write.key),
            };
        }
    }

    async fn settle(&mut self, writes: &[Write], error: StoreError) -> Result<(), StoreError> {
        tracing::warn!(%error, "looking what became of a write");
        loop {
            let found = match self.found(writes).await {
                Ok(found) => found,
                Err(unread) if unread.is_final() => return Err(unread),
                Err(unread) => {
                    tracing::warn!(error = %unread, "it is not known what became of a write; looking again");
                    tokio::time::sleep(LOOK_AGAIN).await;
                    continue;
                }
            };
            return match verdict::of(writes, &found) {
                Verdict::Written(revision) => {
                    self.written(writes, revision);
                    Ok(())
                }
                Verdict::Untouched => Err(StoreError::Failed {
                    doing: "writing records",
                    why: format!("nothing was written ({error})"),
                }),
                Verdict::Foreign(key) => Err(StoreError::Conflict { key }),
            };
        }
    }

    async fn found(&self, writes: &[Write]) -> Result<Vec<Option<Record>>, StoreError> {
        let mut found = Vec::with_capacity(writes.len());
        for write in writes {
            found.push(self.store.get(&write.key).await?);
        }
        Ok(found)
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

//! A store in memory: no thread and no disk, so that a test's paused clock stays paused.

use async_trait::async_trait;
use miren_control::store::{Change, Content, Expect, Key, Kind, Record, Revision, Selection, Store, StoreError, Write};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;
use tokio::sync::watch;

#[derive(Default)]
struct Tables {
    records: BTreeMap<Key, (Revision, Content)>,
    history: VecDeque<Change>,
    revision: Revision,
    compacted: Revision,
}

pub struct Memory {
    tables: Mutex<Tables>,
    newest: watch::Sender<Revision>,
    history: usize,
}

impl Memory {
    /// Keeps the last `history` changes.
    pub fn new(history: usize) -> Self {
        Self {
            tables: Mutex::default(),
            newest: watch::Sender::new(0),
            history,
        }
    }
}

fn record(key: &Key, (revision, content): &(Revision, Content)) -> Record {
    Record {
        key: key.clone(),
        revision: *revision,
        body: content.body.clone(),
    }
}

#[async_trait]
impl Store for Memory {
    async fn get(&self, key: &Key) -> Result<Option<Record>, StoreError> {
        let tables = self.tables.lock().unwrap();
        Ok(tables.records.get(key).map(|found| record(key, found)))
    }

    async fn list(&self, kind: Kind, which: Selection) -> Result<Vec<Record>, StoreError> {
        let tables = self.tables.lock().unwrap();
        let of_kind = tables.records.iter().filter(|(key, _)| key.kind == kind);
        let chosen = of_kind.filter(|(key, (_, content))| match &which {
            Selection::All => true,
            Selection::Prefix(prefix) => key.id.starts_with(prefix),
            Selection::Index(name, value) => content.indexes.iter().any(|(n, v)| n == name && v == value),
        });
        Ok(chosen.map(|(key, found)| record(key, found)).collect())
    }

    async fn commit(&self, writes: Vec<Write>) -> Result<Revision, StoreError> {
        let mut tables = self.tables.lock().unwrap();
        for write in &writes {
            let found = tables.records.get(&write.key).map(|(revision, _)| *revision);
            let holds = match write.expect {
                Expect::Absent => found.is_none(),
                Expect::Revision(revision) => found == Some(revision),
            };
            if !holds {
                return Err(StoreError::Conflict { key: write.key.clone() });
            }
        }
        for write in writes {
            tables.revision += 1;
            let revision = tables.revision;
            tables.history.push_back(Change {
                revision,
                key: write.key.clone(),
                body: write.content.as_ref().map(|content| content.body.clone()),
            });
            match write.content {
                Some(content) => drop(tables.records.insert(write.key, (revision, content))),
                None => drop(tables.records.remove(&write.key)),
            }
        }
        while tables.history.len() > self.history {
            tables.compacted = tables.history.pop_front().map_or(0, |change| change.revision);
        }
        self.newest.send_replace(tables.revision);
        Ok(tables.revision)
    }

    async fn changes(&self, after: Revision, limit: usize) -> Result<Vec<Change>, StoreError> {
        let tables = self.tables.lock().unwrap();
        if after < tables.compacted {
            return Err(StoreError::Compacted {
                oldest: tables.compacted,
            });
        }
        let newer = tables.history.iter().filter(|change| change.revision > after);
        Ok(newer.take(limit).cloned().collect())
    }

    fn epoch(&self) -> u64 {
        1
    }

    fn revision(&self) -> watch::Receiver<Revision> {
        self.newest.subscribe()
    }
}

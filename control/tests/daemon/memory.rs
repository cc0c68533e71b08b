//! A store in memory: no thread and no disk, so that a test's paused clock stays paused.

use async_trait::async_trait;
use miren_control::store::{
    Change, Content, Cursor, Expect, Key, Kind, Record, Revision, Selection, Store, StoreError, Write, check,
};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use tokio::sync::watch;

#[derive(Default)]
struct Tables {
    records: BTreeMap<Key, (Revision, Content)>,
    history: VecDeque<Change>,
    revision: Revision,
    compacted: Option<Cursor>,
    epoch: u64,
}

pub struct Memory {
    tables: Arc<Mutex<Tables>>,
    newest: Arc<watch::Sender<Revision>>,
    history: usize,
    epoch: u64,
}

impl Memory {
    /// Keeps the last `history` changes.
    pub fn new(history: usize) -> Self {
        Self {
            tables: Arc::default(),
            newest: Arc::new(watch::Sender::new(0)),
            history,
            epoch: 0,
        }
        .open_again()
    }

    /// What another daemon gets that opens it: this one is refused from now on.
    pub fn open_again(&self) -> Self {
        let mut tables = self.tables.lock().unwrap();
        tables.epoch += 1;
        Self {
            tables: Arc::clone(&self.tables),
            newest: Arc::clone(&self.newest),
            history: self.history,
            epoch: tables.epoch,
        }
    }
}

impl Tables {
    fn compare(&self, write: &Write) -> Result<(), StoreError> {
        let found = self.records.get(&write.key).map(|(revision, _)| *revision);
        let holds = match write.expect {
            Expect::Absent => found.is_none(),
            Expect::Revision(revision) => found == Some(revision),
        };
        match holds {
            true => Ok(()),
            false => Err(StoreError::Conflict { key: write.key.clone() }),
        }
    }

    fn put(&mut self, n: u32, write: Write) {
        let revision = self.revision;
        self.history.push_back(Change {
            at: Cursor { revision, n },
            key: write.key.clone(),
            body: write.content.as_ref().map(|content| content.body.clone()),
        });
        match write.content {
            Some(content) => drop(self.records.insert(write.key, (revision, content))),
            None => drop(self.records.remove(&write.key)),
        }
    }

    /// Forgets whole transactions, the oldest first.
    fn compact(&mut self, most: usize) {
        while self.history.len() > most {
            let oldest = self.history[0].at.revision;
            while let Some(change) = self.history.pop_front_if(|change| change.at.revision == oldest) {
                self.compacted = Some(change.at);
            }
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
        check(&writes)?;
        let mut tables = self.tables.lock().unwrap();
        let (current, own) = (tables.epoch, self.epoch);
        if current != own {
            return Err(StoreError::Fenced { current, own });
        }
        writes.iter().try_for_each(|write| tables.compare(write))?;
        tables.revision += 1;
        for (n, write) in (0..).zip(writes) {
            tables.put(n, write);
        }
        tables.compact(self.history);
        self.newest.send_replace(tables.revision);
        Ok(tables.revision)
    }

    async fn changes(&self, after: Cursor, limit: usize) -> Result<Vec<Change>, StoreError> {
        let tables = self.tables.lock().unwrap();
        if let Some(upto) = tables.compacted.filter(|upto| after < *upto) {
            return Err(StoreError::Compacted { upto });
        }
        let newer = tables.history.iter().filter(|change| change.at > after);
        Ok(newer.take(limit).cloned().collect())
    }

    fn epoch(&self) -> u64 {
        self.epoch
    }

    fn revision(&self) -> watch::Receiver<Revision> {
        self.newest.subscribe()
    }
}

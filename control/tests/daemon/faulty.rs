//! A store whose writes can be made to fail, or whose process dies at one of them.

use crate::memory::Memory;
use async_trait::async_trait;
use miren_control::store::{Change, Cursor, Key, Kind, Record, Revision, Selection, Store, StoreError, Write};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::{Notify, watch};

pub struct Faulty {
    store: Arc<Memory>,
    fails: Mutex<Option<Kind>>,
    /// What every write from now on is answered with.
    refusal: Mutex<Option<StoreError>>,
    /// Writes until one whose answer is lost, and whether that one is made.
    lost: Mutex<Option<(usize, bool)>>,
    /// Reads that fail after that one.
    unreadable: AtomicI64,
    /// Twice the writes that are still answered, and one more if the one after is made without an answer. Below nothing: dead.
    left: AtomicI64,
    died: Notify,
}

impl Faulty {
    pub fn over(store: Arc<Memory>) -> Arc<Self> {
        Arc::new(Self {
            store,
            fails: Mutex::default(),
            refusal: Mutex::default(),
            lost: Mutex::default(),
            unreadable: AtomicI64::new(0),
            left: AtomicI64::new(i64::MAX),
            died: Notify::new(),
        })
    }

    /// Writes of this kind fail from now on, or none do.
    pub fn fail(&self, kind: impl Into<Option<Kind>>) {
        *self.fails.lock().unwrap() = kind.into();
    }

    /// Every write is refused with this from now on.
    pub fn refuse(&self, error: StoreError) {
        *self.refusal.lock().unwrap() = Some(error);
    }

    /// The answer to the write after the next `after` ones is lost, whether or not it `is_made`; the reads after it fail twice.
    pub fn lose(&self, after: usize, is_made: bool) {
        *self.lost.lock().unwrap() = Some((after, is_made));
    }

    /// Whether that write is still to come.
    pub fn loses(&self) -> bool {
        self.lost.lock().unwrap().is_some()
    }

    /// Some if the answer to this write is lost: whether it is made.
    fn is_lost(&self) -> Option<bool> {
        let mut lost = self.lost.lock().unwrap();
        let (left, is_made) = (*lost)?;
        *lost = left.checked_sub(1).map(|left| (left, is_made));
        if lost.is_some() {
            return None;
        }
        self.unreadable.store(2, Ordering::SeqCst);
        Some(is_made)
    }

    fn readable(&self) -> Result<(), StoreError> {
        match self
            .unreadable
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| (left > 0).then(|| left - 1))
        {
            Ok(_) => Err(StoreError::Failed {
                doing: "reading",
                why: "the disk is busy".to_owned(),
            }),
            Err(_) => Ok(()),
        }
    }

    /// From now on nothing is answered.
    pub fn kill(&self) {
        self.left.store(-1, Ordering::SeqCst);
    }

    /// Counts the moments at which the process can die, from now on: before the first write, after it, before the second one, …
    pub fn kill_at(&self, moment: i64) {
        self.left.store(moment, Ordering::SeqCst);
    }

    /// Once it has died at a write.
    pub async fn died(&self) {
        self.died.notified().await;
    }

    async fn unless_dead(&self) {
        if self.left.load(Ordering::SeqCst) < 0 {
            std::future::pending().await
        }
    }
}

#[async_trait]
impl Store for Faulty {
    async fn get(&self, key: &Key) -> Result<Option<Record>, StoreError> {
        self.unless_dead().await;
        self.readable()?;
        self.store.get(key).await
    }

    async fn list(&self, kind: Kind, which: Selection) -> Result<Vec<Record>, StoreError> {
        self.unless_dead().await;
        self.store.list(kind, which).await
    }

    async fn commit(&self, writes: Vec<Write>) -> Result<Revision, StoreError> {
        let failing = *self.fails.lock().unwrap();
        if writes.iter().any(|write| Some(write.key.kind) == failing) {
            let why = "the disk is full".to_owned();
            return Err(StoreError::Failed { doing: "writing", why });
        }
        if let Some(refusal) = &*self.refusal.lock().unwrap() {
            return Err(refusal.clone());
        }
        if let Some(is_made) = self.is_lost() {
            if is_made {
                self.store.commit(writes).await?;
            }
            let why = "the connection broke".to_owned();
            return Err(StoreError::Unknown { doing: "writing", why });
        }
        let left = self.left.fetch_sub(2, Ordering::SeqCst);
        if left >= 2 {
            return self.store.commit(writes).await;
        }
        if left == 1 {
            // Made, and nobody hears of it.
            let _ = self.store.commit(writes).await;
        }
        self.kill();
        self.died.notify_one();
        std::future::pending().await
    }

    async fn changes(&self, after: Cursor, limit: usize) -> Result<Vec<Change>, StoreError> {
        self.unless_dead().await;
        self.store.changes(after, limit).await
    }

    fn epoch(&self) -> u64 {
        self.store.epoch()
    }

    fn revision(&self) -> watch::Receiver<Revision> {
        self.store.revision()
    }
}

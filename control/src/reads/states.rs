//! Decides how the states of a deploy are read one after the other: from the store's own history, none twice and the last one final.

use super::Reads;
use crate::record::{DeployRecord, Stored, decode};
use crate::store::{Cursor, Key, Record, Store, StoreError, Watch};
use miren_api::deploy::Deploy;
use miren_api::id::DeployId;
use std::sync::Arc;

/// A state of a deploy.
pub struct DeployState {
    pub revision: u64,
    pub deploy: Deploy,
}

/// The states of a deploy: the newest first, then each change.
pub struct DeployStates {
    store: Arc<dyn Store>,
    key: Key,
    /// Revision of the last state that is known to whoever follows.
    seen: u64,
    watch: Option<Watch>,
}

impl DeployStates {
    /// The next one that is not known; none when there will be none. One that is dropped while it waits has taken nothing.
    pub async fn next(&mut self) -> Option<DeployState> {
        loop {
            let (revision, body) = match self.watch.as_mut() {
                None => {
                    let record = self.store.get(&self.key).await.ok()??;
                    self.watch = Some(Watch::new(Arc::clone(&self.store), Cursor::after(record.revision)));
                    (record.revision, record.body)
                }
                Some(watch) => match watch.next().await? {
                    Ok(change) if change.key == self.key => (change.at.revision, change.body?),
                    Ok(_) => continue,
                    Err(StoreError::Compacted { .. }) => {
                        self.watch = None;
                        continue;
                    }
                    Err(_) => return None,
                },
            };
            let key = self.key.clone();
            let record = Record { key, revision, body };
            let deploy = decode::<DeployRecord>(&record).ok()?.deploy;
            if revision > self.seen {
                self.seen = revision;
                return Some(DeployState { revision, deploy });
            }
            if deploy.status.is_final() {
                return None;
            }
        }
    }
}

impl Reads {
    /// The states of a deploy after revision `seen`; 0: all that are kept.
    pub fn states(&self, deploy: &DeployId, seen: u64) -> DeployStates {
        DeployStates {
            store: Arc::clone(&self.store),
            key: Key::new(DeployRecord::KIND, deploy.as_str()),
            seen,
            watch: None,
        }
    }
}

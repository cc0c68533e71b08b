//! Decides which nodes there are, which of them is this daemon's own, and who writes what is kept of it.

use crate::fatal::Fatal;
use crate::ledger::{Ledger, LoadError, somebody_else_wrote};
use crate::record::{DrainRecord, NodeRecord};
use crate::store::{Selection, Store, StoreError};
use jiff::Timestamp;
use miren_api::id::NodeId;
use std::sync::Arc;
use tokio::sync::{Mutex, watch};

/// The nodes of a store. A store on one machine has one: its own.
pub struct Nodes {
    own: watch::Sender<NodeRecord>,
    ledger: Mutex<Ledger>,
    fatal: Fatal,
}

impl Nodes {
    /// Loads what is kept of the own node, called `name`; a store without a node gets it as its first one.
    pub async fn load(store: Arc<dyn Store>, name: &str, now: Timestamp, fatal: Fatal) -> Result<Self, LoadError> {
        let mut ledger = Ledger::new(store);
        let known: Vec<NodeRecord> = ledger.load(Selection::All).await?;
        let found = known.into_iter().find(|node| node.id.is_first());
        let own = NodeRecord {
            name: name.to_owned(),
            ..found.clone().unwrap_or_else(|| NodeRecord {
                id: NodeId::FIRST,
                name: String::new(),
                created_at: now,
                cordoned: false,
                drain: None,
            })
        };
        // The machine was restarted: what it drained for has been done.
        let boot = crate::drain::boot();
        let own = NodeRecord {
            drain: own.drain.clone().filter(|drain| Some(&drain.boot) == boot.as_ref()),
            ..own
        };
        if found.as_ref() != Some(&own) {
            ledger.put(&own);
            ledger.flush().await?;
        }
        Ok(Self {
            own: watch::Sender::new(own),
            ledger: Mutex::new(ledger),
            fatal,
        })
    }

    /// The node this daemon runs sandboxes on.
    pub fn own(&self) -> NodeId {
        self.own.borrow().id
    }

    /// What is kept of the own node, now and from now on.
    pub fn follow(&self) -> watch::Receiver<NodeRecord> {
        self.own.subscribe()
    }

    /// Keeps whether the own node takes new work; told to [`Nodes::follow`] once it is kept. Returns whether it was otherwise before.
    pub async fn cordon(&self, cordoned: bool) -> Result<bool, StoreError> {
        self.keep(|node| node.cordoned = cordoned).await
    }

    /// Keeps that the own node drains, and how far that is, or that it does not; told as the rest.
    pub async fn keep_drain(&self, drain: Option<DrainRecord>) -> Result<bool, StoreError> {
        self.keep(|node| node.drain = drain).await
    }

    async fn keep(&self, change: impl FnOnce(&mut NodeRecord)) -> Result<bool, StoreError> {
        let mut ledger = self.ledger.lock().await;
        let mut next = self.own.borrow().clone();
        change(&mut next);
        if next == *self.own.borrow() {
            return Ok(false);
        }
        ledger.put(&next);
        if let Err(error) = ledger.flush().await {
            ledger.discard();
            if let StoreError::Conflict { key } = &error {
                self.fatal.end(somebody_else_wrote(key));
            }
            return Err(error);
        }
        self.own.send_replace(next);
        Ok(true)
    }
}

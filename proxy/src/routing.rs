//! The routing table in use: which one it is, and when another takes its place.

use crate::refusal::Reason;
use arc_swap::{ArcSwapOption, Guard};
use jiff::Timestamp;
use miren_api::routing::RoutingSnapshot;
use std::sync::Arc;
use tokio::sync::watch;

mod follow;
mod index;
mod store;

pub use follow::Follower;
pub use index::{Miss, RouteTable, Target};
pub use store::SnapshotStore;

/// The current table. Reading it takes no lock; replacing it never touches a connection.
#[derive(Debug, Default)]
pub struct Routing {
    table: ArcSwapOption<RouteTable>,
    /// Generation of the table, 0 before the first.
    generation: watch::Sender<u64>,
}

impl Routing {
    /// Serves from `snapshot` from now on, unless it is older than the one in use; says whether it does.
    pub fn install(&self, snapshot: &RoutingSnapshot) -> bool {
        if self
            .table
            .load()
            .as_ref()
            .is_some_and(|table| table.generation() >= snapshot.generation)
        {
            return false;
        }
        self.replace(snapshot);
        true
    }

    /// Serves from `snapshot` from now on, whatever was before.
    pub fn replace(&self, snapshot: &RoutingSnapshot) {
        self.table.store(Some(Arc::new(RouteTable::new(snapshot))));
        // The table first: whoever is told of the change finds the new table.
        self.generation.send_replace(snapshot.generation);
    }

    /// The table in use; none before the first snapshot was loaded.
    pub fn table(&self) -> Guard<Option<Arc<RouteTable>>> {
        self.table.load()
    }

    /// Tells of every change from now on.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    /// Which version of which service serves `host`.
    pub fn resolve(&self, host: &str, now: Timestamp) -> Result<Arc<Target>, Reason> {
        match &*self.table.load() {
            None => Err(Reason::Starting),
            Some(table) => match table.resolve(host, now) {
                Ok(target) => Ok(Arc::clone(target)),
                Err(Miss::Host) => Err(Reason::NoRoute),
                Err(Miss::Version) => Err(Reason::NoActiveVersion),
                Err(Miss::Label) => Err(Reason::NoSuchEphemeral),
            },
        }
    }
}

//! The routing table in use: which one it is, and when another takes its place.

use crate::request::refusal::{Reason, Refusal};
use arc_swap::{ArcSwapOption, Guard};
use jiff::Timestamp;
use miren_api::routing::{RoutingDelta, RoutingSnapshot};
use std::sync::Arc;
use tokio::sync::watch;

mod follow;
mod hosts;
mod index;
mod keep;
mod served;
mod serving;
mod store;

pub use follow::Follower;
pub use index::{Found, Miss, RouteTable, Target};
pub use served::Served;
pub use store::{SnapshotStore, SnapshotWriter};

/// A delta that does not begin where the table in use is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a delta from generation {from} does not fit on {at}")]
pub struct Gap {
    pub at: Served,
    pub from: Served,
}

/// The current table. Reading it takes no lock; replacing it never touches a connection.
#[derive(Debug, Default)]
pub struct Routing {
    table: ArcSwapOption<RouteTable>,
    /// Of the table; tells of each new one.
    served: watch::Sender<Served>,
}

impl Routing {
    /// Serves from `snapshot` from now on, whatever was before.
    pub fn replace(&self, snapshot: &RoutingSnapshot) {
        self.put(RouteTable::new(snapshot));
    }

    /// Serves from what `delta` makes of the table in use.
    ///
    /// # Errors
    /// When it begins at another generation: then nothing is changed, and a whole snapshot is needed.
    pub fn advance(&self, delta: &RoutingDelta) -> Result<(), Gap> {
        let next = self.table.load().as_ref().and_then(|table| table.after(delta));
        self.put(next.ok_or(Gap {
            at: self.served(),
            from: Served::before(delta),
        })?);
        Ok(())
    }

    /// Serves from `table` from now on, whatever was before.
    fn put(&self, table: RouteTable) {
        let served = table.served().clone();
        self.table.store(Some(Arc::new(table)));
        // The table first: whoever is told of the change finds the new table.
        self.served.send_replace(served);
    }

    /// What the table in use is.
    pub fn served(&self) -> Served {
        self.served.borrow().clone()
    }

    /// The table in use; none before the first snapshot was loaded.
    pub fn table(&self) -> Guard<Option<Arc<RouteTable>>> {
        self.table.load()
    }

    /// Tells of every change from now on.
    pub fn changes(&self) -> watch::Receiver<Served> {
        self.served.subscribe()
    }

    /// Which version of which service serves `host`.
    pub fn resolve(&self, host: &str, now: Timestamp) -> Result<Found<Arc<Target>>, Refusal> {
        match &*self.table.load() {
            None => Err(Reason::Starting.into()),
            Some(table) => match table.resolve(host, now) {
                Ok(Found { target, timeout }) => Ok(Found {
                    target: Arc::clone(target),
                    timeout,
                }),
                Err(miss) => Err(refusal(miss)),
            },
        }
    }
}

fn refusal(miss: Miss) -> Refusal {
    match miss {
        Miss::Host => Reason::NoRoute.into(),
        Miss::Version => Reason::NoActiveVersion.into(),
        Miss::Label => Reason::NoSuchEphemeral.into(),
        Miss::Expired(at) => Refusal::expired(at),
        Miss::Maintenance(seconds) => Refusal::retry_after(Reason::Maintenance, Some(seconds)),
    }
}

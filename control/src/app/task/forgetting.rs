//! Decides when records of ended sandboxes and retired pools go.

use super::pooling::Pools;
use crate::app::pool::earliest;
use crate::app::retention;
use crate::clock::{later, since};
use crate::record::{PoolRecord, Stored};
use jiff::Timestamp;
use miren_api::id::{PoolId, SandboxId};
use std::time::Duration;

/// How long a record of an ended sandbox is kept.
const KEEP_ENDED: Duration = Duration::from_secs(3600);
/// How many of them are kept for that long: of one pool, and of the app.
const MOST_ENDED: (usize, usize) = (50, 500);

impl Pools<'_> {
    /// Forgets sandboxes that ended long ago or before many others, and retired pools that have none left; returns when to look
    /// again.
    pub fn forget_ended(&mut self, now: Timestamp) -> Option<Timestamp> {
        let mut wake = None;
        let state = &self.book.state;
        let ended = state
            .sandboxes()
            .filter_map(|sandbox| Some((&sandbox.pool, sandbox.ended_at?, &sandbox.id)));
        let mut old: Vec<SandboxId> = retention::surplus(ended, MOST_ENDED).into_iter().cloned().collect();
        for sandbox in state.sandboxes() {
            match sandbox.ended_at {
                Some(ended) if since(now, ended) >= KEEP_ENDED => old.push(sandbox.id.clone()),
                Some(ended) => wake = earliest(wake, Some(later(ended, KEEP_ENDED))),
                None => {}
            }
        }
        for id in old {
            if let Some(sandbox) = self.book.state.remove(&id) {
                self.book.ledger.delete(sandbox.key());
            }
        }
        self.forget_retired();
        wake
    }

    fn forget_retired(&mut self) {
        let state = &self.book.state;
        let is_empty = |pool: &&PoolRecord| state.members(&pool.id).all(|sandbox| sandbox.state.is_terminal());
        let retired = state.pools.values().filter(|pool| pool.is_retiring());
        let empty: Vec<PoolId> = retired.filter(is_empty).map(|pool| pool.id.clone()).collect();
        for id in empty {
            self.book.faults.clear(&id);
            if let Some(pool) = self.book.state.pools.remove(&id) {
                self.book.ledger.delete(pool.key());
            }
        }
    }
}

//! How many requests there are for a target: each is counted once, from its first look for room to its end, wherever it stands.
//!
//! One number, so that it is never seen twice: a request that goes from the queue to a sandbox changes nothing in it. What is
//! in flight under a lease that was closed is no longer wanted of the pool: it ends where it is.

use std::sync::atomic::{AtomicI64, Ordering};

/// Requests of one target. Below zero, for a moment, where one is counted out before the one it stands for was counted in.
#[derive(Debug, Default)]
pub(super) struct Wanted(AtomicI64);

/// A request that is counted and has no permit yet. Dropping it counts it out.
#[derive(Debug)]
pub(super) struct Present<'w>(&'w Wanted);

impl Wanted {
    /// A request is there.
    pub(super) fn begin(&self) -> Present<'_> {
        self.more(1);
        Present(self)
    }

    pub(super) fn count(&self) -> u32 {
        let count = self.0.load(Ordering::SeqCst).max(0);
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    pub(super) fn more(&self, requests: u32) {
        self.0.fetch_add(requests.into(), Ordering::SeqCst);
    }

    pub(super) fn fewer(&self, requests: u32) {
        self.0.fetch_sub(requests.into(), Ordering::SeqCst);
    }
}

impl Present<'_> {
    /// It has entered a lease, which counts it out from now on.
    pub(super) fn entered(self) {
        std::mem::forget(self);
    }
}

impl Drop for Present<'_> {
    fn drop(&mut self) {
        self.0.fewer(1);
    }
}

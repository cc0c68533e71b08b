//! Who gets in: from a host to a permit, at once where a sandbox has room, else as soon as one has.

use super::account::Account;
use super::refusal::Refusal;
use super::{Parts, Rules};
use crate::lease::{Permit, Pool, Tried, Waited, Waiter};
use jiff::Timestamp;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// A request that looks for a sandbox.
#[derive(Debug)]
pub struct Admission<'a> {
    pub parts: &'a Parts,
    pub rules: &'a Rules,
    pub host: &'a str,
    /// What it holds of the proxy's memory while it waits.
    pub bytes: u64,
}

/// Where a host leads now.
#[derive(Clone, Debug)]
pub struct Way {
    pub pool: Arc<Pool>,
    /// How long its sandbox may take to begin an answer.
    pub first_byte: Duration,
}

impl Admission<'_> {
    /// Where the host leads.
    ///
    /// # Errors
    /// When it leads nowhere.
    pub fn way(&self) -> Result<Way, Refusal> {
        let found = self.parts.routing.resolve(self.host, Timestamp::now())?;
        Ok(Way {
            pool: self.parts.leases.pool(&found.target),
            first_byte: found.timeout.unwrap_or(self.rules.timeouts.upstream_first_byte),
        })
    }

    /// A permit at once, if a sandbox has room.
    ///
    /// # Errors
    /// When the host leads nowhere.
    pub fn at_once(&self, tried: &Tried, account: &mut Account) -> Result<Option<(Permit, Way)>, Refusal> {
        let way = self.way()?;
        account.pool = Some(Arc::clone(&way.pool));
        Ok(way.pool.admit(tried).map(|permit| (permit, way)))
    }

    /// A permit as soon as a sandbox has room; wherever the host leads by then.
    ///
    /// # Errors
    /// When there is none in time, or the queue is full.
    pub async fn wait(&self, tried: &Tried, account: &mut Account) -> Result<(Permit, Way), Refusal> {
        let begun = Instant::now();
        let outcome = self.wait_until_admitted(tried, account).await;
        account.queued += begun.elapsed();
        outcome
    }

    async fn wait_until_admitted(&self, tried: &Tried, account: &mut Account) -> Result<(Permit, Way), Refusal> {
        let deadline = account.begun + self.rules.timeouts.wait_for_capacity;
        let mut changes = self.parts.routing.changes();
        loop {
            // Before resolving: a snapshot that comes after this ends the wait below.
            changes.borrow_and_update();
            let way = self.way()?;
            account.pool = Some(Arc::clone(&way.pool));
            let waiter = Waiter {
                tried,
                bytes: self.bytes,
                deadline,
            };
            match way.pool.wait(waiter, &mut changes).await {
                Waited::Admitted(permit) => return Ok((permit, way)),
                Waited::Refused(refusal) => return Err(refusal),
                Waited::RoutesChanged => {}
            }
        }
    }
}

//! Decides which leases are held: granted until a moment, renewed, given back, lost; and when a draining sandbox is idle.

use crate::clock::later;
use jiff::Timestamp;
use miren_api::lease::{LEASE_TTL, LeaseKey};
use std::collections::{BTreeMap, BTreeSet};

/// Every lease, by sandbox generation and proxy. Time is an argument.
#[derive(Debug, Default)]
pub struct LeaseTable {
    until: BTreeMap<(LeaseKey, String), Timestamp>,
    /// Generations that get no lease any more.
    closed: BTreeSet<LeaseKey>,
}

impl LeaseTable {
    /// Grants or renews a lease; refused once the generation is closed.
    pub fn grant(&mut self, proxy: &str, key: LeaseKey, now: Timestamp) -> bool {
        let is_open = !self.closed.contains(&key);
        if is_open {
            self.hold(proxy, key, now);
        }
        is_open
    }

    /// Notes that a proxy still has requests in flight to this generation, whether or not it may begin others.
    pub fn hold(&mut self, proxy: &str, key: LeaseKey, now: Timestamp) {
        self.until.insert((key, proxy.to_owned()), later(now, LEASE_TTL));
    }

    pub fn release(&mut self, proxy: &str, key: LeaseKey) {
        self.until.remove(&(key, proxy.to_owned()));
    }

    /// From now on nobody gets a lease on this generation; the leases there are stay until released or expired.
    pub fn close(&mut self, key: LeaseKey) {
        self.closed.insert(key);
    }

    /// The generation is over: nothing about it is kept.
    pub fn forget(&mut self, key: LeaseKey) {
        self.closed.remove(&key);
        self.until.retain(|(held, _), _| *held != key);
    }

    /// A proxy is gone: so are its leases.
    pub fn drop_proxy(&mut self, proxy: &str) {
        self.until.retain(|(_, holder), _| holder != proxy);
    }

    /// Drops the leases that nobody renewed.
    pub fn expire(&mut self, now: Timestamp) {
        self.until.retain(|_, until| *until > now);
    }

    /// Whether no proxy has a lease on this generation.
    pub fn is_idle(&self, key: LeaseKey) -> bool {
        self.holders(key) == 0
    }

    /// How many proxies have a lease on this generation.
    pub fn holders(&self, key: LeaseKey) -> usize {
        let from = (key, String::new());
        self.until
            .range(from..)
            .take_while(|((held, _), _)| *held == key)
            .count()
    }

    pub fn len(&self) -> usize {
        self.until.len()
    }

    pub fn is_empty(&self) -> bool {
        self.until.is_empty()
    }
}

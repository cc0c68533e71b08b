//! Decides which proxies are alive, and whether all of them serve a snapshot.

use super::{ABSENCE, ACK_LIMIT, SILENCE};
use crate::clock::{later, since};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// Most proxies remembered at once: a node has one, two during its upgrade.
const PROXIES_MAX: usize = 64;

#[derive(Debug)]
struct Proxy {
    acknowledged: u64,
    last_sign: Timestamp,
    streams: usize,
}

impl Proxy {
    fn is_absent(&self, now: Timestamp) -> bool {
        self.streams == 0 && since(now, self.last_sign) >= ABSENCE
    }
}

/// Every proxy heard of lately. Time is an argument.
#[derive(Debug, Default)]
pub struct ProxyTable {
    proxies: BTreeMap<String, Proxy>,
}

impl ProxyTable {
    /// A proxy said something. False when there are too many to remember it.
    pub fn sign(&mut self, id: &str, now: Timestamp) -> bool {
        if !self.proxies.contains_key(id) && self.proxies.len() >= PROXIES_MAX {
            return false;
        }
        let proxy = self.proxies.entry(id.to_owned()).or_insert(Proxy {
            acknowledged: 0,
            last_sign: now,
            streams: 0,
        });
        proxy.last_sign = now;
        true
    }

    /// A proxy follows the snapshots.
    pub fn connected(&mut self, id: &str, now: Timestamp) -> bool {
        let known = self.sign(id, now);
        if let Some(proxy) = self.proxies.get_mut(id) {
            proxy.streams += 1;
        }
        known
    }

    /// Its stream ended; it has [`SILENCE`] to come back.
    pub fn disconnected(&mut self, id: &str, now: Timestamp) {
        if let Some(proxy) = self.proxies.get_mut(id) {
            proxy.streams = proxy.streams.saturating_sub(1);
            proxy.last_sign = now;
        }
    }

    pub fn acknowledge(&mut self, id: &str, generation: u64, now: Timestamp) {
        self.sign(id, now);
        if let Some(proxy) = self.proxies.get_mut(id) {
            proxy.acknowledged = proxy.acknowledged.max(generation);
        }
    }

    /// Proxies that have followed nothing and said nothing for [`ABSENCE`].
    pub fn absent(&self, now: Timestamp) -> BTreeSet<String> {
        let absent = self.proxies.iter().filter(|(_, proxy)| proxy.is_absent(now));
        absent.map(|(id, _)| id.clone()).collect()
    }

    /// All others.
    pub fn present(&self, now: Timestamp) -> BTreeSet<&str> {
        let present = self.proxies.iter().filter(|(_, proxy)| !proxy.is_absent(now));
        present.map(|(id, _)| &**id).collect()
    }

    /// Removes proxies that follow nothing and have been silent; returns them.
    pub fn expire(&mut self, now: Timestamp) -> Vec<String> {
        let gone: Vec<String> = self
            .proxies
            .iter()
            .filter(|(_, proxy)| proxy.streams == 0 && since(now, proxy.last_sign) >= SILENCE)
            .map(|(id, _)| id.clone())
            .collect();
        for id in &gone {
            self.proxies.remove(id);
        }
        gone
    }

    /// Proxies that hold up what waits for `generation`, published at `published`; and those that no longer do because
    /// they were silent, which lose their leases.
    pub fn lagging(&self, generation: u64, published: Timestamp, now: Timestamp) -> (Vec<String>, Vec<String>) {
        let behind = self.proxies.iter().filter(|(_, proxy)| proxy.acknowledged < generation);
        let (silent, waited_for): (Vec<_>, Vec<_>) = behind.partition(|(_, proxy)| {
            let quiet_since = proxy.last_sign.max(published);
            now >= later(quiet_since, SILENCE) || now >= later(published, ACK_LIMIT)
        });
        let names = |of: Vec<(&String, &Proxy)>| of.into_iter().map(|(id, _)| id.clone()).collect();
        (names(waited_for), names(silent))
    }

    pub fn len(&self) -> usize {
        self.proxies.len()
    }

    pub fn is_empty(&self) -> bool {
        self.proxies.is_empty()
    }
}

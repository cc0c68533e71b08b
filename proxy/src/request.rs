//! The life of a request in the proxy's own words: what its head means, who gets it, what a failure leads to, what is told
//! to whom, and the account of it all. No engine is known here: an engine only moves bytes.

use crate::config::{Config, Limits, Network, Timeouts};
use crate::lease::Leases;
use crate::life::gate::Gate;
use crate::metrics::Metrics;
use crate::routing::Routing;
use std::net::IpAddr;
use std::sync::Arc;

pub mod account;
pub mod admission;
pub mod answer;
pub mod attempt;
pub mod authority;
pub mod fields;
pub mod forward;
pub mod framing;
pub mod head;
pub mod id;
pub mod own;
pub mod refusal;
pub mod target;

/// Answered by the proxy itself: whether it serves, without asking anybody.
pub const HEALTH_PATH: &[u8] = b"/.well-known/miren/health";

/// What serving requests needs.
#[derive(Clone, Debug)]
pub struct Parts {
    pub routing: Arc<Routing>,
    pub leases: Leases,
    pub gate: Arc<Gate>,
    pub metrics: Arc<Metrics>,
}

/// The settings that requests depend on.
#[derive(Clone, Debug)]
pub struct Rules {
    pub timeouts: Timeouts,
    pub limits: Limits,
    /// Peers that are believed what they say about others.
    pub trusted: Vec<Network>,
}

impl Rules {
    pub fn of(config: &Config) -> Self {
        Self {
            timeouts: config.timeouts,
            limits: config.limits,
            trusted: config.trusted.clone(),
        }
    }

    /// Whether `peer` is believed what it says about others.
    pub fn trusts(&self, peer: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(peer))
    }
}

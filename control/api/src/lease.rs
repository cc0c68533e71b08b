//! Leases: a proxy's time-limited right to send requests to one sandbox generation, and the demand it reports.

use crate::app_file::{hedged, is_hedged};
use crate::id::{NodeId, PoolId, SandboxId, VersionId};
use crate::identity::Identity;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::time::Duration;
use utoipa::ToSchema;

/// How long a lease holds without being renewed.
pub const LEASE_TTL: Duration = Duration::from_secs(30);
/// How often a proxy renews all it holds: a third of [`LEASE_TTL`], so that two renewals may fail.
pub const RENEW_INTERVAL: Duration = Duration::from_secs(10);
/// Longest wait for a first RUNNING sandbox that one acquire may ask for.
pub const ACQUIRE_WAIT_MAX: Duration = Duration::from_secs(60);

/// What a lease is about: one generation of one slot of one node, never an address alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
pub struct LeaseKey {
    /// Whose slot it is.
    #[serde(default, skip_serializing_if = "NodeId::is_first")]
    pub node: NodeId,
    pub slot: u32,
    pub generation: u64,
}

impl LeaseKey {
    /// As it is given back by a proxy that knows the answers up to `answer`.
    pub fn released(self, answer: u64) -> ReleasedLease {
        ReleasedLease {
            node: self.node,
            slot: self.slot,
            generation: self.generation,
            answer,
        }
    }
}

/// The right to send up to `capacity` concurrent requests to one sandbox generation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Lease {
    #[serde(flatten)]
    pub key: LeaseKey,
    pub sandbox: SandboxId,
    #[schema(value_type = String)]
    pub endpoint: SocketAddr,
    /// Concurrent requests this proxy may have in flight to it: its share of what the sandbox takes.
    pub capacity: u32,
}

/// What a proxy needs of one (version, service) right now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Demand {
    /// Requests being served.
    pub in_flight: u32,
    /// Requests waiting for room.
    pub queued: u32,
}

impl Demand {
    /// Requests that are there.
    pub fn total(self) -> u64 {
        u64::from(self.in_flight) + u64::from(self.queued)
    }
}

/// Asks for a lease on every RUNNING sandbox of the pool of (version, service). What the proxy holds on it goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AcquireRequest {
    pub proxy: String,
    pub version: VersionId,
    pub service: String,
    #[serde(default)]
    pub demand: Demand,
    /// How long the answer may take while no sandbox is RUNNING; at most [`ACQUIRE_WAIT_MAX`].
    #[serde(default)]
    pub wait_ms: u64,
    /// Leases the caller knows to be of no use (a connect failed, the word says otherwise): dropped before the answer.
    #[serde(default)]
    pub dropped: Vec<LeaseKey>,
}

/// Every lease the proxy has on that pool from now on, each with its share; never empty.
///
/// The capacity of a sandbox is shared by the proxies that have a lease on it. A lease whose share was taken away whole
/// stays, with capacity 0; one that would begin with nothing is left out, and a caller that would have nothing else waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AcquireResponse {
    pub pool: PoolId,
    pub leases: Vec<Lease>,
    pub ttl_ms: u64,
    /// Number of this answer, higher than that of every earlier one; goes with a lease that is given back.
    #[serde(default)]
    pub answer: u64,
    /// Whose leases these are; none from a control of an earlier release.
    #[serde(default)]
    pub identity: Option<Identity>,
    /// Whether a request that only reads may be asked of another sandbox when its own is silent for long.
    #[serde(default = "hedged", skip_serializing_if = "is_hedged")]
    pub hedge: bool,
}

/// A lease a proxy holds, and what it makes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HeldLease {
    /// Whose slot it is.
    #[serde(default, skip_serializing_if = "NodeId::is_first")]
    pub node: NodeId,
    pub slot: u32,
    pub generation: u64,
    /// Requests in flight under it.
    pub in_flight: u32,
    /// What it takes its share to be; 0 when it sends nothing more. A control that knows nothing of the lease, because it
    /// was restarted, grants no more than that.
    #[serde(default)]
    pub capacity: u32,
    /// How many of those in flight are tunnels. Said only to a control that has said that it hears it: an earlier one refuses what it
    /// does not know.
    #[serde(default, skip_serializing_if = "is_none")]
    pub tunnels: u32,
}

fn is_none(count: &u32) -> bool {
    *count == 0
}

impl HeldLease {
    pub fn key(&self) -> LeaseKey {
        LeaseKey {
            node: self.node,
            slot: self.slot,
            generation: self.generation,
        }
    }
}

/// Renews everything a proxy holds, in one request, with its demand per pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RenewRequest {
    pub proxy: String,
    pub held: Vec<HeldLease>,
    #[serde(default)]
    pub demand: Vec<PoolDemand>,
}

/// Demand of one pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PoolDemand {
    pub pool: PoolId,
    #[serde(flatten)]
    pub demand: Demand,
}

/// A lease that goes on, with the share it has from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RenewedLease {
    /// Whose slot it is.
    #[serde(default, skip_serializing_if = "NodeId::is_first")]
    pub node: NodeId,
    pub slot: u32,
    pub generation: u64,
    /// Concurrent requests this proxy may have in flight to it; what is above runs out. 0: none until it is told more.
    pub capacity: u32,
}

impl RenewedLease {
    pub fn key(&self) -> LeaseKey {
        LeaseKey {
            node: self.node,
            slot: self.slot,
            generation: self.generation,
        }
    }
}

/// How long what is under way to a sandbox may go on that is being retired. What was let in is owed this time, and no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ClosingLease {
    /// Whose slot it is.
    #[serde(default, skip_serializing_if = "NodeId::is_first")]
    pub node: NodeId,
    pub slot: u32,
    pub generation: u64,
    /// Milliseconds from this answer on after which requests are ended: with 504 before their head, cut after it.
    pub requests_ms: u64,
    /// Milliseconds from this answer on after which WebSockets are told to go (close code 1012). They are cut when their sandbox
    /// exits; the lease is given back before that.
    pub tunnels_ms: u64,
}

impl ClosingLease {
    pub fn key(&self) -> LeaseKey {
        LeaseKey {
            node: self.node,
            slot: self.slot,
            generation: self.generation,
        }
    }
}

/// Which leases go on. A lease on a sandbox that is not RUNNING is lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RenewResponse {
    pub renewed: Vec<RenewedLease>,
    pub lost: Vec<LeaseKey>,
    /// Of the lost ones, those on sandboxes that are being retired; none from a control of an earlier release.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub closing: Vec<ClosingLease>,
    /// Whether [`HeldLease::tunnels`] is understood; a control of an earlier release does not say so.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hears_tunnels: bool,
    pub ttl_ms: u64,
    /// Whose answer this is; none from a control of an earlier release.
    #[serde(default)]
    pub identity: Option<Identity>,
}

/// A lease that is given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReleasedLease {
    /// Whose slot it is.
    #[serde(default, skip_serializing_if = "NodeId::is_first")]
    pub node: NodeId,
    pub slot: u32,
    pub generation: u64,
    /// Highest number of an answer that granted it. One that is on its way granted it again: then it goes on.
    pub answer: u64,
}

impl ReleasedLease {
    pub fn key(&self) -> LeaseKey {
        LeaseKey {
            node: self.node,
            slot: self.slot,
            generation: self.generation,
        }
    }
}

/// Gives leases back: no request of this proxy is in flight to them any more, and no tunnel but such as were told to go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReleaseRequest {
    pub proxy: String,
    pub leases: Vec<ReleasedLease>,
}

#[cfg(test)]
mod tests;

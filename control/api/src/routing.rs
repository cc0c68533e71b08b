//! The routing snapshot: every route and the versions it resolves to, immutable and numbered; and what turns one into the next.

use crate::id::{AppName, NodeId, PoolId, VersionId};
use crate::resource::Maintenance;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// All routes at one generation. Two snapshots with the same lineage and generation are equal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RoutingSnapshot {
    /// Grows by one with each change, also over restarts of control.
    pub generation: u64,
    /// The history that this generation is of, drawn by the daemon that made it. Where the store was put back to an earlier
    /// state the numbers are used again, and the lineage is another one. Empty from a control of an earlier release.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub lineage: String,
    /// Exact hosts and wildcards (`*.example.com`), in normal form.
    pub routes: Vec<RouteRule>,
    /// Where requests go that no route matches.
    #[serde(default)]
    pub default: Option<RouteDestination>,
    /// Below it, as `label.app.<host>`, are labels of apps that no route matches. None: they have no such place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_host: Option<String>,
    /// What each app serves.
    pub apps: BTreeMap<AppName, AppRouting>,
}

/// Event `delta` of the proxy's stream: what turns the snapshot of one generation into a later one's.
///
/// It only fits a follower that is at `from` of `from_lineage`; any other one needs a whole snapshot, with which each stream begins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RoutingDelta {
    pub from: u64,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub from_lineage: String,
    pub generation: u64,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub lineage: String,
    /// Routes that are new or lead elsewhere.
    #[serde(default)]
    pub routes: Vec<RouteRule>,
    /// Hosts without a route from now on.
    #[serde(default)]
    pub removed_routes: Vec<String>,
    /// Where requests go that no route matches, changed or not.
    #[serde(default)]
    pub default: Option<RouteDestination>,
    /// The host below which apps have labels, changed or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_host: Option<String>,
    /// Apps that serve something else.
    #[serde(default)]
    pub apps: BTreeMap<AppName, AppRouting>,
    /// Apps that serve nothing from now on.
    #[serde(default)]
    pub removed_apps: Vec<AppName>,
}

/// One host and where it leads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RouteRule {
    pub host: String,
    #[serde(flatten)]
    pub to: RouteDestination,
}

/// An app, and which of its services; `web` unless the route says otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RouteDestination {
    pub app: AppName,
    pub service: String,
    /// How long the app may take to begin an answer, in milliseconds, in place of the proxy's own limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// Requests to exactly this route are turned away; labels before it are served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maintenance: Option<Maintenance>,
}

impl RouteDestination {
    /// A service of an app, with no limits of the route's own.
    pub fn new(app: AppName, service: impl Into<String>) -> Self {
        Self {
            app,
            service: service.into(),
            timeout_ms: None,
            maintenance: None,
        }
    }
}

/// The versions of one app that requests can reach.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AppRouting {
    /// The version that serves the app's routes; none before its first deploy succeeded.
    pub active: Option<VersionId>,
    /// Versions reachable at `label.<host of the app>`.
    #[serde(default)]
    pub ephemeral: Vec<EphemeralRoute>,
}

/// A version reachable under a label until it expires.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EphemeralRoute {
    pub label: String,
    pub version: VersionId,
    /// From this moment on it is unroutable, whether a sweep has run or not.
    #[schema(value_type = String)]
    pub expires_at: Timestamp,
}

/// Event `pool` of the proxy's stream: sandboxes of this pool came or went; ask for leases again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PoolChanged {
    pub pool: PoolId,
}

/// Event `sandbox` of the proxy's stream: a hint that a slot's word changed. The word itself is the truth.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SandboxHint {
    /// Whose slot it is.
    #[serde(default, skip_serializing_if = "NodeId::is_first")]
    pub node: NodeId,
    pub slot: u32,
    pub generation: u64,
    /// One of the slot states, in upper case: `RUNNING`, `DRAINING`, …
    pub state: String,
}

/// Says that a proxy serves from this generation on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProxyAck {
    /// The proxy's own id, new at each of its starts.
    pub proxy: String,
    pub generation: u64,
    /// As it came with the snapshot.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub lineage: String,
}

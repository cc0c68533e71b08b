//! Routes as the API shows them, and what is asked of them.

use crate::id::AppName;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A host and the app that answers for it. The default route's host is `(default)`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Route {
    pub host: String,
    pub app: AppName,
    pub service: String,
    pub default: bool,
    pub wildcard: bool,
    /// The app has the host by its name, below `ingress.apps_domain`. It goes with the app, and gives way to a route that is set.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub derived: bool,
    /// How long the app may take to begin an answer, in milliseconds; otherwise the proxy's own limit holds.
    #[serde(default)]
    pub timeout_ms: Option<u64>,
    /// Requests are turned away for as long as this is set. Previews below the host are not.
    #[serde(default)]
    pub maintenance: Option<Maintenance>,
}

/// Turns a route's requests away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Maintenance {
    /// Seconds after which clients are told to come back, 1 to 86,400.
    #[serde(default = "Maintenance::usual_retry")]
    pub retry_after: u64,
}

impl Maintenance {
    /// Longest time that clients are told to stay away: a day.
    pub const RETRY_MAX: u64 = 86_400;

    fn usual_retry() -> u64 {
        60
    }
}

impl Default for Maintenance {
    fn default() -> Self {
        Self {
            retry_after: Self::usual_retry(),
        }
    }
}

/// Limits how long a route's app may take to begin an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteTimeout {
    /// As `5s` or `2m`; 1 ms to 1 h.
    pub timeout: String,
}

/// Where a route shall lead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteRequest {
    pub app: String,
    /// `web` when absent.
    #[serde(default)]
    pub service: Option<String>,
}

//! Deploys as the API shows them: what is asked for, and how far one has come.

use crate::id::{AppName, DeployId, PoolId, VersionId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// Asks for a new version of an app to take its traffic.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeployRequest {
    /// Digest of an uploaded folder (`POST /v1/artifacts`). Its `.miren/app.toml` and `Procfile` say what runs.
    pub artifact: String,
    /// Environment variables for every service, over those of `app.toml`.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
}

/// How far a deploy has come. `Succeeded` and the ones after it are final.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum DeployStatus {
    Accepted,
    Staging,
    Starting,
    Switching,
    DrainingOld,
    Succeeded,
    Failed,
    Superseded,
    RolledBack,
}

impl DeployStatus {
    /// Whether nothing will change any more.
    pub fn is_final(self) -> bool {
        matches!(
            self,
            Self::Succeeded | Self::Failed | Self::Superseded | Self::RolledBack
        )
    }

    /// The text form, as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "ACCEPTED",
            Self::Staging => "STAGING",
            Self::Starting => "STARTING",
            Self::Switching => "SWITCHING",
            Self::DrainingOld => "DRAINING_OLD",
            Self::Succeeded => "SUCCEEDED",
            Self::Failed => "FAILED",
            Self::Superseded => "SUPERSEDED",
            Self::RolledBack => "ROLLED_BACK",
        }
    }
}

/// One deploy, numbered per app in the order accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Deploy {
    pub id: DeployId,
    pub app: AppName,
    /// Set from STAGING on.
    pub version: Option<VersionId>,
    pub seq: u64,
    pub status: DeployStatus,
    /// Pool of the `web` service, or of the first service.
    pub pool: Option<PoolId>,
    /// Whether that pool existed already with the same spec.
    pub reused: bool,
    /// Where the app can be reached.
    pub urls: Vec<String>,
    #[schema(value_type = String)]
    pub started_at: Timestamp,
    #[schema(value_type = Option<String>)]
    pub finished_at: Option<Timestamp>,
    /// Why it failed, with the tail of the sandbox's log where there is one.
    pub error: Option<String>,
    pub steps: Vec<DeployStep>,
}

/// One thing that happened on the way, for people to read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeployStep {
    pub status: DeployStatus,
    #[schema(value_type = String)]
    pub at: Timestamp,
    pub message: String,
}

/// An uploaded folder, named by what is in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Artifact {
    /// `sha256:` and 64 hexadecimal digits over the sorted entries: path, mode, content.
    pub digest: String,
    pub files: u64,
    pub bytes: u64,
}

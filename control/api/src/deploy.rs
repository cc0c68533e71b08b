//! Deploys as the API shows them: what is asked for, and how far one has come.

use crate::id::{AppName, DeployId, PoolId, VersionId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// Asks for a version of an app to take its traffic: a folder as a new version, an earlier version again, or, with neither,
/// what the newest deploy under way brings, else what serves, with other variables.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeployRequest {
    /// Digest of an uploaded folder (`POST /v1/artifacts`). Its `.miren/app.toml` and `Procfile` say what runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact: Option<String>,
    /// An image to run in place of the one that the folder's settings name: a reference, or the digest of one that was sent
    /// (`POST /v1/images`). Without `artifact`, all settings are the defaults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// An earlier version of the app, with its folder, its images and its variables. Not together with `artifact` or `image`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<VersionId>,
    /// Variables for every service, over those of `app.toml`. Later deploys keep them; null takes one away.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, Option<String>>,
    /// The same for single services, over those for every service.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub service_env: BTreeMap<String, BTreeMap<String, Option<String>>>,
}

/// Asks for an earlier version to serve again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RollbackRequest {
    /// That version; otherwise the one that served before the active one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<VersionId>,
}

/// One environment variable of an app's active version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Variable {
    pub name: String,
    pub value: String,
    /// Absent: every service has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    pub source: VariableSource,
}

/// Who set a variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum VariableSource {
    /// The app's `app.toml`.
    Config,
    /// Somebody, with `miren env set` or `miren deploy -e`. Wins over the app's own.
    Manual,
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
    /// Whether every host without a route of its own leads to the app.
    #[serde(default)]
    pub default_route: bool,
    #[schema(value_type = String)]
    pub started_at: Timestamp,
    #[schema(value_type = Option<String>)]
    pub finished_at: Option<Timestamp>,
    /// Why it failed, with the tail of the sandbox's log where there is one.
    pub error: Option<String>,
    pub steps: Vec<DeployStep>,
    /// What it said last, while it gets its images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<String>,
}

/// One thing that happened on the way, for people to read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeployStep {
    pub status: DeployStatus,
    #[schema(value_type = String)]
    pub at: Timestamp,
    pub message: String,
}

/// What a deploy said on its way, as people read it: how far a pull is, what a builder wrote. Kept for a while only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OutputLine {
    /// One more for each line of the deploy; higher than all before a restart of the server.
    pub number: u64,
    pub text: String,
}

/// An image that was sent as an archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SentImage {
    /// `sha256:` and 64 hexadecimal digits: of its manifest, or of its configuration where it has none.
    pub digest: String,
    /// The name it has in the archive.
    pub reference: Option<String>,
    pub layers: usize,
}

/// An uploaded folder, named by what is in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Artifact {
    /// `sha256:` and 64 hexadecimal digits over the sorted entries: path, mode, content.
    pub digest: String,
    pub files: u64,
    pub bytes: u64,
}

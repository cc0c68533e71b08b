//! Decides what is kept of an idempotency key: the key, and the digest of what was asked with it.

use miren_api::deploy::DeployRequest;
use miren_api::ephemeral::EphemeralRequest;
use miren_api::id::{Label, VersionId};
use miren_image::Digest;
use serde::{Deserialize, Serialize};

/// A request under a key. The same key with another digest is another request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    pub key: String,
    pub digest: Digest,
}

impl Asked {
    pub fn deploy(key: String, request: &DeployRequest) -> Self {
        Self::of(key, "deploy", request)
    }

    /// As it was asked for: which version served before the active one is another one once it is over.
    pub fn rollback(key: String, to: &Option<VersionId>) -> Self {
        Self::of(key, "rollback", to)
    }

    pub fn restart(key: String) -> Self {
        Self::of(key, "restart", &())
    }

    pub fn preview(key: String, request: &EphemeralRequest) -> Self {
        Self::of(key, "preview", request)
    }

    fn of(key: String, what: &str, request: &impl Serialize) -> Self {
        // Requests are read from JSON, so they can be written as it.
        let request = serde_json::to_string(request).unwrap_or_default();
        let digest = Digest::of(format!("{what} {request}").as_bytes());
        Self { key, digest }
    }
}

/// What a preview was asked with, and the rest of what was answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AskedPreview {
    #[serde(flatten)]
    pub asked: Asked,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaced: Option<VersionId>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evicted: Vec<Label>,
    #[serde(default)]
    pub reused: bool,
}

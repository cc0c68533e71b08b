//! Decides what is kept of what runs: the settings of a folder as they were read, and what the sandboxes of one service are made from.

use miren_api::app_file::{Build, Previews, Release, Service};
use miren_image::Digest;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What the sandboxes of one service are made from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spec {
    pub service: Service,
    /// The folder at `/app`. Empty: there is none.
    pub artifact: String,
    /// What is under it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<Digest>,
}

/// What a folder's own settings say, an image in place of theirs taken into account, and no variables that people set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    pub services: BTreeMap<String, Service>,
    pub previews: Previews,
    pub build: Build,
    /// Absent where there is none, and in what an earlier release read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<Release>,
}

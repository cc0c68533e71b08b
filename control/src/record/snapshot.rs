//! Decides what is kept of the routing snapshot: its number, and the names it is below.

use super::Stored;
use crate::store::Kind;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// Number of the newest routing snapshot, and the names it is below; what else it contains follows from routes, active versions
/// and labels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotRecord {
    pub generation: u64,
    /// Drawn by the daemon that made this generation; empty in what an earlier release wrote.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub lineage: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_host: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub apps_domain: Option<String>,
}

/// Id of the only [`SnapshotRecord`].
pub const SNAPSHOT_ID: &str = "routing";

impl Stored for SnapshotRecord {
    const KIND: Kind = Kind::Snapshot;

    fn id(&self) -> Cow<'_, str> {
        SNAPSHOT_ID.into()
    }
}

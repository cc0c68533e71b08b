//! What the API says about disks, and what it takes.

use crate::id::{AppName, SandboxId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Where a disk is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum DiskState {
    /// Some sandbox has it.
    Attached,
    Detached,
    /// It cannot be read; `reason` says what. Nothing is done to it but deleting it.
    Damaged,
}

/// A named place for data that outlives sandboxes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Disk {
    pub name: String,
    /// The app that owns it.
    pub app: AppName,
    /// `loop` or `directory`; none when it cannot be read.
    pub provider: Option<String>,
    /// In GiB; a folder has none.
    pub size_gb: Option<u64>,
    pub filesystem: Option<String>,
    /// What is on it; known while it is attached.
    pub used_bytes: Option<u64>,
    pub state: DiskState,
    pub reason: Option<String>,
    /// The sandbox that has it; several when they only read it.
    pub leased_by: Vec<SandboxId>,
    #[schema(value_type = Option<String>)]
    pub created_at: Option<Timestamp>,
}

/// A larger size for a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GrowRequest {
    /// In GiB.
    pub size_gb: u32,
}

/// A new disk of the same app with what is on a disk now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SnapshotRequest {
    /// Name of the new disk.
    pub name: String,
}

/// A disk that was deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeletedDisk {
    pub name: String,
    pub app: AppName,
    pub deleted: bool,
}

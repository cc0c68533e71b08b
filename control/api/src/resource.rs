//! Apps, versions, pools, sandboxes and routes as the API shows them.

mod disk;
mod log;
mod route;

pub use disk::{DeletedDisk, Disk, DiskState, GrowRequest, SnapshotRequest};
pub use log::{LinePart, LogLine, LogStream};
pub use route::{Maintenance, Route, RouteRequest, RouteTimeout};

use crate::id::{AppName, NodeId, PoolId, SandboxId, VersionId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use utoipa::ToSchema;

/// One page of a list, and where the next one starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// Pass as `after` for the next page; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// How an app is doing, judged from its pools.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// No version is active.
    Unknown,
    /// Wants sandboxes, has none ready, and none has failed yet.
    Starting,
    Healthy,
    /// Fewer ready than wanted.
    Degraded,
    /// Wants none: starts with the next request.
    Idle,
    /// In the back-off after crashes.
    Crashed,
}

/// An App, its active version and its sandboxes in numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct App {
    pub name: AppName,
    pub version: Option<VersionId>,
    pub health: Health,
    /// RUNNING sandboxes of the active version.
    pub ready: u32,
    pub desired: u32,
    /// Hosts that lead here.
    pub routes: Vec<String>,
    /// Those of them whose requests are turned away.
    #[serde(default)]
    pub routes_down: Vec<String>,
    /// Where it can be reached.
    #[serde(default)]
    pub urls: Vec<String>,
}

/// What a version is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum VersionStatus {
    /// Serves the app's routes.
    Active,
    /// Reachable under its label until it expires.
    Ephemeral,
    /// Was active once, or never became so.
    Replaced,
}

/// One immutable build of an App with its settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Version {
    pub version: VersionId,
    pub app: AppName,
    pub status: VersionStatus,
    pub label: Option<String>,
    #[schema(value_type = Option<String>)]
    pub expires_at: Option<Timestamp>,
    #[schema(value_type = String)]
    pub created_at: Timestamp,
    /// Pool of its `web` service, or of its first service.
    pub pool: Option<PoolId>,
}

/// What a pool is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum PoolState {
    /// Kept at its wanted size.
    Active,
    /// Waits until `cooldown_until`, after crashes or after its sandboxes ended too often without one.
    Cooldown,
    /// No version refers to it; its sandboxes drain.
    Retiring,
}

/// The sandboxes of one App and Service with one spec hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Pool {
    pub id: PoolId,
    pub app: AppName,
    pub service: String,
    pub spec_hash: String,
    /// Versions that refer to it.
    pub versions: Vec<VersionId>,
    pub desired: u32,
    /// Sandboxes PENDING or RUNNING.
    pub current: u32,
    /// Sandboxes RUNNING.
    pub ready: u32,
    /// Crashes in a row.
    pub crash_count: u32,
    /// Why the last of them ended; one that never got ready begins with the step of its boot that failed.
    #[serde(default)]
    pub last_crash: Option<String>,
    #[schema(value_type = Option<String>)]
    pub cooldown_until: Option<Timestamp>,
    pub state: PoolState,
    /// The node cannot start its sandboxes: what is wrong with it, and how the last attempt failed. Tried again until it can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_fault: Option<String>,
}

/// What a node lacks, or what of it is out of order, so that it cannot start a sandbox. It is retried until it can.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum NodeFault {
    DiskFull,
    /// Reading or writing fails.
    DiskBroken,
    /// No slot or no address is free.
    NoPlace,
    Memory,
    /// No further process can be made.
    Processes,
    /// No further file can be opened.
    Files,
    Network,
    /// The container runtime, or the helper process that holds a sandbox, does not answer.
    Runtime,
    /// The images of the node cannot be read.
    Images,
    /// A program is not installed.
    Program,
    /// One of a newer server.
    #[serde(other)]
    Unknown,
}

impl NodeFault {
    pub const ALL: [Self; 11] = [
        Self::DiskFull,
        Self::DiskBroken,
        Self::NoPlace,
        Self::Memory,
        Self::Processes,
        Self::Files,
        Self::Network,
        Self::Runtime,
        Self::Images,
        Self::Program,
        Self::Unknown,
    ];

    /// The text form, as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DiskFull => "disk_full",
            Self::DiskBroken => "disk_broken",
            Self::NoPlace => "no_place",
            Self::Memory => "memory",
            Self::Processes => "processes",
            Self::Files => "files",
            Self::Network => "network",
            Self::Runtime => "runtime",
            Self::Images => "images",
            Self::Program => "program",
            Self::Unknown => "unknown",
        }
    }
}

/// State of one sandbox generation: the slot states, without FREE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum SandboxState {
    Pending,
    Running,
    Draining,
    Stopping,
    /// Ended on purpose.
    Stopped,
    /// Ended otherwise; `reason` says how.
    Dead,
}

impl SandboxState {
    /// Whether its process is gone for good.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Stopped | Self::Dead)
    }

    /// The text form, as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Running => "RUNNING",
            Self::Draining => "DRAINING",
            Self::Stopping => "STOPPING",
            Self::Stopped => "STOPPED",
            Self::Dead => "DEAD",
        }
    }
}

/// One isolated running copy of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Sandbox {
    pub id: SandboxId,
    pub app: AppName,
    pub service: String,
    pub version: VersionId,
    /// Never changes.
    pub pool: PoolId,
    pub state: SandboxState,
    /// Why it is DEAD or STOPPED.
    pub reason: Option<String>,
    #[schema(value_type = Option<String>)]
    pub ip: Option<IpAddr>,
    pub port: Option<u16>,
    /// Its init, as the host sees it.
    pub pid: Option<u32>,
    pub slot: Option<u32>,
    pub generation: Option<u64>,
    /// What its node is called.
    pub node: String,
    #[serde(default, skip_serializing_if = "NodeId::is_first")]
    pub node_id: NodeId,
    #[schema(value_type = String)]
    pub created_at: Timestamp,
    #[schema(value_type = Option<String>)]
    pub running_at: Option<Timestamp>,
    #[schema(value_type = Option<String>)]
    pub ended_at: Option<Timestamp>,
}

/// What runs on the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServerVersion {
    pub version: String,
    pub node: String,
}

/// One change of a slot's word, with the kernel's own time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SlotTransition {
    /// Whose slot it is.
    #[serde(default, skip_serializing_if = "NodeId::is_first")]
    pub node: NodeId,
    pub slot: u32,
    pub generation: u64,
    pub state: String,
    /// `kernel` or `control`.
    pub by: String,
    /// Nanoseconds of the monotonic clock.
    pub at_ns: u64,
    /// Raw wait status, when the kernel saw the exit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<SandboxId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<AppName>,
}

/// `fastpath status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FastPathStatus {
    /// `kernel` or `off`.
    pub mode: String,
    /// Why it is off although `auto` was asked for.
    pub reason: Option<String>,
    pub pin_dir: String,
    /// Version of the records shared with the kernel.
    pub abi: u32,
    pub programs: Vec<FastPathProgram>,
    pub slots: SlotUse,
    pub transitions: TransitionCounts,
    /// Connections refused by the connect hook.
    pub refused_connects: u64,
    /// Segments answered with RST by the packet hook.
    pub reset_packets: u64,
    /// Events that found their ring full.
    #[serde(default)]
    pub dropped_events: u64,
}

/// One program and what it hangs on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FastPathProgram {
    pub name: String,
    pub id: u32,
    pub tag: String,
    pub attached_to: String,
}

/// How full the slot table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SlotUse {
    pub used: u32,
    pub capacity: u32,
}

/// Who changed words, counted since the table was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TransitionCounts {
    pub by_kernel: u64,
    pub by_control: u64,
}

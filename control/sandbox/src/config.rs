//! Decides what one node is called, where it keeps its files and what a sandbox may use unless its service says more.

use crate::network::{Connections, Destination, Egress, Subnet, Tracking};
use miren_api::app_file::Resources;
use miren_api::settings::Bytes;
use miren_image::Images;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Everything the operator decides about sandboxes. Two nodes of different name, bridge and subnet run side by side.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// A DNS label; names the nftables table, the veths and the cgroup of this node.
    pub name: String,
    /// Files that mean nothing after a reboot: `sandboxes/<id>/`, `netns/<id>`.
    pub run_dir: PathBuf,
    /// `<app>/<service>/<sandbox>.log`.
    pub log_dir: PathBuf,
    /// The disks of apps: what must outlive everything else. Beside the logs unless set.
    pub disk_dir: PathBuf,
    /// Name of the bridge, at most 15 characters.
    pub bridge: String,
    /// Addresses of the sandboxes; its first one is the bridge's.
    pub subnet: Subnet,
    /// Which other machines sandboxes and builds may reach.
    pub egress: Egress,
    /// What they may reach besides.
    pub allow: Vec<Destination>,
    /// Where the proxy of this machine listens: the only part of the machine that is open to sandboxes.
    pub ingress: Vec<SocketAddr>,
    pub tracking: Tracking,
    pub connections: Connections,
    /// How long one attempt to clean up after a sandbox may take.
    pub cleanup_timeout: Duration,
    /// How long a slot and its address rest after their sandbox ended.
    pub quarantine: Duration,
    /// Limits where a service names none.
    pub defaults: Resources,
    /// How long everything before its command runs may take. Measured: 40 ms.
    pub boot_timeout: Duration,
    /// Sandboxes that are brought up at a time; others wait their turn.
    pub boots: NonZeroUsize,
    pub logs: LogLimits,
    pub health: HealthChecks,
    /// The executable that calls [`crate::helper_main_if_asked`].
    pub helper: PathBuf,
    pub runtime: RuntimeConfig,
    /// Where the images of [`Root::Image`](crate::Root::Image) are. None: no such sandbox can start.
    pub images: Option<Images>,
}

/// What makes the containers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RuntimeConfig {
    /// A helper process for each sandbox; needs no other daemon.
    #[default]
    Embedded,
    /// containerd, reached at its socket.
    Containerd { socket: PathBuf },
}

impl NodeConfig {
    /// A node with the defaults for everything that is no name or place.
    pub fn new(
        name: impl Into<String>,
        run_dir: &Path,
        log_dir: &Path,
        bridge: impl Into<String>,
        subnet: Subnet,
    ) -> Self {
        Self {
            name: name.into(),
            run_dir: run_dir.to_owned(),
            log_dir: log_dir.to_owned(),
            disk_dir: log_dir.with_file_name("disks"),
            bridge: bridge.into(),
            subnet,
            egress: Egress::default(),
            allow: Vec::new(),
            ingress: Vec::new(),
            tracking: Tracking::default(),
            connections: Connections::default(),
            cleanup_timeout: miren_fault::deadline(Duration::from_secs(30)),
            quarantine: Duration::from_secs(3),
            defaults: default_resources(),
            boot_timeout: miren_fault::deadline(Duration::from_secs(30)),
            boots: boots(),
            logs: LogLimits::default(),
            health: HealthChecks::default(),
            helper: PathBuf::from("/proc/self/exe"),
            runtime: RuntimeConfig::default(),
            images: None,
        }
    }
}

/// Half of a boot waits for the kernel, so two for each core; a few at least, so that one that hangs holds up none.
fn boots() -> NonZeroUsize {
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    NonZeroUsize::MIN.saturating_add((2 * cores).max(8) - 1)
}

/// 512 MiB, every core, 512 processes and threads.
fn default_resources() -> Resources {
    Resources {
        memory: Some(Bytes(512 << 20)),
        cpu: None,
        pids: Some(512),
    }
}

/// How a sandbox that is RUNNING is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthChecks {
    /// Pause between two checks.
    pub interval: Duration,
    /// Failures in a row after which it is given up.
    pub failures: u32,
}

impl Default for HealthChecks {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(5),
            failures: 3,
        }
    }
}

/// How much log is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogLimits {
    /// Size at which a file is rotated.
    pub file: Bytes,
    /// Files of one sandbox, the one being written included.
    pub files: u32,
    /// Sandboxes of one service whose files are kept, living ones included.
    pub sandboxes: usize,
    pub rate: LogRate,
}

/// How fast a sandbox may write to its log. What comes faster is dropped, counted and said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogRate {
    /// Each second.
    pub bytes: Bytes,
    /// Each second.
    pub lines: u64,
    /// What of it may come at once.
    pub burst: Duration,
}

impl Default for LogRate {
    /// More than a busy access log needs, and a start that says a lot. A flood that is kept at this rate is some 2 MB of JSON a second.
    fn default() -> Self {
        Self {
            bytes: Bytes(1 << 20),
            lines: 5_000,
            burst: Duration::from_secs(8),
        }
    }
}

impl Default for LogLimits {
    fn default() -> Self {
        Self {
            file: Bytes(10 << 20),
            files: 3,
            sandboxes: 20,
            rate: LogRate::default(),
        }
    }
}

//! Decides how the real node answers the seam: sandboxes by `miren-sandbox`, words by the fast path.

use super::{ArtifactDigest, Disks, Executor, Known, Order};
use crate::artifact;
use crate::config::Config;
use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use miren_api::id::SandboxId;
use miren_api::lease::LeaseKey;
use miren_api::resource::{FastPathProgram, FastPathStatus, LogLine, SlotUse, TransitionCounts};
use miren_image::Images;
use miren_loader::{FastPath, FastPathConfig, State, Transition};
use miren_sandbox::logs::{self, Dropped, LogQuery};
use miren_sandbox::{
    Attach, Budgets, Exec, ExecError, Left, NodeConfig, Outlet, RulesStatus, SandboxChange, Sandboxes, Streams,
};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::{broadcast, mpsc, oneshot};

/// Why this machine cannot run sandboxes.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    FastPath(#[from] miren_loader::OpenError),
    #[error(transparent)]
    Sandboxes(#[from] miren_sandbox::OpenError),
    #[error("following the links of {path}: {source}", path = .path.display())]
    RunDir { path: PathBuf, source: std::io::Error },
}

/// This machine.
pub struct Node {
    sandboxes: Sandboxes,
    fast_path: Arc<FastPath>,
    log_dir: PathBuf,
    artifacts: PathBuf,
}

impl Node {
    /// Opens the slot table, the network and the runtime. Everything that becomes of sandboxes is sent to `changes`.
    pub async fn open(
        config: &Config,
        images: Images,
        changes: mpsc::UnboundedSender<SandboxChange>,
    ) -> Result<Self, OpenError> {
        let fast_path = FastPath::open(FastPathConfig {
            mode: config.fast_path.mode,
            pin_dir: config.fast_path.pin_dir.clone(),
            table_file: config.run_dir.join("slots"),
            ..FastPathConfig::default()
        })?;
        if let Some(reason) = fast_path.reason() {
            tracing::warn!(reason, "the fast path runs without the kernel");
        }
        let fast_path = Arc::new(fast_path);
        let log_dir = config.log_dir();
        let network = &config.network;
        // Mounts are listed, and runtimes want roots, by paths without links.
        let run_dir = std::fs::canonicalize(&config.run_dir).map_err(|source| OpenError::RunDir {
            path: config.run_dir.clone(),
            source,
        })?;
        let mut node = NodeConfig::new(&config.name, &run_dir, &log_dir, &network.bridge, network.subnet);
        node.egress = network.egress;
        node.allow = network.allow.clone();
        node.ingress = config.ingress();
        node.tracking = network.tracking;
        node.connections = network.connections;
        node.runtime = config.runtime.clone();
        node.images = Some(images);
        node.disk_dir = config.disk_dir();
        let sandboxes = Sandboxes::open(node, Arc::clone(&fast_path), changes).await?;
        Ok(Self {
            sandboxes,
            fast_path,
            log_dir,
            artifacts: config.artifact_dir(),
        })
    }

    /// Where an artifact is on this machine.
    fn folder(&self, artifact: &ArtifactDigest) -> PathBuf {
        artifact::folder(&self.artifacts, &artifact.0)
    }

    /// Removes everything made on this machine: network, cgroups, pins. For when [`Executor::left`] has
    /// nothing any more.
    pub async fn remove(&self) -> anyhow::Result<()> {
        self.sandboxes.remove_node().await?;
        Ok(self.fast_path.remove()?)
    }
}

#[async_trait]
impl Executor for Node {
    async fn adopt(&self, known: Vec<Known>) -> Vec<SandboxChange> {
        let here = |known: Known| known.located(|artifact| self.folder(&artifact));
        self.sandboxes.adopt(known.into_iter().map(here).collect()).await
    }

    fn start(&self, order: Order) {
        self.sandboxes.start(order.located(|artifact| self.folder(&artifact)));
    }

    fn drain(&self, id: &SandboxId, reason: &str, budgets: Budgets, idle: BoxFuture<'static, ()>) {
        self.sandboxes.drain(id, reason, budgets, idle);
    }

    fn dropped_lines(&self) -> Dropped {
        self.sandboxes.dropped_lines()
    }

    fn kill(&self, id: &SandboxId, reason: &str) {
        self.sandboxes.kill(id, reason);
    }

    fn is_running(&self, key: LeaseKey) -> bool {
        if key.slot >= self.fast_path.capacity() {
            return false;
        }
        let slot = self.fast_path.slot(key.slot);
        slot.generation == key.generation && slot.state == State::Running
    }

    fn slot_table(&self) -> String {
        self.fast_path.table().to_string()
    }

    fn transitions(&self) -> broadcast::Receiver<Transition> {
        self.fast_path.transitions()
    }

    fn slots(&self) -> Vec<Transition> {
        self.fast_path.in_use()
    }

    fn fast_path(&self) -> FastPathStatus {
        let status = self.fast_path.status();
        let program = |program: miren_loader::ProgramStatus| FastPathProgram {
            name: program.name,
            id: program.id,
            tag: program.tag,
            attached_to: program.attached_to,
        };
        FastPathStatus {
            mode: status.mode.to_string(),
            reason: status.reason,
            pin_dir: status.pin_dir.map(|dir| dir.display().to_string()).unwrap_or_default(),
            abi: status.abi,
            programs: status.programs.into_iter().map(program).collect(),
            slots: SlotUse {
                used: status.slots.used,
                capacity: status.slots.capacity,
            },
            transitions: TransitionCounts {
                by_kernel: status.transitions.by_kernel,
                by_control: status.transitions.by_control,
            },
            refused_connects: status.refused_connects,
            reset_packets: status.reset_packets,
            dropped_events: status.dropped_events,
        }
    }

    async fn exec(&self, id: &SandboxId, command: Vec<String>, attach: Attach) -> Result<Exec, ExecError> {
        self.sandboxes.exec(id, command, attach).await
    }

    fn attach(&self, id: &SandboxId) -> oneshot::Receiver<Streams> {
        self.sandboxes.attach(id)
    }

    fn logs(&self, query: LogQuery) -> BoxStream<'static, std::io::Result<LogLine>> {
        logs::read(&self.log_dir, query).boxed()
    }

    async fn outlet(&self) -> Result<Option<Outlet>, String> {
        self.sandboxes.outlet().await.map(Some)
    }

    fn network_rules(&self) -> RulesStatus {
        self.sandboxes.network_rules()
    }

    fn disks(&self) -> &dyn Disks {
        self.sandboxes.volumes()
    }

    async fn drained(&self) {
        self.sandboxes.drained().await;
    }

    async fn left(&self) -> Vec<Left> {
        self.sandboxes.left().await
    }

    fn hurry(&self) {
        self.sandboxes.hurry();
    }
}

//! Decides what control may ask of the sandboxes of this node.

use crate::adopt;
use crate::bundle;
use crate::cgroup::Cgroups;
use crate::config::{NodeConfig, RuntimeConfig};
use crate::containerd::Containerd;
use crate::embedded::Embedded;
use crate::exec::{self, Exec, ExecError};
use crate::left::{self, Left};
use crate::lifecycle::{Command, Sandbox};
use crate::logs::Dropped;
use crate::network::{Network, NetworkError, RulesStatus};
use crate::node::{Node, Parts};
use crate::order::{Attach, Budgets, Known, SandboxChange, StartOrder};
use crate::outlet::{Outlet, Uses};
use crate::registry::CleanUp;
use crate::runtime::Runtime;
use crate::streams::Streams;
use crate::volumes::Volumes;
use futures_util::future::BoxFuture;
use miren_api::id::SandboxId;
use miren_loader::{AttachError, EventError, FastPath};
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// The sandboxes of one node. Cheap to clone; when the last clone is dropped everything that watches sandboxes ends,
/// and the sandboxes go on.
#[derive(Clone)]
pub struct Sandboxes(Arc<Owner>);

struct Owner(Arc<Node>);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// Why the node cannot run sandboxes, or cannot be removed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("{doing}: {source}")]
    Io { doing: String, source: io::Error },
    #[error("the network of the node: {0}")]
    Network(String),
    #[error("the container runtime: {0}")]
    Runtime(String),
    #[error("the disks of the node: {0}")]
    Disks(#[from] miren_disk::DiskError),
    #[error(transparent)]
    Attach(#[from] AttachError),
    #[error(transparent)]
    Events(#[from] EventError),
}

impl OpenError {
    fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source }
    }
}

impl From<NetworkError> for OpenError {
    fn from(error: NetworkError) -> Self {
        Self::Network(error.to_string())
    }
}

impl Sandboxes {
    /// Makes the node's bridge, network rules and cgroup, and puts the packet hook on the bridge.
    ///
    /// Every state a sandbox reaches is sent to `changes`. Nothing that runs already is touched before [`Sandboxes::adopt`].
    pub async fn open(
        config: NodeConfig,
        fast_path: Arc<FastPath>,
        changes: mpsc::UnboundedSender<SandboxChange>,
    ) -> Result<Self, OpenError> {
        for dir in [config.run_dir.join("sandboxes"), config.log_dir.clone()] {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(&dir);
            made.map_err(OpenError::io(format!("creating {}", dir.display())))?;
        }
        let overlay = overlay(&config);
        let volumes = Volumes::open(&config.disk_dir, config.run_dir.join("disks"))?;
        let cgroups = Cgroups::open(&config.name).map_err(OpenError::io("finding the cgroup hierarchies"))?;
        let writers = Cgroups::of_writers(&config.name).map_err(OpenError::io("finding the cgroup hierarchies"))?;
        let network = Network::open(&config).await?;
        fast_path.attach_packet_hook(&config.bridge)?;
        let events = fast_path.events()?;
        let parts = Parts {
            fast_path,
            network,
            cgroups,
            writers,
            runtime: runtime(&config)?,
            overlay,
            volumes,
            changes,
        };
        let node = Node::new(config, parts);
        node.watch_exits(events);
        node.watch_network();
        Ok(Self(Arc::new(Owner(node))))
    }

    fn node(&self) -> &Arc<Node> {
        &self.0.0
    }

    /// Takes over what an earlier process of this node left: sandboxes that still run go on, those that ended meanwhile
    /// are in the answer, everything that is not in `known` is removed. Call it once, before the first start.
    ///
    /// A sandbox that was DRAINING goes on to do so for its service's `drain_timeout`, unless [`Sandboxes::drain`] is
    /// called again with what it waits for.
    pub async fn adopt(&self, known: Vec<Known>) -> Vec<SandboxChange> {
        adopt::run(self.node(), known).await
    }

    /// Starts a sandbox; returns at once. PENDING with its facts is announced, then RUNNING, or DEAD with the reason.
    ///
    /// One with a port is RUNNING once it accepts connections there (and `health_path`, if set, answers 2xx or 3xx);
    /// one without a port once it has run for 100 ms.
    pub fn start(&self, order: StartOrder) {
        let node = self.node();
        match node.registry.add(&order.id) {
            Some(commands) => {
                let name = format!("sandbox {}", order.id);
                node.spawn(name, Sandbox::new(Arc::clone(node), order, commands).run());
            }
            None => tracing::error!(sandbox = %order.id, "a sandbox of this id exists; the order is ignored"),
        }
    }

    /// Retires a sandbox: RUNNING → DRAINING until `idle` resolves, or both deadlines of `budgets` and the time proxies have to say so
    /// have passed; then STOPPING: SIGTERM, the grace, SIGKILL; then STOPPED with `reason`. A PENDING one skips DRAINING.
    /// Asking again may only shorten it; an id that is unknown or has ended is no error.
    pub fn drain(&self, id: &SandboxId, reason: &str, budgets: Budgets, idle: BoxFuture<'static, ()>) {
        let reason = reason.to_owned();
        self.node()
            .registry
            .command(id, Command::Drain { reason, budgets, idle });
    }

    /// Ends a sandbox at once with SIGKILL, whatever it is doing. It becomes STOPPED with `reason`.
    pub fn kill(&self, id: &SandboxId, reason: &str) {
        let reason = reason.to_owned();
        self.node().registry.command(id, Command::Kill { reason });
    }

    /// The disks of this node.
    pub fn volumes(&self) -> &Volumes {
        &self.node().volumes
    }

    /// Whether the rules of the network hold.
    pub fn network_rules(&self) -> RulesStatus {
        self.node().network.rules()
    }

    /// A network and a cgroup for something that is no sandbox.
    ///
    /// # Errors
    /// Why there is none: no address is left, or the network cannot be made.
    pub async fn outlet(&self) -> Result<Outlet, String> {
        Outlet::open(self.node()).await
    }

    /// Runs a further command in a sandbox, as its own command runs: same namespaces, limits, rights, environment. It ends
    /// with the answer.
    pub async fn exec(&self, id: &SandboxId, command: Vec<String>, attach: Attach) -> Result<Exec, ExecError> {
        let (node, id) = (Arc::clone(self.node()), id.clone());
        // A caller that is dropped meanwhile leaves nothing half made: what was started is killed when it is there.
        let start = async move { exec::start(&node, &id, command, attach).await };
        let started = miren_log::spawn(
            "the start of a command",
            miren_log::caught("the start of a command", start),
        );
        let started = started.await.map_err(io::Error::other)?;
        started.map_err(|panicked| io::Error::other(panicked.to_string()))?
    }

    /// What the command of a sandbox will be spoken with through, for one whose order says so: asked for before it is started, and
    /// there before the command runs. Whoever lets go of it has the command write to nobody.
    pub fn attach(&self, id: &SandboxId) -> oneshot::Receiver<Streams> {
        self.node().registry.expect_streams(id)
    }

    /// Clean-ups that failed and are being tried again.
    pub fn cleaning_up(&self) -> Vec<CleanUp> {
        self.node().registry.clean_ups()
    }

    /// Tries failed clean-ups again now, not only when their next turn comes.
    pub fn hurry(&self) {
        self.node().registry.hurry();
    }

    /// What there is on this machine of sandboxes, living and ended ones, and of outlets; ended ones are there until their
    /// addresses have rested.
    pub async fn left(&self) -> Vec<Left> {
        left::find(self.node()).await
    }

    /// Resolves when no sandbox is left, clean-ups included.
    pub async fn drained(&self) {
        self.node().registry.empty().await;
    }

    /// Lines that are in no log, because they came faster than a sandbox may write. Counted since this daemon started, and with all
    /// of sandboxes that it took over.
    pub fn dropped_lines(&self) -> Dropped {
        self.node().dropped()
    }

    /// Removes the bridge, the nftables tables, the cgroup and the run files of the node. For after [`Sandboxes::drained`];
    /// outlets are waited for.
    pub async fn remove_node(&self) -> Result<(), OpenError> {
        let node = self.node();
        node.uses.close().empty(Uses::Outlet).await;
        node.stop();
        node.network.remove().await?;
        node.runtime.forget_node().await.map_err(OpenError::Runtime)?;
        node.cgroups
            .remove_node()
            .and_then(|()| node.writers.remove_node())
            .map_err(OpenError::io("removing the cgroup of the node"))?;
        let removed = node.volumes.remove_places();
        removed.map_err(OpenError::io("removing the places of disks"))?;
        let dir = node.config.run_dir.join("sandboxes");
        crate::files::remove_dir_if_there(&dir).map_err(OpenError::io(format!("removing {}", dir.display())))
    }
}

fn runtime(config: &NodeConfig) -> Result<Arc<dyn Runtime>, OpenError> {
    Ok(match &config.runtime {
        RuntimeConfig::Embedded => Arc::new(Embedded {
            helper: config.helper.clone(),
        }),
        RuntimeConfig::Containerd { socket } => {
            let helper = config.helper.canonicalize();
            let helper = helper.map_err(OpenError::io(format!("finding {}", config.helper.display())))?;
            Arc::new(Containerd::new(socket, &config.name, &helper).map_err(OpenError::Runtime)?)
        }
    })
}

/// Whether sandboxes can write to a copy of their files. If not, that is said, and they run without.
fn overlay(config: &NodeConfig) -> bool {
    let possible = bundle::overlay_is_possible(&config.run_dir);
    if let Err(error) = &possible {
        let run_dir = config.run_dir.display();
        tracing::warn!(%error, %run_dir, "overlayfs does not work here: /app will be read-only in every sandbox");
    }
    possible.is_ok()
}

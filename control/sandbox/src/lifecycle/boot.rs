//! Decides the steps from an order to a command that runs, and that every one of them ends in a reason when it fails.

use super::{Life, Sandbox, Stage};
use crate::bundle::{self, Job, Limits, SpecInput};
use crate::logs;
use crate::network::NetworkError;
use crate::node::Node;
use crate::order::StartOrder;
use crate::process::Process;
use crate::runtime::LaunchError;
use miren_api::resource::SandboxState;
use miren_loader::SlotError;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Everything before the command runs. Measured: 40 ms; a machine that needs this long is not going to recover.
const START_BUDGET: Duration = Duration::from_secs(30);

/// A step that failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum BootError {
    #[error("volume: {0}")]
    Volume(String),
    #[error(transparent)]
    Network(#[from] NetworkError),
    #[error("preparing its files: {0}")]
    Files(#[from] io::Error),
    #[error(transparent)]
    Launch(#[from] LaunchError),
    #[error("registering its process: {0}")]
    Register(SlotError),
}

impl Sandbox {
    /// Takes a place and brings the command up in it.
    pub(super) async fn boot(&mut self) -> Stage {
        let address = match self.take_place() {
            Ok(address) => address,
            Err(reason) => {
                self.why = Some(reason);
                return Stage::Ended;
            }
        };
        self.announce(SandboxState::Pending);
        if let Err(stage) = self.attach_disks().await {
            return stage;
        }
        let failed = match tokio::time::timeout(START_BUDGET, self.bring_up(address)).await {
            Ok(Ok(())) => return Stage::Ready,
            // Its own exit says more.
            Ok(Err(BootError::Register(SlotError::AlreadyExited { .. }))) => return Stage::Ended,
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("its sandbox was not made within {} s", START_BUDGET.as_secs()),
        };
        self.why = Some(failed);
        Stage::Abort
    }

    /// From here on the sandbox owns a slot and an address, and has a generation.
    fn take_place(&mut self) -> Result<Ipv4Addr, String> {
        let (slot, address) = self.node.take_place().map_err(|error| error.to_string())?;
        let port = self.order.service.port;
        let endpoint = SocketAddr::from((address, port.unwrap_or(0)));
        let begun = self.node.fast_path.begin(slot, endpoint);
        let generation = begun.map_err(|error| {
            self.node.give_back_place(slot);
            format!("beginning slot {slot}: {error}")
        })?;
        self.life = Some(Life {
            slot,
            generation,
            woken: self.node.registry.watch_slot(slot),
            init: None,
            helper: None,
        });
        self.facts.slot = Some(slot);
        self.facts.generation = Some(generation);
        self.facts.ip = Some(IpAddr::V4(address));
        self.facts.port = port;
        Ok(address)
    }

    async fn bring_up(&mut self, address: Ipv4Addr) -> Result<(), BootError> {
        let slot = self.facts.slot.unwrap_or_default();
        let network = &self.node.network;
        network.create_namespace(self.id()).await?;
        let (node, order) = (Arc::clone(&self.node), self.order.clone());
        let prepared = tokio::task::spawn_blocking(move || prepare(&node, &order, address)).await;
        let job = prepared.map_err(io::Error::other)??;
        let dir = self.dir();
        // The namespace is connected while the runtime makes the sandbox in it.
        let (attached, created) = tokio::join!(
            network.attach(self.id(), slot, address),
            self.node.runtime.create(&dir, &job)
        );
        attached?;
        let created = created?;
        self.register(created.init())?;
        let launched = created.go().await?;
        if let Some(life) = &mut self.life {
            life.init = Some(launched.init);
            life.helper = Some(launched.helper);
        }
        Ok(())
    }

    /// Before the command runs: so no exit of it can be missed.
    fn register(&mut self, init: &Process) -> Result<(), BootError> {
        self.facts.pid = Some(init.pid());
        let Some(life) = &self.life else { return Ok(()) };
        let fast_path = &self.node.fast_path;
        fast_path
            .register_init(life.slot, life.generation, init.pid())
            .map_err(BootError::Register)
    }
}

/// Everything the runtime needs, on disk.
fn prepare(node: &Node, order: &StartOrder, address: Ipv4Addr) -> io::Result<Job> {
    let id = order.id.as_str();
    let dir = node.dir(id);
    if !order.app_files.is_dir() {
        return Err(io::Error::other(format!(
            "{} is not a folder",
            order.app_files.display()
        )));
    }
    let shown = bundle::prepare_rootfs(&dir, Path::new("/"), id, IpAddr::V4(address))?;
    let input = SpecInput {
        sandbox: id,
        command: &order.service.command,
        env: &order.env,
        app_files: &order.app_files,
        shown,
        volumes: node.volumes.mounts(&order.app, &order.service.disks),
        namespace: &node.network.namespace(id),
        cgroup: node.cgroups.path(id),
        limits: Limits::of(order.service.resources, node.config.defaults),
        overlay: node.overlay,
    };
    bundle::write_spec(&dir, &input)?;
    let log = node.log(order);
    let limits = node.config.logs;
    if let Some(service) = log.parent() {
        // One place for the log that is about to be made.
        logs::prune(service, limits.sandboxes.saturating_sub(1), &node.registry.ids())?;
    }
    Ok(Job {
        sandbox: order.id.clone(),
        service: order.service_name.clone(),
        log,
        log_bytes: limits.file.0,
        log_files: limits.files,
    })
}

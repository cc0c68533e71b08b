//! Decides the steps from an order to a command that runs, and that every one of them ends in a reason when it fails.

use super::prepare::{Prepared, prepare};
use super::{Life, Sandbox, Stage};
use crate::image::NoImage;
use crate::network::NetworkError;
use crate::process::Process;
use crate::runtime::LaunchError;
use miren_api::resource::SandboxState;
use miren_loader::SlotError;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
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
    #[error("image: {0}")]
    Image(#[from] NoImage),
    #[error("image: it names no command; set services.{service}.command in app.toml")]
    NoCommand { service: String },
    #[error("snapshot: {0}")]
    Snapshot(io::Error),
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
        let Prepared { job, image } = prepared.map_err(io::Error::other)??;
        self.image = image;
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

//! Decides the steps from an order to a command that runs, and that every one of them ends in a reason when it fails.

use super::boot_error::{BootError, Budget, InStep};
use super::prepare::{Prepared, prepare};
use super::{Life, Sandbox, Stage};
use crate::blame::Why;
use crate::bundle::{Pipes, Processes};
use crate::files;
use crate::init::Gate;
use crate::order::StartOrder;
use crate::process::Process;
use crate::runtime::{Launched, not_found};
use crate::streams::{self, Spoken};
use miren_api::app_file::{command_line, shell_syntax};
use miren_api::resource::{NodeFault, SandboxState};
use miren_fault::Point;
use miren_loader::SlotError;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use tokio::task::JoinError;

/// How bringing a command up ended, if not well.
enum Broken {
    /// A step failed.
    Failed(BootError),
    /// Init has exited by itself, which says more.
    Exited,
}

impl From<BootError> for Broken {
    fn from(error: BootError) -> Self {
        Self::Failed(error)
    }
}

impl Sandbox {
    /// Takes a place and, once it is its turn, brings the command up in it.
    pub(super) async fn boot(&mut self) -> Stage {
        let address = match check(&self.order).and_then(|()| self.take_place()) {
            Ok(address) => address,
            Err(error) => {
                self.failed(&error);
                return Stage::Ended;
            }
        };
        self.announce(SandboxState::Pending);
        if let Err(stage) = self.attach_disks().await {
            return stage;
        }
        let node = Arc::clone(&self.node);
        let _turn = tokio::select! {
            // First: one that is not wanted any more never boots.
            biased;
            Some(command) = self.commands.recv() => return self.retire(command),
            turn = node.boots.acquire() => turn,
        };
        match self.bring_up(address).await {
            Ok(()) => Stage::Ready,
            Err(Broken::Exited) => Stage::Ended,
            Err(Broken::Failed(error)) => {
                self.failed(&error);
                Stage::Abort
            }
        }
    }

    /// From here on the sandbox owns a slot and an address, and has a generation.
    fn take_place(&mut self) -> Result<Ipv4Addr, BootError> {
        miren_fault::blocking(Point::CreatePlace).step(BootError::Network)?;
        let (slot, address) = self.node.take_place().step(BootError::Network)?;
        let port = self.order.service.port;
        let endpoint = SocketAddr::from((address, port.unwrap_or(0)));
        let begun = self.node.fast_path.begin(slot, endpoint);
        let generation = begun.map_err(|error| {
            self.node.give_back_place(slot);
            BootError::Network(format!("beginning slot {slot}: {error}").into())
        })?;
        self.life = Some(Life {
            slot,
            generation,
            woken: self.node.registry.watch_slot(slot),
            app: None,
            helper: None,
        });
        self.facts.slot = Some(slot);
        self.facts.generation = Some(generation);
        self.facts.ip = Some(IpAddr::V4(address));
        self.facts.port = port;
        Ok(address)
    }

    async fn bring_up(&mut self, address: Ipv4Addr) -> Result<(), Broken> {
        let budget = Budget::new(self.node.config.boot_timeout);
        let slot = self.facts.slot.unwrap_or_default();
        let node = Arc::clone(&self.node);
        let network = &node.network;
        let namespace = network.create_namespace(self.id());
        budget.within(BootError::Network, namespace).await?;
        let prepared = self.prepare(budget, address).await?;
        let Prepared { job, image, .. } = prepared;
        self.image = image;
        let dir = self.dir();
        // The namespace is connected while the runtime makes the sandbox in it.
        let (attached, created) = tokio::join!(
            budget.within(BootError::Network, network.attach(self.id(), slot, address)),
            budget.within(BootError::Create, self.node.runtime.create(&dir, &job))
        );
        attached?;
        let created = created.map_err(|error| without_shell(&self.order.service.command, error))?;
        self.register(created.init())?;
        if let Some(pipes) = prepared.pipes {
            budget.within(BootError::Start, self.open_streams(pipes)).await?;
        }
        let launched = budget.within(BootError::Start, created.go()).await?;
        self.start_app(budget, launched, prepared.gate, &prepared.command).await
    }

    /// The first process runs, and starts the app: that one is what counts from now on.
    async fn start_app(&mut self, budget: Budget, launched: Launched, gate: Gate, command: &str) -> Result<(), Broken> {
        let Launched { init, helper } = launched;
        let helper_reference = helper.reference();
        let met = budget.within(BootError::Start, gate.meet(&init, command)).await;
        let Some(life) = &mut self.life else { return Ok(()) };
        life.app = Some(init);
        life.helper = Some(helper);
        let Some(waiting) = met? else {
            life.ended(&self.node.fast_path).await;
            return Err(Broken::Exited);
        };
        self.register(waiting.app())?;
        let processes = Processes {
            helper: helper_reference,
            app: waiting.app().reference(),
            has_begun: true,
        };
        let recorded = files::write_json(&self.dir().processes(), &processes);
        recorded.step(BootError::Start)?;
        self.facts.pid = Some(waiting.app().pid());
        let app = match budget.within(BootError::Create, waiting.go()).await {
            Ok(app) => app,
            Err(error) => {
                // It never was a process of the app's own.
                self.facts.pid = None;
                return Err(without_shell(&self.order.service.command, error).into());
            }
        };
        if let Some(life) = &mut self.life {
            life.app = Some(app);
        }
        Ok(())
    }

    /// Before the command runs: nothing of what it writes can be missed.
    async fn open_streams(&self, pipes: Pipes) -> std::io::Result<()> {
        let spoken = Spoken {
            node: &self.node,
            dir: self.dir(),
            exec: None,
            terminal: self.order.attach().and_then(|attach| attach.terminal),
            end_input: self.node.runtime.end_input(&self.dir()),
        };
        let streams = streams::open(pipes, spoken).await?;
        self.node.registry.hand_over(&self.order.id, streams);
        Ok(())
    }

    /// Nobody can call back a thread that the kernel holds: one that is late is left to the clean-up, which begins after its end.
    async fn prepare(&mut self, budget: Budget, address: Ipv4Addr) -> Result<Prepared, BootError> {
        let (node, order) = (Arc::clone(&self.node), self.order.clone());
        let preparing = tokio::task::spawn_blocking(move || prepare(&node, &order, address));
        let preparing = self.preparing.insert(preparing);
        let panicked = |error: JoinError| Why::node(NodeFault::Runtime, error.to_string());
        let ended = async { Ok::<_, Why>(preparing.await) };
        let prepared = budget.within(BootError::Snapshot, ended).await?;
        self.preparing = None;
        prepared.map_err(|error| BootError::Snapshot(panicked(error)))?
    }

    /// Before the command runs: so no exit of it can be missed.
    fn register(&self, process: &Process) -> Result<(), Broken> {
        miren_fault::blocking(Point::CreateRegister).step(BootError::Create)?;
        let Some(life) = &self.life else { return Ok(()) };
        let fast_path = &self.node.fast_path;
        match fast_path.register_init(life.slot, life.generation, process.pid()) {
            Ok(()) => Ok(()),
            Err(SlotError::AlreadyExited { .. }) => Err(Broken::Exited),
            Err(error) => Err(BootError::Create(format!("registering its process: {error}").into()).into()),
        }
    }
}

/// Says of a shell that is not there what it is needed for: the user did not name it.
fn without_shell(command: &str, mut error: BootError) -> BootError {
    if let BootError::Create(why) | BootError::Start(why) = &mut error
        && let Some(syntax) = shell_syntax(command)
        && command_line(command)
            .first()
            .is_some_and(|shell| why.text == not_found(shell))
    {
        why.text += &format!(", which it needs for {syntax}; where there is no shell, a command is plain words");
    }
    error
}

/// What no runtime could carry out, whatever the machine is like.
fn check(order: &StartOrder) -> Result<(), BootError> {
    miren_fault::blocking(Point::CreateConfig).step(BootError::Config)?;
    let command = &order.service.command;
    if order.root.needs_command() && command_line(command).is_empty() {
        return Err(BootError::Config("it has no command".into()));
    }
    if command.contains('\0') {
        return Err(BootError::Config("its command contains a zero byte".into()));
    }
    let unusable =
        |(key, value): &(&String, &String)| key.is_empty() || key.contains(['=', '\0']) || value.contains('\0');
    match order.env.iter().find(unusable) {
        Some((key, _)) => {
            let why = format!("the variable {key:?} cannot be part of an environment");
            Err(BootError::Config(why.into()))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g5_a_shell_that_is_not_there_is_said_to_be_needed_and_what_for() {
        let told = |command: &str, why: &str| without_shell(command, BootError::Create(why.into())).to_string();
        let missing = "command not found: /bin/sh";
        assert_eq!(
            told("serve --port $PORT", missing),
            "create: command not found: /bin/sh, which it needs for `$`; where there is no shell, a command is plain words"
        );
        assert_eq!(
            told("/bin/sh start.sh", missing),
            format!("create: {missing}"),
            "it was named"
        );
        assert_eq!(told("", missing), format!("create: {missing}"), "the image names it");
        assert_eq!(told("a && b", "no memory"), "create: no memory");
    }
}

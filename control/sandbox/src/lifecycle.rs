//! Decides the life of one sandbox generation: one task takes it through its states, announces each, and cleans up.

use crate::bundle::SandboxDir;
use crate::image;
use crate::node::Node;
use crate::order::{Budgets, Facts, SandboxChange, StartOrder};
use crate::process::Process;
use boot_error::BootError;
use futures_util::future::BoxFuture;
use miren_api::resource::{NodeFault, SandboxState};
use miren_fault::Point;
use miren_image::Image;
use miren_loader::{FastPath, State};
use prepare::Prepared;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;

mod boot;
mod boot_error;
pub(crate) mod clean;
mod end;
mod leaving;
mod listening;
mod live;
mod prepare;
mod ready;
mod retire;
mod volume;

pub(crate) use leaving::ACKNOWLEDGED_WITHIN;
pub(crate) use retire::Retirement;

/// How long the exit hook may lag behind the pidfd before control moves the word itself.
const HOOK_LAG: Duration = Duration::from_millis(200);

/// What control asks of a sandbox.
pub(crate) enum Command {
    Drain {
        reason: String,
        budgets: Budgets,
        idle: BoxFuture<'static, ()>,
    },
    Kill {
        reason: String,
    },
}

/// Where the task of a sandbox is.
pub(crate) enum Stage {
    /// Nothing exists yet.
    Boot,
    /// The command runs; waits until it listens.
    Ready,
    /// RUNNING.
    Serve,
    /// DRAINING.
    Drain(Retirement),
    /// STOPPING, with SIGTERM and so long first; none: SIGKILL at once.
    Stop { grace: Option<Duration> },
    /// It failed to boot: whatever exists of it is killed.
    Abort,
    /// Its process is gone.
    Ended,
}

/// A generation of a slot, and the processes that belong to it.
pub(crate) struct Life {
    pub(crate) slot: u32,
    pub(crate) generation: u64,
    pub(crate) woken: Arc<Notify>,
    /// The first process of the sandbox until that has started the app.
    pub(crate) app: Option<Process>,
    pub(crate) helper: Option<Process>,
}

impl Life {
    /// The state of this generation; DEAD if the slot has gone on to another one.
    fn state(&self, fast_path: &FastPath) -> State {
        let view = fast_path.slot(self.slot);
        if view.generation == self.generation {
            view.state
        } else {
            State::Dead
        }
    }

    fn has_ended(&self, fast_path: &FastPath) -> bool {
        self.state(fast_path).is_ended()
    }

    /// Resolves when the word says that this generation has ended.
    async fn ended(&self, fast_path: &FastPath) {
        while !self.has_ended(fast_path) {
            let Some(app) = &self.app else {
                self.woken.notified().await;
                continue;
            };
            tokio::select! {
                () = self.woken.notified() => {}
                gone = app.exited() => match gone {
                    Ok(()) => self.settle(fast_path).await,
                    Err(error) => {
                        tracing::error!(pid = app.pid(), %error, "cannot watch a process; only the fast path tells of its end");
                        self.woken.notified().await;
                    }
                }
            }
        }
    }

    /// The app is gone. The exit hook has said so already, or lags a little, or lost it: then the word is moved here.
    async fn settle(&self, fast_path: &FastPath) {
        let hook = async {
            while !self.has_ended(fast_path) {
                self.woken.notified().await;
            }
        };
        if tokio::time::timeout(HOOK_LAG, hook).await.is_err() {
            self.end_word(fast_path);
        }
    }

    /// Moves the word to where an exit takes it.
    fn end_word(&self, fast_path: &FastPath) {
        if let Some(end) = self.state(fast_path).on_exit() {
            // Refused if the hook was faster after all.
            let _ = fast_path.advance(self.slot, self.generation, end);
        }
    }
}

/// One sandbox, from its order to the end of its clean-up.
pub(crate) struct Sandbox {
    node: Arc<Node>,
    order: StartOrder,
    commands: mpsc::UnboundedReceiver<Command>,
    facts: Facts,
    /// The last state that was announced.
    state: SandboxState,
    /// An earlier daemon started it.
    is_adopted: bool,
    life: Option<Life>,
    /// Kept on this machine until its clean-up is over.
    image: Option<Image>,
    /// Its files, as long as they are being made.
    preparing: Option<JoinHandle<Result<Prepared, BootError>>>,
    /// Why it ends, if that is known before it has ended. The first reason wins.
    why: Option<String>,
    /// It could not be started, and that is the node's fault.
    node_fault: Option<NodeFault>,
}

impl Sandbox {
    pub(crate) fn new(node: Arc<Node>, order: StartOrder, commands: mpsc::UnboundedReceiver<Command>) -> Self {
        Self {
            node,
            order,
            commands,
            facts: Facts::default(),
            state: SandboxState::Pending,
            is_adopted: false,
            life: None,
            image: None,
            preparing: None,
            why: None,
            node_fault: None,
        }
    }

    /// One that an earlier daemon started.
    pub(crate) fn adopted(self, facts: Facts, state: SandboxState, life: Option<Life>) -> Self {
        let image = image::of_running(&self.node, &self.order);
        Self {
            facts,
            state,
            is_adopted: true,
            life,
            image,
            ..self
        }
    }

    pub(crate) fn order(&self) -> &StartOrder {
        &self.order
    }

    /// Where it is, as an announcement.
    pub(crate) fn present(&self) -> SandboxChange {
        self.change(self.state, None)
    }

    /// Moves the word of one whose process is gone to where the exit takes it.
    pub(crate) fn end_word(&self) {
        if let Some(life) = &self.life {
            life.end_word(&self.node.fast_path);
        }
    }

    /// Its whole life.
    pub(crate) async fn run(self) {
        self.run_from(Stage::Boot).await;
    }

    /// The rest of its life.
    pub(crate) async fn run_from(mut self, mut stage: Stage) {
        loop {
            stage = match stage {
                Stage::Boot => self.boot().await,
                Stage::Ready => self.become_ready().await,
                Stage::Serve => self.serve().await,
                Stage::Drain(retirement) => self.drain(retirement).await,
                Stage::Stop { grace } => self.stop(grace).await,
                Stage::Abort => self.abort().await,
                Stage::Ended => break,
            };
        }
        let ended = Instant::now();
        let change = self.end().await;
        miren_fault::pass(Point::StopTold);
        self.node.announce(change);
        self.clean_up(ended).await;
    }

    /// Moves the word down and announces it, unless the sandbox has ended meanwhile.
    fn advance(&mut self, to: State, state: SandboxState) -> Result<(), Stage> {
        let Some(life) = &self.life else {
            return Err(Stage::Ended);
        };
        if let Err(error) = self.node.fast_path.advance(life.slot, life.generation, to) {
            tracing::debug!(sandbox = %self.order.id, %error, "the slot did not become {to}");
            return Err(Stage::Ended);
        }
        match state {
            SandboxState::Running => miren_fault::pass(Point::CreateRunning),
            SandboxState::Draining => miren_fault::pass(Point::StopDraining),
            _ => miren_fault::pass(Point::StopStopping),
        }
        self.announce(state);
        Ok(())
    }

    /// It failed to boot; says so when it ends.
    fn failed(&mut self, error: &BootError) {
        self.why = Some(error.to_string());
        self.node_fault = error.node_fault();
        self.node.registry.forget_streams(&self.order.id);
    }

    fn announce(&mut self, state: SandboxState) {
        self.state = state;
        let change = self.change(state, self.why.clone());
        tracing::info!(sandbox = %change.id, app = %self.order.app, state = state.as_str(), reason = change.reason, "sandbox");
        self.node.announce(change);
    }

    fn change(&self, state: SandboxState, reason: Option<String>) -> SandboxChange {
        SandboxChange {
            id: self.order.id.clone(),
            state,
            reason,
            node_fault: self.node_fault.filter(|_| state.is_terminal()),
            facts: self.facts.clone(),
        }
    }

    /// Where it listens, if its service has a port and it has an address.
    fn endpoint(&self) -> Option<SocketAddr> {
        self.facts.ip.zip(self.facts.port).map(SocketAddr::from)
    }

    fn id(&self) -> &str {
        self.order.id.as_str()
    }

    fn dir(&self) -> SandboxDir {
        self.node.dir(self.id())
    }
}

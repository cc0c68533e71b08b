//! Decides how the rest of control talks to one app: commands in, a picture out; its task does the rest, alone.

use crate::clock::Clock;
use crate::executor::Executor;
use crate::images::{Fetched, Fetcher};
use crate::lease::Desk;
use crate::metrics::Metrics;
use crate::output::Outputs;
use crate::policy::Policy;
use crate::routing::Routing;
use crate::store::Store;
use miren_api::deploy::{Deploy, DeployRequest};
use miren_api::ephemeral::{Ephemeral, EphemeralDeployed};
use miren_api::id::{AppName, DeployId, Label, PoolId, SandboxId, VersionId};
use miren_api::resource::{App, Sandbox};
use miren_api::routing::SandboxHint;
use miren_api::{ApiError, Identity};
use miren_sandbox::SandboxChange;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{broadcast, mpsc, oneshot, watch};

pub mod crash;
pub mod deploy;
pub mod pool;
pub mod preview;
pub mod retention;
pub mod spec;
pub mod stamps;
pub mod state;
mod task;
pub mod turn;
pub mod variables;
pub mod view;

pub use task::{PreviewOrder, Task};
pub use view::AppView;

/// Everything an app's task needs of the world.
pub struct World {
    pub store: Arc<dyn Store>,
    pub executor: Arc<dyn Executor>,
    pub routing: Routing,
    pub desk: Desk,
    pub clock: Clock,
    pub metrics: Metrics,
    /// Told to proxies; lossy, so never the only way to learn something.
    pub hints: broadcast::Sender<Hint>,
    /// Which app a sandbox's news are for.
    pub owners: Owners,
    pub artifacts: PathBuf,
    pub images: Fetcher,
    pub outputs: Outputs,
    pub node: String,
    pub policy: Policy,
}

impl World {
    /// What a proxy has to know before it believes a number.
    pub fn identity(&self) -> Identity {
        Identity {
            slot_table: self.executor.slot_table(),
            lineage: self.routing.now().lineage.to_string(),
            epoch: self.store.epoch(),
        }
    }
}

/// Which app each living sandbox belongs to.
pub type Owners = Arc<Mutex<HashMap<SandboxId, AppName>>>;

/// Something a proxy may want to look at again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hint {
    Pool(PoolId),
    Sandbox(SandboxHint),
}

/// What somebody wants of an app.
pub enum Command {
    Deploy {
        request: DeployRequest,
        /// The same key means the same deploy.
        key: Option<String>,
        reply: oneshot::Sender<Result<Deploy, ApiError>>,
    },
    /// End a deploy that has not switched traffic.
    Cancel {
        id: DeployId,
        reply: oneshot::Sender<Result<Deploy, ApiError>>,
    },
    /// Make a version that is reached under a label.
    Preview {
        order: Box<PreviewOrder>,
        reply: oneshot::Sender<Result<EphemeralDeployed, ApiError>>,
    },
    /// Give a preview more time, from now on.
    Extend {
        label: Label,
        ttl: Duration,
        reply: oneshot::Sender<Result<Ephemeral, ApiError>>,
    },
    /// End a preview.
    Unlabel {
        label: Label,
        reply: oneshot::Sender<Result<Ephemeral, ApiError>>,
    },
    /// The first request for a service of a preview has come: make its pool.
    Open {
        version: VersionId,
        service: String,
        reply: oneshot::Sender<Result<(), ApiError>>,
    },
    /// Drain one sandbox; its pool replaces it.
    StopSandbox {
        id: SandboxId,
        reply: oneshot::Sender<Result<Sandbox, ApiError>>,
    },
    Delete {
        keep_disks: bool,
        reply: oneshot::Sender<Result<App, ApiError>>,
    },
    /// Drain every sandbox and start none: the node stops. No drain takes longer than this.
    StopAll {
        at_most: Duration,
        reply: oneshot::Sender<()>,
    },
    /// Demand of a pool has changed.
    Replan,
    /// Look whether anything is over, and remove the versions that are not kept.
    Collect,
    /// Finish the current step and end.
    Close,
}

/// What an app's task is told without asking.
#[derive(Clone, Debug)]
pub enum Event {
    /// What became of its sandboxes while control was away. The first thing a task waits for; whoever waits for all tasks to
    /// have taken it over is told by the drop of the sender.
    Adopted(Vec<SandboxChange>, Option<mpsc::Sender<()>>),
    Sandbox(SandboxChange),
    /// Every live proxy serves the snapshot of this deploy.
    Acknowledged(u64),
    /// Every live proxy knows that no label leads to this version.
    Unrouted(VersionId),
    /// The images of a deploy or a preview, or why there are none.
    Fetched {
        seq: u64,
        result: Result<Fetched, String>,
    },
}

/// The way to an app's task. Cheap to clone.
#[derive(Clone)]
pub struct AppHandle {
    pub commands: mpsc::Sender<Command>,
    pub events: mpsc::UnboundedSender<Event>,
    pub view: watch::Receiver<Arc<AppView>>,
}

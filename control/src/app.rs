//! Decides how the rest of control talks to one app: commands in, a picture out; its task does the rest, alone.

use crate::clock::Clock;
use crate::drain::Admission;
use crate::executor::Executor;
use crate::fatal::Fatal;
use crate::images::{Fetched, Fetcher, NotFetched};
use crate::lease::Desk;
use crate::metrics::Metrics;
use crate::node_faults::NodeFaults;
use crate::nodes::Nodes;
use crate::output::Outputs;
use crate::policy::Policy;
use crate::routing::Routing;
use crate::store::Store;
use miren_api::id::{AppName, PoolId, SandboxId, VersionId};
use miren_api::routing::SandboxHint;
use miren_sandbox::{Budgets, SandboxChange};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::{Semaphore, broadcast, mpsc, watch};

mod command;
pub mod crash;
pub mod deploy;
pub mod keys;
pub mod pool;
pub mod preview;
pub mod retention;
pub mod run;
pub mod spec;
pub mod stamps;
pub mod state;
mod task;
pub mod turn;
pub mod variables;
pub mod view;

pub use command::{Begun, Command, DeployOrder};
pub use task::{CLIENT_GONE, PreviewOrder, Task, Unserved};
pub use view::AppView;

/// Everything there is around the apps. Each of its users takes what it needs when it is made.
pub struct World {
    pub store: Arc<dyn Store>,
    pub fatal: Fatal,
    pub executor: Arc<dyn Executor>,
    pub routing: Routing,
    pub desk: Desk,
    pub clock: Clock,
    pub metrics: Metrics,
    pub node_faults: Arc<NodeFaults>,
    /// Told to proxies; lossy, so never the only way to learn something.
    pub hints: broadcast::Sender<Hint>,
    /// Which app a sandbox's news are for.
    pub owners: Owners,
    pub artifacts: PathBuf,
    pub images: Arc<Fetcher>,
    pub outputs: Arc<Outputs>,
    pub node: String,
    pub nodes: Nodes,
    pub admission: Admission,
    pub policy: Policy,
    /// A place for each run of the node, besides those of deploys.
    pub runs: Arc<Semaphore>,
}

/// Which app each living sandbox belongs to.
pub type Owners = Arc<Mutex<HashMap<SandboxId, AppName>>>;

/// Something a proxy may want to look at again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hint {
    Pool(PoolId),
    Sandbox(SandboxHint),
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
        result: Result<Fetched, NotFetched>,
    },
    /// What a sandbox wrote last because of which a deploy fails.
    LastWords {
        seq: u64,
        lines: Vec<String>,
    },
    /// All that a release command wrote has been passed on.
    Told(SandboxId),
    /// No route leads to the app any more, and every live proxy knows.
    Withdrawn,
    /// What was built of the app and its disks are gone.
    Cleared,
    /// The node drains and starts no sandbox any more: nothing is planned until it takes work again. No drain takes longer than
    /// this.
    NodeDrains(Budgets),
    /// What was let in before the node drained, and has not switched traffic, is given up.
    CalledOff,
    /// The node takes work again.
    NodeOpens,
    /// This sandbox drains, for the given reason.
    Drain(SandboxId, &'static str),
}

/// The way to an app's task. Cheap to clone.
#[derive(Clone)]
pub struct AppHandle {
    pub commands: mpsc::Sender<Command>,
    pub events: mpsc::UnboundedSender<Event>,
    pub view: watch::Receiver<Arc<AppView>>,
}

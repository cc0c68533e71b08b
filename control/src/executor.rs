//! Decides what control needs of whatever runs sandboxes: the seam behind which tests put a simulated one.

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use miren_api::id::SandboxId;
use miren_api::lease::LeaseKey;
use miren_api::resource::{FastPathStatus, LogLine};
use miren_loader::Transition;
use miren_sandbox::logs::{Dropped, LogQuery};
use miren_sandbox::{Attach, Budgets, Exec, ExecError, Left, Outlet, RulesStatus, SandboxChange, StartOrder, Streams};
use tokio::sync::{broadcast, oneshot};

mod disks;
mod node;

pub use disks::Disks;
pub use node::{Node, OpenError};

/// Names an uploaded folder by the digest of what is in it: each node knows where it has that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArtifactDigest(pub String);

/// One sandbox to be started, in words that mean the same on every node.
pub type Order = StartOrder<ArtifactDigest>;
/// A sandbox that is believed to exist, in the same words.
pub type Known = miren_sandbox::Known<ArtifactDigest>;

/// Runs sandboxes and tells what becomes of them on the channel it was made with.
#[async_trait]
pub trait Executor: Send + Sync + 'static {
    /// Takes over what an earlier process left; says what ended meanwhile, removes what is not known. Once, first.
    async fn adopt(&self, known: Vec<Known>) -> Vec<SandboxChange>;

    /// Starts a sandbox; returns at once.
    fn start(&self, order: Order);

    /// No new requests; stopped when `idle` resolves, or when its budgets are over. Asked again, it may only end sooner.
    fn drain(&self, id: &SandboxId, reason: &str, budgets: Budgets, idle: BoxFuture<'static, ()>);

    /// Ends a sandbox at once.
    fn kill(&self, id: &SandboxId, reason: &str);

    /// What the word of one of its own slots says now, whatever the node of the key.
    fn is_running(&self, key: LeaseKey) -> bool;

    /// Which slot table the words are in: no other one is ever called the same.
    fn slot_table(&self) -> String;

    /// Every change of a word from now on: hints.
    fn transitions(&self) -> broadcast::Receiver<Transition>;

    /// The latest change of every slot in use.
    fn slots(&self) -> Vec<Transition>;

    fn fast_path(&self) -> FastPathStatus;

    /// Runs a further command in a sandbox.
    async fn exec(&self, id: &SandboxId, command: Vec<String>, attach: Attach) -> Result<Exec, ExecError>;

    /// What the command of a sandbox will be spoken with through whose order says so. Asked before it is started.
    fn attach(&self, id: &SandboxId) -> oneshot::Receiver<Streams>;

    /// Lines that sandboxes wrote, oldest first.
    fn logs(&self, query: LogQuery) -> BoxStream<'static, std::io::Result<LogLine>>;

    /// Lines that are in no log, because they came faster than a sandbox may write.
    fn dropped_lines(&self) -> Dropped {
        Dropped::default()
    }

    /// A network and a cgroup for something that is no sandbox. None: it has no need of one.
    ///
    /// # Errors
    /// Why there is none.
    async fn outlet(&self) -> Result<Option<Outlet>, String>;

    /// Whether the rules of the network hold. One that makes no network has none that could fail.
    fn network_rules(&self) -> RulesStatus {
        RulesStatus {
            applied: true,
            restored: 0,
        }
    }

    /// The disks of the node.
    fn disks(&self) -> &dyn Disks;

    /// Resolves when no sandbox is left, clean-ups included; addresses may rest still.
    async fn drained(&self);

    /// What there is of sandboxes, living and ended ones, and of what they had of the machine: empty when nothing is.
    async fn left(&self) -> Vec<Left>;

    /// Tries clean-ups again now that have failed and wait for their next try.
    fn hurry(&self);
}

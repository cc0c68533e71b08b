//! Decides where hosts lead: one task owns the routes and which version serves each app, and numbers every change of them.

use crate::ledger::{Ledger, LoadError};
use crate::record::{ActiveRecord, RouteRecord, SnapshotRecord};
use crate::store::{Key, Kind, Selection, Store, StoreError};
use miren_api::id::{AppName, VersionId};
use miren_api::resource::Route;
use miren_api::routing::{RoutingDelta, RoutingSnapshot};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot, watch};

mod table;

pub use table::{DEFAULT_HOST, Table};

/// Changes waiting for the task; more make their senders wait.
const QUEUE: usize = 64;

/// Why routing was not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RoutingError {
    #[error("deploy {installed} of the same app was installed first")]
    Superseded { installed: u64 },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("routing has stopped")]
    Stopped,
}

/// One change of routing.
#[derive(Clone, Debug)]
pub enum Change {
    SetRoute(Route),
    RemoveRoute(String),
    /// The version takes the app's traffic, unless a deploy with a higher number already has.
    Install(ActiveRecord),
    RemoveApp(AppName),
}

/// What is routed at one generation. Cheap to clone, and cheap to keep.
#[derive(Clone, Debug, Default)]
pub struct Routed {
    pub generation: u64,
    pub table: Table,
}

impl Routed {
    /// Number of the deploy that serves `app`; 0 when none does.
    pub fn installed(&self, app: &AppName) -> u64 {
        self.table.active(app).map_or(0, |active| active.seq)
    }

    pub fn active(&self, app: &AppName) -> Option<&VersionId> {
        Some(&self.table.active(app)?.version)
    }

    pub fn snapshot(&self) -> RoutingSnapshot {
        self.table.snapshot(self.generation)
    }

    /// What turns the snapshot of `before` into this one's, however many changes lie between them.
    pub fn since(&self, before: &Self) -> RoutingDelta {
        RoutingDelta {
            from: before.generation,
            generation: self.generation,
            ..self.table.delta(&before.table).unwrap_or_default()
        }
    }
}

type Submitted = (Change, oneshot::Sender<Result<u64, RoutingError>>);

/// The way to routing's task. Cheap to clone.
#[derive(Clone)]
pub struct Routing {
    changes: mpsc::Sender<Submitted>,
    routed: watch::Receiver<Routed>,
}

impl Routing {
    /// Loads what was routed last and starts the task.
    pub async fn start(store: Arc<dyn Store>) -> Result<Self, LoadError> {
        let mut ledger = Ledger::new(store);
        let table = Table::new(
            ledger.load::<RouteRecord>(Selection::All).await?,
            ledger.load::<ActiveRecord>(Selection::All).await?,
        );
        let last: Vec<SnapshotRecord> = ledger.load(Selection::All).await?;
        let generation = last.first().map_or(1, |last| last.generation);
        let routed = watch::Sender::new(Routed { generation, table });
        let (changes, queue) = mpsc::channel(QUEUE);
        let routing = Self {
            changes,
            routed: routed.subscribe(),
        };
        tokio::spawn(serve(ledger, routed, queue));
        Ok(routing)
    }

    /// Makes one change and returns the generation that has it: committed and published.
    pub async fn submit(&self, change: Change) -> Result<u64, RoutingError> {
        let (reply, answer) = oneshot::channel();
        self.changes
            .send((change, reply))
            .await
            .map_err(|_| RoutingError::Stopped)?;
        answer.await.map_err(|_| RoutingError::Stopped)?
    }

    pub fn now(&self) -> Routed {
        self.routed.borrow().clone()
    }

    /// Always has the newest; a slow reader misses those between.
    pub fn follow(&self) -> watch::Receiver<Routed> {
        self.routed.clone()
    }
}

async fn serve(mut ledger: Ledger, routed: watch::Sender<Routed>, mut queue: mpsc::Receiver<Submitted>) {
    while let Some((change, reply)) = queue.recv().await {
        let before = routed.borrow().clone();
        let outcome = apply(&mut ledger, &before, change).await;
        if outcome.is_err() {
            ledger.discard();
        }
        let answer = outcome.map(|after| {
            let generation = after.generation;
            routed.send_if_modified(|now| {
                let is_new = generation != now.generation;
                *now = after;
                is_new
            });
            generation
        });
        let _ = reply.send(answer);
    }
}

async fn apply(ledger: &mut Ledger, before: &Routed, change: Change) -> Result<Routed, RoutingError> {
    let mut table = before.table.clone();
    match change {
        Change::SetRoute(route) => {
            ledger.put(&RouteRecord(route.clone()));
            table.set(route);
        }
        Change::RemoveRoute(host) => {
            ledger.delete(Key::new(Kind::Route, &host));
            table.remove(&host);
        }
        Change::Install(active) => {
            let installed = before.installed(&active.app);
            if installed > active.seq {
                return Err(RoutingError::Superseded { installed });
            }
            ledger.put(&active);
            table.install(active);
        }
        Change::RemoveApp(app) => {
            for host in table.remove_app(&app) {
                ledger.delete(Key::new(Kind::Route, host));
            }
            ledger.delete(Key::new(Kind::Active, app.as_str()));
        }
    }
    let mut generation = before.generation;
    if table.delta(&before.table).is_some() {
        generation += 1;
        ledger.put(&SnapshotRecord { generation });
    }
    ledger.flush().await?;
    Ok(Routed { generation, table })
}

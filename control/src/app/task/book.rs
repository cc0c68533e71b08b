//! Decides how what is known of one app is kept together: its records, how they are written down, and the picture that others see.

use super::held::Held;
use crate::app::World;
use crate::app::spec::Spec;
use crate::app::stamps::Stamps;
use crate::app::state::AppState;
use crate::app::view::AppView;
use crate::clock::Clock;
use crate::drain::{Admission, Start};
use crate::fatal::Fatal;
use crate::ledger::{Ledger, somebody_else_wrote};
use crate::metrics::Metrics;
use crate::node_faults::NodeFaults;
use crate::record::{PoolRecord, Reference, RunRecord, SandboxRecord};
use crate::store::StoreError;
use jiff::{SignedDuration, Timestamp};
use miren_api::id::{AppName, Label, NodeId, PoolId, SandboxId, VersionId};
use miren_api::resource::SandboxState;
use miren_gate::Permit;
use miren_sandbox::Budgets;
use std::sync::Arc;
use tokio::sync::watch;

/// The records of an app in memory and on their way to the store. Its task is the only one that has it.
pub(super) struct Book {
    pub state: AppState,
    pub ledger: Ledger,
    /// Whether the store has the app.
    pub exists: bool,
    /// The node drains, and nothing is planned: no drain takes longer than this.
    pub stopping: Option<Budgets>,
    pub faults: Arc<NodeFaults>,
    /// What the node lets in, and what of it this app holds.
    pub admission: Admission,
    pub held: Held,
    /// Runs that are to be started once they are saved.
    pub begun: Vec<SandboxId>,
    pub metrics: Metrics,
    pub clock: Clock,
    /// How far it believes the wall clock to be ahead: what all times in its records are told by.
    pub offset: SignedDuration,
    fatal: Fatal,
    node: String,
    view: watch::Sender<Arc<AppView>>,
}

impl Book {
    /// Of an app with the records it was found with; and where its pictures are seen.
    pub fn new(
        world: &World,
        mut state: AppState,
        ledger: Ledger,
        exists: bool,
    ) -> (Self, watch::Receiver<Arc<AppView>>) {
        let offset = world.clock.reading().offset;
        let now = world.clock.told(offset);
        let first = AppView::of(&mut state, exists, (&world.node, &world.node_faults), now);
        let (view, seen) = watch::channel(Arc::new(first));
        let held = Held::resume(&world.admission, &state);
        let book = Self {
            state,
            ledger,
            exists,
            stopping: None,
            faults: Arc::clone(&world.node_faults),
            admission: world.admission.clone(),
            held,
            begun: Vec::new(),
            metrics: world.metrics.clone(),
            clock: world.clock.clone(),
            offset,
            fatal: world.fatal.clone(),
            node: world.node.clone(),
            view,
        };
        (book, seen)
    }

    pub fn name(&self) -> &AppName {
        &self.state.app.name
    }

    /// What all times in its records are told by: no step of the wall clock comes between two of them.
    pub fn now(&self) -> Timestamp {
        self.clock.told(self.offset)
    }

    /// The wall clock was set: what was measured goes on from where it is. By how much that is.
    pub fn tell_times_by(&mut self, offset: SignedDuration) -> SignedDuration {
        let by = offset - self.offset;
        self.offset = offset;
        self.state.shift(by);
        by
    }

    /// Saves everything noted. False: it failed, was reported, and is kept for the next time.
    pub async fn commit(&mut self) -> bool {
        match self.save().await {
            Ok(()) => true,
            Err(error) => {
                self.metrics.store_errors.inc();
                tracing::error!(app = %self.name(), %error, "saving records failed; trying again");
                false
            }
        }
    }

    /// Saves everything noted. A record of the app that somebody else has written ends the process: what its task knows is not
    /// what is stored.
    pub async fn save(&mut self) -> Result<(), StoreError> {
        let saved = self.ledger.flush().await;
        if let Err(StoreError::Conflict { key }) = &saved {
            self.fatal.end(somebody_else_wrote(key));
        }
        saved
    }

    /// Shows others how the app is now.
    pub fn publish(&mut self) {
        let now = self.now();
        let next = AppView::of(&mut self.state, self.exists, (&self.node, &self.faults), now);
        let is_new = self.view.send_if_modified(|view| {
            let is_other = **view != next;
            if is_other {
                *view = Arc::new(next);
            }
            is_other
        });
        if is_new {
            // After it can be seen.
            self.admission.app_changed();
        }
    }

    /// The picture that others see.
    pub fn shown(&self) -> Arc<AppView> {
        self.view.borrow().clone()
    }

    /// Finds the pool with this spec, or makes it, and adds the version's claim to it. A reused one starts fresh.
    pub fn claim(&mut self, name: &str, spec: Spec, claim: Reference, label: Option<&Label>) -> (PoolId, bool) {
        let found = self.state.pool_with(name, &spec.hash(name), label).cloned();
        match found {
            Some(pool) => (self.add_claim(pool, claim), true),
            None => (self.claim_new(name, spec, claim, label), false),
        }
    }

    /// Makes a pool with this spec, whether there is one or not, with the version's claim to it.
    pub fn claim_new(&mut self, name: &str, spec: Spec, claim: Reference, label: Option<&Label>) -> PoolId {
        let pool = PoolRecord {
            id: PoolId::generate(),
            app: self.name().clone(),
            service: name.to_owned(),
            spec_hash: spec.hash(name),
            spec: spec.service,
            artifact: spec.artifact,
            image: spec.image,
            label: label.cloned(),
            references: Vec::new(),
            created_at: self.now(),
            desired: 0,
            low_since: None,
            crash: Default::default(),
        };
        self.add_claim(pool, claim)
    }

    fn add_claim(&mut self, mut pool: PoolRecord, claim: Reference) -> PoolId {
        pool.references.push(claim);
        pool.crash = Default::default();
        self.ledger.put(&pool);
        let id = pool.id.clone();
        self.state.pools.insert(id.clone(), pool);
        id
    }

    /// Notes a run and its sandbox, which is started once both are saved.
    pub fn begin_run(&mut self, run: RunRecord, node: NodeId, permit: Permit<Start>) {
        let sandbox = SandboxRecord::of_run(&run, node);
        let id = run.id.clone();
        self.ledger.put(&run);
        self.ledger.put(&sandbox);
        self.state.runs.insert(id.clone(), run);
        self.state.insert(sandbox);
        self.held.starts(id.clone(), permit);
        self.begun.push(id);
    }

    /// Notes that a run is to end. The first reason stays.
    pub fn end_run(&mut self, id: &SandboxId, why: &str) {
        let run = self.state.runs.get_mut(id);
        if let Some(run) = run.filter(|run| !run.is_over() && run.unwanted.is_none()) {
            run.unwanted = Some(why.to_owned());
            self.ledger.put(&*run);
        }
    }

    /// Takes away the claims of every version that `drop` picks by its id and number; how many pools that changes.
    pub fn drop_references(&mut self, drop: impl Fn(&VersionId, u64) -> bool) -> usize {
        let changed = self.state.drop_references(drop);
        for pool in changed.iter().filter_map(|id| self.state.pools.get(id)) {
            self.ledger.put(pool);
        }
        changed.len()
    }

    /// The sandbox of `pool` that failed to boot since it was asked for.
    pub fn boot_failure(&self, since: Option<Timestamp>, pool: &PoolRecord) -> Option<&SandboxRecord> {
        let since = since?;
        self.state.members(&pool.id).find(|sandbox| {
            let never_ran = sandbox.state == SandboxState::Dead && sandbox.running_at.is_none();
            never_ran && !sandbox.unseen && sandbox.node_fault.is_none() && sandbox.ended_at >= Some(since)
        })
    }

    /// Whether somebody waits for the node to be able to start a sandbox of a pool, and what it says.
    pub fn node_fault(&self, pool: &PoolId) -> Option<String> {
        self.faults.of(pool).map(|met| met.told())
    }
}

//! Decides what one app's task knows: its records in memory, its sandboxes found by their pool through an index.

use crate::app::keys::Keys;
use crate::app::view::ShownSandboxes;
use crate::record::{AppRecord, DeployRecord, PoolRecord, RunRecord, SandboxRecord, VersionRecord};
use miren_api::id::{Label, PoolId, SandboxId, VersionId};
use miren_api::resource::SandboxState;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// The live part of one app. Finished deploys and versions are only in the store.
#[derive(Clone, Debug)]
pub struct AppState {
    pub app: AppRecord,
    pub pools: BTreeMap<PoolId, PoolRecord>,
    /// Deploys that have not ended, by number.
    pub deploys: BTreeMap<u64, DeployRecord>,
    /// Versions that were made to be reached under a label. They are here until nothing is left of them.
    pub previews: BTreeMap<VersionId, VersionRecord>,
    pub keys: Keys,
    /// Commands that run once, those that have ended and are kept included.
    pub runs: BTreeMap<SandboxId, RunRecord>,
    sandboxes: BTreeMap<SandboxId, SandboxRecord>,
    by_pool: HashMap<PoolId, BTreeSet<SandboxId>>,
    shown: Arc<ShownSandboxes>,
    /// Those that are another than they are shown.
    changed: BTreeSet<SandboxId>,
}

impl AppState {
    pub fn new(app: AppRecord) -> Self {
        Self {
            app,
            pools: BTreeMap::new(),
            deploys: BTreeMap::new(),
            previews: BTreeMap::new(),
            keys: Keys::default(),
            runs: BTreeMap::new(),
            sandboxes: BTreeMap::new(),
            by_pool: HashMap::new(),
            shown: Arc::default(),
            changed: BTreeSet::new(),
        }
    }

    pub fn insert(&mut self, sandbox: SandboxRecord) {
        let of_pool = self.by_pool.entry(sandbox.pool.clone()).or_default();
        of_pool.insert(sandbox.id.clone());
        self.changed.insert(sandbox.id.clone());
        self.sandboxes.insert(sandbox.id.clone(), sandbox);
    }

    pub fn remove(&mut self, id: &SandboxId) -> Option<SandboxRecord> {
        let sandbox = self.sandboxes.remove(id)?;
        self.changed.insert(id.clone());
        if let Some(of_pool) = self.by_pool.get_mut(&sandbox.pool) {
            of_pool.remove(id);
            if of_pool.is_empty() {
                self.by_pool.remove(&sandbox.pool);
            }
        }
        Some(sandbox)
    }

    pub fn sandbox(&self, id: &SandboxId) -> Option<&SandboxRecord> {
        self.sandboxes.get(id)
    }

    pub fn sandbox_mut(&mut self, id: &SandboxId) -> Option<&mut SandboxRecord> {
        let sandbox = self.sandboxes.get_mut(id)?;
        self.changed.insert(id.clone());
        Some(sandbox)
    }

    pub fn sandboxes_mut(&mut self) -> impl Iterator<Item = &mut SandboxRecord> {
        self.changed.extend(self.sandboxes.keys().cloned());
        self.sandboxes.values_mut()
    }

    pub fn sandboxes(&self) -> impl Iterator<Item = &SandboxRecord> {
        self.sandboxes.values()
    }

    /// The sandboxes of a pool, ended ones included.
    pub fn members(&self, pool: &PoolId) -> impl Iterator<Item = &SandboxRecord> {
        let ids = self.by_pool.get(pool).into_iter().flatten();
        ids.filter_map(|id| self.sandboxes.get(id))
    }

    /// All of them as others see them on `node`. Only those that have changed are looked at.
    pub fn shown(&mut self, node: &str) -> Arc<ShownSandboxes> {
        let changed = std::mem::take(&mut self.changed);
        if !changed.is_empty() {
            let shown = Arc::make_mut(&mut self.shown);
            for id in changed {
                shown.set(&id, self.sandboxes.get(&id).map(|record| record.shown(node)));
            }
        }
        Arc::clone(&self.shown)
    }

    /// How many sandboxes of a pool are RUNNING.
    pub fn ready(&self, pool: &PoolId) -> u32 {
        let running = |sandbox: &&SandboxRecord| sandbox.state == SandboxState::Running;
        let running = self.members(pool).filter(running);
        u32::try_from(running.count()).unwrap_or(u32::MAX)
    }

    /// Runs that have not ended.
    pub fn living_runs(&self) -> impl Iterator<Item = &RunRecord> {
        self.runs.values().filter(|run| !run.is_over())
    }

    /// Whether a process of this app may still exist.
    pub fn is_live(&self) -> bool {
        self.sandboxes.values().any(|sandbox| !sandbox.state.is_terminal())
    }

    /// The pool that runs `service` of `version`: of two, while a restart is under way, the one that did before.
    pub fn pool_of(&self, version: &VersionId, service: &str) -> Option<&PoolRecord> {
        let of_service = self.pools.values().filter(|pool| pool.service == service);
        let claimed = of_service.filter_map(|pool| Some((pool.claimed_by(version)?, pool)));
        claimed.min_by_key(|(seq, _)| *seq).map(|(_, pool)| pool)
    }

    /// The pool with this spec, if there is one: among those of the preview with this label, or of the versions without one. Of
    /// several the one that was wanted last: the others go.
    pub fn pool_with(&self, service: &str, spec_hash: &str, label: Option<&Label>) -> Option<&PoolRecord> {
        let same =
            |pool: &&PoolRecord| pool.service == service && pool.spec_hash == spec_hash && pool.label.as_ref() == label;
        let pools = self.pools.values().filter(same);
        pools.max_by_key(|pool| pool.newest().map(|claim| claim.seq))
    }

    /// Whether a version has a claim on any pool.
    pub fn has_references(&self, version: &VersionId) -> bool {
        let mut claims = self.pools.values().flat_map(|pool| &pool.references);
        claims.any(|reference| reference.version == *version)
    }

    /// Takes away the claims of every version that `drop` picks by its id and number; returns the pools changed.
    pub fn drop_references(&mut self, drop: impl Fn(&VersionId, u64) -> bool) -> Vec<PoolId> {
        let mut changed = Vec::new();
        for pool in self.pools.values_mut() {
            let before = pool.references.len();
            pool.references
                .retain(|reference| !drop(&reference.version, reference.seq));
            if pool.references.len() != before {
                changed.push(pool.id.clone());
            }
        }
        changed
    }

    /// Sandboxes that no version wants and that still serve or are about to.
    pub fn unwanted(&self) -> usize {
        let retiring = self.pools.values().filter(|pool| pool.is_retiring());
        let counted = |pool: &PoolRecord| self.members(&pool.id).filter(|sandbox| sandbox.counts()).count();
        retiring.map(counted).sum()
    }
}

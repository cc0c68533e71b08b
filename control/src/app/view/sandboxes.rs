//! Decides how the sandboxes of an app are found in its picture: by id, by the beginning of one, and by pool.

use crate::record::SandboxRecord;
use miren_api::id::{PoolId, SandboxId};
use miren_api::resource::Sandbox;
use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;

/// The sandboxes of an app as others see them, ended ones included. A picture shares with the one before what has not changed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ShownSandboxes {
    by_id: BTreeMap<SandboxId, Arc<Sandbox>>,
    by_pool: HashMap<PoolId, BTreeMap<SandboxId, Arc<Sandbox>>>,
}

impl ShownSandboxes {
    /// How it is now; None: there is none any more. The pool of a sandbox never changes.
    pub fn set(&mut self, id: &SandboxId, sandbox: Option<Sandbox>) {
        if let Some(sandbox) = sandbox.map(Arc::new) {
            let of_pool = self.by_pool.entry(sandbox.pool.clone()).or_default();
            of_pool.insert(id.clone(), Arc::clone(&sandbox));
            self.by_id.insert(id.clone(), sandbox);
        } else if let Some(gone) = self.by_id.remove(id)
            && let Some(of_pool) = self.by_pool.get_mut(&gone.pool)
        {
            of_pool.remove(id);
            if of_pool.is_empty() {
                self.by_pool.remove(&gone.pool);
            }
        }
    }

    pub fn get(&self, id: &SandboxId) -> Option<&Sandbox> {
        self.by_id.get(id).map(Arc::as_ref)
    }

    /// By id.
    pub fn iter(&self) -> impl Iterator<Item = &Sandbox> {
        self.by_id.values().map(Arc::as_ref)
    }

    /// Those of a pool, by id.
    pub fn of_pool(&self, pool: &PoolId) -> impl Iterator<Item = &Sandbox> {
        let of_pool = self.by_pool.get(pool).into_iter();
        of_pool.flat_map(BTreeMap::values).map(Arc::as_ref)
    }

    /// Those whose id begins like this.
    pub fn beginning_with<'a>(&'a self, beginning: &'a str) -> impl Iterator<Item = &'a Sandbox> {
        let from = Bound::Included(SandboxId::from_text(beginning));
        let later = self.by_id.range((from, Bound::Unbounded));
        let begins = move |(id, _): &(&SandboxId, &Arc<Sandbox>)| id.as_str().starts_with(beginning);
        later.take_while(begins).map(|(_, sandbox)| sandbox.as_ref())
    }
}

impl SandboxRecord {
    /// As others see it, on the node of this name.
    pub fn shown(&self, node: &str) -> Sandbox {
        Sandbox {
            id: self.id.clone(),
            app: self.app.clone(),
            service: self.service.clone(),
            version: self.version.clone(),
            pool: self.pool.clone(),
            state: self.state,
            reason: self.reason.clone(),
            ip: self.facts.ip,
            port: self.facts.port,
            pid: self.facts.pid,
            slot: self.facts.slot,
            generation: self.facts.generation,
            node: node.to_owned(),
            created_at: self.created_at,
            running_at: self.running_at,
            ended_at: self.ended_at,
        }
    }
}

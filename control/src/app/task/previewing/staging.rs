//! Decides how a preview's version is made, and which of its services get sandboxes before it takes over.

use super::{Previews, accepting};
use crate::app::deploy;
use crate::app::preview::Stage;
use crate::app::spec::Spec;
use crate::record::{PoolRecord, Preview, Reference, VersionRecord};
use miren_api::id::{Label, PoolId, VersionId};
use std::collections::{BTreeMap, BTreeSet};

impl Previews<'_> {
    /// Makes the version. Where sandboxes serve the label now, it gets its own before it takes over.
    pub(super) async fn stage(&mut self, seq: u64) {
        let Some(preparation) = self.making.of.get(&seq) else {
            return;
        };
        let (source, label) = (preparation.source.clone(), preparation.order.label.clone());
        let clone_of = preparation.order.request.version.clone();
        let run = match self.supply.what_runs(&source).await {
            Ok(run) => run,
            Err(error) => return self.fail(seq, error),
        };
        let images = self.supply.fetches.of(seq);
        let specs: BTreeMap<String, Spec> = accepting::previewed(run.services, &run.previews)
            .map(|(name, service)| (name.clone(), Spec::of(&name, service, &source.content, &images)))
            .collect();
        let patience = specs.values().map(|spec| spec.service.port_timeout).max();
        let version = VersionRecord {
            id: VersionId::generate(self.book.name()),
            app: self.book.name().clone(),
            seq,
            created_at: self.book.now(),
            content: source.content,
            variables: source.variables,
            pools: BTreeMap::new(),
            preview: Some(Preview {
                label: label.clone(),
                source: clone_of,
                specs,
                asked: None,
            }),
        };
        let served = self.served_under(&label);
        let (version, reused) = self.claim_for(version, &served);
        let since = self.book.now();
        if let Some(preparation) = self.making.of.get_mut(&seq) {
            preparation.stage = Stage::Starting { since };
            preparation.patience = deploy::patience(patience.unwrap_or_default());
            preparation.pools = version.pools.values().cloned().collect();
            preparation.version = Some(version.id.clone());
            preparation.reused = reused;
        }
        let told = match version.pools.is_empty() {
            true => format!("version {}: starts with its first request", version.id),
            false => format!("version {}: starting before it takes over", version.id),
        };
        self.tell(seq, told);
        self.book.ledger.put(&version);
        self.book.state.previews.insert(version.id.clone(), version);
    }

    /// Services of the label's version that have RUNNING sandboxes.
    fn served_under(&self, label: &Label) -> BTreeSet<String> {
        let routed = self.publishing.now();
        let Some(route) = routed.table.label_of(self.book.name(), label.as_str()) else {
            return BTreeSet::new();
        };
        let is_its_own = |pool: &&PoolRecord| pool.references.iter().any(|claim| claim.version == route.version);
        let pools = self.book.state.pools.values().filter(is_its_own);
        let serving = pools.filter(|pool| self.book.state.ready(&pool.id) > 0);
        serving.map(|pool| pool.service.clone()).collect()
    }

    /// Gives the version pools for these services. Says whether any of them was there.
    fn claim_for(&mut self, mut version: VersionRecord, services: &BTreeSet<String>) -> (VersionRecord, bool) {
        let mut is_reused = false;
        for name in services {
            if let Some((pool, reused)) = self.claim_preview(&version, name) {
                version.pools.insert(name.clone(), pool);
                is_reused |= reused;
            }
        }
        (version, is_reused)
    }

    /// The pool of a service of a preview: the one of its label that runs the same, or a new one.
    pub(super) fn claim_preview(&mut self, version: &VersionRecord, service: &str) -> Option<(PoolId, bool)> {
        let preview = version.preview.as_ref()?;
        let spec = preview.specs.get(service)?.clone();
        let claim = Reference {
            version: version.id.clone(),
            seq: version.seq,
            concurrency: spec.service.concurrency,
        };
        Some(self.book.claim(service, spec, claim, Some(&preview.label)))
    }
}

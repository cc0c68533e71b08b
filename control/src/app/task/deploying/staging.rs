//! Decides how a deploy gets what it needs: its images, its version, and a claim on the pools that run it.

use super::Deploys;
use crate::app::task::fetching::Outcome;
use crate::app::{spec, view};
use crate::images::{Fetched, NotFetched};
use crate::record::{Reference, VersionRecord};
use miren_api::ApiError;
use miren_api::deploy::DeployStatus;
use miren_api::id::PoolId;
use std::collections::BTreeMap;

impl Deploys<'_> {
    /// Begins to fetch the images of a deploy.
    pub(super) fn fetch(&mut self, seq: u64) {
        let Some(record) = self.book.state.deploys.get(&seq) else {
            return;
        };
        let (source, key) = (record.source(), record.id().to_string());
        let names: Vec<&str> = source.content.images.keys().map(String::as_str).collect();
        let message = format!("getting image {}", names.join(", "));
        // Of what is tried each second the first time is a step.
        if !self.supply.fetches.has_been_faulty(seq) {
            self.note(seq, DeployStatus::Staging, message);
        }
        self.supply.fetch(self.book.name().clone(), seq, source, &key);
    }

    /// Takes in what came of it. The digests are part of the deploy from here on, whatever becomes of the names.
    pub fn fetched(&mut self, seq: u64, result: Result<Fetched, NotFetched>) {
        match self.supply.fetched(self.book, seq, result) {
            Outcome::Here(pins) => {
                if let Some(record) = self.book.state.deploys.get_mut(&seq) {
                    record.pin(pins);
                    self.book.ledger.put(&*record);
                }
            }
            Outcome::Again(Some(told)) => self.note(seq, DeployStatus::Staging, told),
            Outcome::Again(None) | Outcome::Failed => {}
        }
    }

    pub(super) async fn stage(&mut self, seq: u64) {
        let Some(record) = self.book.state.deploys.get(&seq) else {
            return;
        };
        let (source, restart) = (record.source(), record.restart);
        let prepared = async {
            Ok((
                self.supply.what_runs(&source).await?.services,
                self.supply.version(self.book, seq, &source).await?,
            ))
        };
        let prepared: Result<_, ApiError> = prepared.await;
        let (services, mut version) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => {
                self.end(seq, DeployStatus::Failed, Some(error.message));
                return;
            }
        };
        self.note(seq, DeployStatus::Staging, "making the version".into());
        let mut pools = BTreeMap::new();
        let mut reused = Vec::new();
        let images = self.supply.fetches.of(seq);
        for (name, service) in services {
            let spec = spec::Spec::of(&name, service, &source.content, &images);
            let claim = Reference {
                version: version.id.clone(),
                seq,
                concurrency: spec.service.concurrency,
            };
            let (pool, is_reused) = match restart {
                true => (self.book.claim_new(&name, spec, claim, None), false),
                false => self.book.claim(&name, spec, claim, None),
            };
            reused.extend(is_reused.then(|| pool.clone()));
            pools.insert(name, pool);
        }
        version.pools = pools;
        self.record_version(seq, &version, &reused);
    }

    fn record_version(&mut self, seq: u64, version: &VersionRecord, reused: &[PoolId]) {
        let now = self.book.now();
        let main = view::main_pool(&version.pools).cloned();
        let Some(record) = self.book.state.deploys.get_mut(&seq) else {
            return;
        };
        record.deploy.version = Some(version.id.clone());
        record.deploy.reused = main.as_ref().is_some_and(|pool| reused.contains(pool));
        record.deploy.pool = main;
        record.starting_at = Some(now);
        self.book.ledger.put(version);
        let (id, pools) = (&version.id, version.pools.len());
        let message = format!("version {id}: {pools} pools, {} of them reused", reused.len());
        self.note(seq, DeployStatus::Starting, message);
    }
}

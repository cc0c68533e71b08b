//! Decides how a deploy's steps are carried out, each saved before the next, so that a restart goes on where it was.

use super::{Task, WRITE_AGAIN};
use crate::app::deploy::{self, PoolSeen, Seen, Step};
use crate::app::{pool, spec, turn, view};
use crate::clock::later;
use crate::ledger;
use crate::record::{
    ActiveRecord, Asked, DeployRecord, PoolRecord, Reference, SandboxRecord, Stored, VersionRecord, size,
};
use crate::routing::{Change, RoutingError};
use jiff::Timestamp;
use miren_api::deploy::{Deploy, DeployRequest, DeployStatus, DeployStep};
use miren_api::id::{DeployId, Label, PoolId, SandboxId};
use miren_api::resource::SandboxState;
use miren_api::{ApiError, ErrorCode};
use std::collections::BTreeMap;
use std::time::Duration;

mod cancel;
mod failure;
mod source;

impl Task {
    /// Accepts a deploy: it has its number from now on, and goes on whether or not anybody watches.
    pub(super) async fn accept(&mut self, request: DeployRequest, key: Option<Asked>) -> Result<Deploy, ApiError> {
        if let Some(asked) = &key
            && let Some(earlier) = self.earlier(asked).await?
        {
            return Ok(earlier);
        }
        let source = self.source(&request).await?;
        let seq = self.state.app.next_seq;
        let now = self.now();
        let deploy = Deploy {
            id: DeployId::generate(),
            app: self.state.app.name.clone(),
            version: None,
            seq,
            status: DeployStatus::Accepted,
            pool: None,
            reused: false,
            urls: Vec::new(),
            default_route: false,
            started_at: now,
            finished_at: None,
            error: None,
            progress: None,
            steps: vec![step(DeployStatus::Accepted, now, format!("accepted as number {seq}"))],
        };
        let deploy = self.addressed(deploy);
        let mut record = DeployRecord::new(deploy.clone(), request, source);
        record.asked = key;
        size::check(&record)?;
        self.state.app.next_seq += 1;
        self.ledger.put(&self.state.app);
        self.ledger.put(&record);
        if let Err(error) = self.save().await {
            self.take_back(&record, seq);
            return Err(ApiError::new(
                ErrorCode::Internal,
                format!("saving the deploy: {error}"),
            ));
        }
        self.exists = true;
        self.state.keys.remember(&record);
        self.state.deploys.insert(seq, record);
        self.publish();
        Ok(deploy)
    }

    /// With where the app can be reached now.
    fn addressed(&self, deploy: Deploy) -> Deploy {
        let (table, app) = (self.world.routing.now().table, &self.state.app.name);
        Deploy {
            urls: self.world.policy.urls.of_app(&table, app),
            default_route: table.default_app() == Some(app),
            ..deploy
        }
    }

    /// The deploy that the same key asked for before, in this process or in an earlier one.
    pub(super) async fn earlier(&self, asked: &Asked) -> Result<Option<Deploy>, ApiError> {
        if self.state.app.deleting {
            return Ok(None);
        }
        let Some(deploy) = self.state.keys.find(asked, self.now())? else {
            return Ok(None);
        };
        let found: Option<DeployRecord> = ledger::find(&*self.world.store, deploy.as_str()).await?;
        Ok(found.map(|record| record.deploy))
    }

    /// Undoes what could not be saved of an accepted deploy.
    fn take_back(&mut self, record: &DeployRecord, seq: u64) {
        self.state.app.next_seq = seq;
        self.ledger.delete(record.key());
        if self.exists {
            self.ledger.put(&self.state.app);
        } else {
            self.ledger.delete(self.state.app.key());
        }
    }

    /// Takes a deploy as far as it goes now; returns when to look again.
    pub(super) async fn advance(&mut self, seq: u64) -> Option<Timestamp> {
        while let Some(record) = self.state.deploys.get(&seq) {
            let now = self.now();
            match deploy::next(record, &self.seen(record), now) {
                Step::Wait(until) => return until,
                Step::Fetch => self.fetch(seq),
                Step::Stage => self.stage(seq).await,
                Step::Switch if record.deploy.status == DeployStatus::Starting => {
                    self.note(seq, DeployStatus::Switching, "every sandbox is RUNNING".into());
                }
                Step::Switch => self.switch(seq).await,
                Step::Retire => self.retire(seq),
                Step::Finish(status, error) => self.finish(seq, status, error).await,
            }
            if !self.commit().await {
                return Some(later(now, WRITE_AGAIN));
            }
            self.publish();
        }
        None
    }

    fn seen(&self, record: &DeployRecord) -> Seen {
        let seq = record.deploy.seq;
        let refers = |pool: &&PoolRecord| pool.references.iter().any(|claim| claim.seq == seq);
        let pools: Vec<&PoolRecord> = self.state.pools.values().filter(refers).collect();
        Seen {
            installed: self.world.routing.now().installed(&self.state.app.name),
            port_timeout: pools
                .iter()
                .map(|pool| pool.spec.port_timeout)
                .max()
                .unwrap_or_default(),
            pools: pools.iter().map(|pool| self.pool_seen(record, pool)).collect(),
            handover: pools
                .iter()
                .map(|pool| turn::handover(pool, self.state.pools.values()))
                .max()
                .unwrap_or_default(),
            acknowledged: self.acknowledged.contains(&seq),
            old_serving: self.state.unwanted(),
            images: self.images_seen(seq, record.names_images()),
        }
    }

    fn pool_seen(&self, record: &DeployRecord, pool: &PoolRecord) -> PoolSeen {
        let own = pool.references.iter().find(|claim| claim.seq == record.deploy.seq);
        let wanted = own.map_or(0, |claim| pool::needed(&claim.concurrency, self.wanted(pool)));
        PoolSeen {
            service: pool.service.clone(),
            ready: self.state.ready(&pool.id),
            wanted,
            failure: self
                .boot_failure(record.starting_at, pool)
                .and_then(|sandbox| sandbox.reason.clone()),
            node_fault: self.world.node_faults.of(&pool.id).map(|met| met.told()),
        }
    }

    /// Adds a step to a deploy's story.
    pub(super) fn note(&mut self, seq: u64, status: DeployStatus, message: String) {
        let now = self.now();
        let Some(record) = self.state.deploys.get_mut(&seq) else {
            return;
        };
        let from = record.deploy.status;
        debug_assert!(
            from == status || deploy::may_become(from, status),
            "{from:?} to {status:?}"
        );
        tracing::info!(app = %record.deploy.app, deploy = %record.deploy.id, seq, status = status.as_str(), message);
        record.deploy.status = status;
        record.deploy.steps.push(step(status, now, message));
        self.ledger.put(&*record);
    }

    async fn stage(&mut self, seq: u64) {
        let Some(record) = self.state.deploys.get(&seq) else {
            return;
        };
        let source = record.source();
        let prepared = async {
            Ok((
                self.what_runs(&source).await?.services,
                self.version(seq, &source).await?,
            ))
        };
        let prepared: Result<_, ApiError> = prepared.await;
        let (services, mut version) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => return self.finish(seq, DeployStatus::Failed, Some(error.message)).await,
        };
        self.note(seq, DeployStatus::Staging, "making the version".into());
        let mut pools = BTreeMap::new();
        let mut reused = Vec::new();
        let images = self.fetches.of(seq);
        for (name, service) in services {
            let spec = spec::Spec::of(&name, service, &source.content, &images);
            let claim = Reference {
                version: version.id.clone(),
                seq,
                concurrency: spec.service.concurrency,
            };
            let (pool, is_reused) = self.claim(&name, spec, claim, None);
            reused.extend(is_reused.then(|| pool.clone()));
            pools.insert(name, pool);
        }
        version.pools = pools;
        self.record_version(seq, &version, &reused);
    }

    fn record_version(&mut self, seq: u64, version: &VersionRecord, reused: &[PoolId]) {
        let now = self.now();
        let main = view::main_pool(&version.pools).cloned();
        let Some(record) = self.state.deploys.get_mut(&seq) else {
            return;
        };
        record.deploy.version = Some(version.id.clone());
        record.deploy.reused = main.as_ref().is_some_and(|pool| reused.contains(pool));
        record.deploy.pool = main;
        record.starting_at = Some(now);
        self.ledger.put(version);
        let (id, pools) = (&version.id, version.pools.len());
        let message = format!("version {id}: {pools} pools, {} of them reused", reused.len());
        self.note(seq, DeployStatus::Starting, message);
    }

    /// Finds the pool with this spec, or makes it, and adds the version's claim to it. A reused one starts fresh.
    pub(super) fn claim(
        &mut self,
        name: &str,
        spec: spec::Spec,
        claim: Reference,
        label: Option<&Label>,
    ) -> (PoolId, bool) {
        let spec_hash = spec.hash(name);
        let found = self.state.pool_with(name, &spec_hash, label).cloned();
        let is_reused = found.is_some();
        let mut pool = found.unwrap_or_else(|| PoolRecord {
            id: PoolId::generate(),
            app: self.state.app.name.clone(),
            service: name.to_owned(),
            spec_hash,
            spec: spec.service,
            artifact: spec.artifact,
            image: spec.image,
            label: label.cloned(),
            references: Vec::new(),
            created_at: self.now(),
            desired: 0,
            low_since: None,
            crash: Default::default(),
        });
        pool.references.push(claim);
        pool.crash = Default::default();
        self.ledger.put(&pool);
        let id = pool.id.clone();
        self.state.pools.insert(id.clone(), pool);
        (id, is_reused)
    }

    async fn switch(&mut self, seq: u64) {
        let Some(version) = self
            .state
            .deploys
            .get(&seq)
            .and_then(|record| record.deploy.version.clone())
        else {
            return;
        };
        let install = Change::Install(ActiveRecord {
            app: self.state.app.name.clone(),
            version,
            seq,
        });
        match self.world.routing.submit(install).await {
            Ok(generation) => self.switched(seq, generation),
            Err(RoutingError::Superseded { installed }) => {
                let message = format!("deploy {installed} of the same app was installed first");
                self.finish(seq, DeployStatus::Superseded, Some(message)).await;
            }
            Err(error) => {
                let message = Some(format!("publishing the new routing failed: {error}"));
                self.finish(seq, DeployStatus::Failed, message).await;
            }
        }
    }

    fn switched(&mut self, seq: u64, generation: u64) {
        let Some(deploy) = self.state.deploys.get(&seq).map(|record| record.deploy.clone()) else {
            return;
        };
        let (was_default, deploy) = (deploy.default_route, self.addressed(deploy));
        let mut message = format!("published in snapshot {generation}");
        if deploy.default_route && !was_default {
            let app = &deploy.app;
            message = format!("{message}; {app} is the default route: hosts without one of their own lead to it");
        }
        if let Some(record) = self.state.deploys.get_mut(&seq) {
            record.generation = Some(generation);
            record.deploy = deploy;
        }
        self.note(seq, DeployStatus::Switching, message);
        self.await_acknowledgement(seq, generation, Duration::ZERO);
    }

    fn retire(&mut self, seq: u64) {
        // Those of previews have higher numbers than any deploy.
        let changed = self.state.drop_references(|_, of| of < seq);
        self.put_pools(&changed);
        let message = format!("every proxy serves it; {} pools changed", changed.len());
        self.note(seq, DeployStatus::DrainingOld, message);
    }

    pub(super) fn put_pools(&mut self, ids: &[PoolId]) {
        for pool in ids.iter().filter_map(|id| self.state.pools.get(id)) {
            self.ledger.put(pool);
        }
    }

    /// Ends a deploy as it turned out; one that failed says what its sandbox wrote last.
    async fn finish(&mut self, seq: u64, status: DeployStatus, error: Option<String>) {
        let Some(record) = self.state.deploys.get(&seq) else {
            return;
        };
        let error = match (error, status) {
            (Some(error), DeployStatus::Failed) => Some(self.with_log(record, error).await),
            (error, _) => error,
        };
        self.end(seq, status, error);
    }

    /// Ends a deploy, and returns it as it ended. One that failed or was overtaken takes its claims back; what serves is not
    /// touched.
    pub(super) fn end(&mut self, seq: u64, status: DeployStatus, error: Option<String>) -> Option<Deploy> {
        let installed = self.world.routing.now().installed(&self.state.app.name);
        if status != DeployStatus::Succeeded && seq != installed {
            let changed = self.state.drop_references(|_, of| of == seq);
            self.put_pools(&changed);
        }
        self.world.metrics.deploys.with_label_values(&[status.as_str()]).inc();
        let now = self.now();
        if let Some(record) = self.state.deploys.get_mut(&seq) {
            record.deploy.error.clone_from(&error);
            record.deploy.finished_at = Some(now);
            record.close();
        }
        self.note(seq, status, error.unwrap_or_else(|| "done".into()));
        self.acknowledged.remove(&seq);
        self.end_fetch(seq);
        self.state.deploys.remove(&seq).map(|record| record.deploy)
    }

    /// The sandbox of `pool` that failed to boot since it was asked for.
    pub(super) fn boot_failure(&self, since: Option<Timestamp>, pool: &PoolRecord) -> Option<&SandboxRecord> {
        let since = since?;
        self.state.members(&pool.id).into_iter().find(|sandbox| {
            let never_ran = sandbox.state == SandboxState::Dead && sandbox.running_at.is_none();
            never_ran && !sandbox.unseen && sandbox.node_fault.is_none() && sandbox.ended_at >= Some(since)
        })
    }

    /// The sandbox that tells why a deploy's time was not enough. One that ended says so in its own reason, log included.
    fn culprit(&self, record: &DeployRecord) -> Option<SandboxId> {
        let mut pools = self.state.pools.values();
        if pools.any(|pool| self.boot_failure(record.starting_at, pool).is_some()) {
            return None;
        }
        let mut sandboxes = self.state.sandboxes();
        let waited_for = sandboxes.find(|sandbox| {
            sandbox.state == SandboxState::Pending && Some(&sandbox.version) == record.deploy.version.as_ref()
        });
        waited_for.map(|sandbox| sandbox.id.clone())
    }
}

fn step(status: DeployStatus, at: Timestamp, message: String) -> DeployStep {
    DeployStep { status, at, message }
}

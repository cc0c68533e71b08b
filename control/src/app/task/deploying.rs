//! Decides how a deploy's steps are carried out, each saved before the next, so that a restart goes on where it was.

use super::book::Book;
use super::previewing::Making;
use super::publishing::Publishing;
use super::supply::Supply;
use super::{WRITE_AGAIN, wanting};
use crate::app::deploy::{self, PoolSeen, Seen, Step};
use crate::app::{DeployOrder, pool, turn};
use crate::clock::later;
use crate::drain::Work;
use crate::lease::Desk;
use crate::ledger;
use crate::record::{Asked, DeployRecord, PoolRecord, Stored, size};
use jiff::Timestamp;
use miren_api::deploy::{Deploy, DeployStatus, DeployStep};
use miren_api::id::{DeployId, NodeId, SandboxId};
use miren_api::resource::SandboxState;
use miren_api::{ApiError, ErrorCode};
use miren_fault::Point;

mod cancel;
mod points;
mod releasing;
mod restarting;
mod source;
mod staging;
mod switching;

pub(super) use source::Sources;

/// The deploys of an app, over its records.
pub(super) struct Deploys<'t> {
    pub book: &'t mut Book,
    pub supply: &'t mut Supply,
    pub publishing: &'t mut Publishing,
    pub making: &'t Making,
    pub desk: &'t Desk,
    /// Where what it starts runs.
    pub node: NodeId,
}

impl Deploys<'_> {
    /// Accepts a deploy: it has its number from now on, and goes on whether or not anybody watches.
    pub async fn accept(&mut self, order: DeployOrder, key: Option<Asked>) -> Result<Deploy, ApiError> {
        if let Some(asked) = &key
            && let Some(earlier) = self.earlier(asked).await?
        {
            return Ok(earlier);
        }
        let permit = self.book.admission.admit(Work::Deploy)?;
        let DeployOrder { request, read, restart } = order;
        let source = self.sources().source(&request, read).await?;
        let seq = self.book.state.app.next_seq;
        let now = self.book.now();
        let mut told = format!("accepted as number {seq}");
        if let (true, Some(version)) = (restart, &source.version) {
            told = format!("{told}: version {version} again, in new sandboxes");
        }
        let deploy = Deploy {
            id: DeployId::generate(),
            app: self.book.name().clone(),
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
            steps: vec![step(DeployStatus::Accepted, now, told)],
        };
        let deploy = self.publishing.addressed(deploy);
        let mut record = DeployRecord::new(deploy.clone(), request, source);
        record.asked = key;
        record.restart = restart;
        size::check(&record)?;
        miren_fault::blocking(Point::DeployAccept)
            .map_err(|fault| ApiError::new(ErrorCode::Internal, fault.to_string()))?;
        self.book.state.app.next_seq += 1;
        self.book.ledger.put(&self.book.state.app);
        self.book.ledger.put(&record);
        if let Err(error) = self.book.save().await {
            self.take_back(&record, seq);
            let doubt = match error.is_final() {
                true => "; control ends, and the next one knows whether it was saved",
                false => "",
            };
            return Err(ApiError::new(
                ErrorCode::Internal,
                format!("saving the deploy: {error}{doubt}"),
            ));
        }
        miren_fault::pass(Point::DeployAccepted);
        self.book.exists = true;
        self.book.state.keys.remember(&record);
        self.book.state.deploys.insert(seq, record);
        self.book.held.begin(seq, permit);
        self.book.publish();
        Ok(deploy)
    }

    fn sources(&self) -> Sources<'_> {
        Sources {
            book: self.book,
            supply: self.supply,
            publishing: self.publishing,
        }
    }

    /// The deploy that the same key asked for before, in this process or in an earlier one.
    pub async fn earlier(&self, asked: &Asked) -> Result<Option<Deploy>, ApiError> {
        if self.book.state.app.deleting {
            return Ok(None);
        }
        let Some(deploy) = self.book.state.keys.find(asked, self.book.now())? else {
            return Ok(None);
        };
        let found: Option<DeployRecord> = ledger::find(&*self.supply.store, deploy.as_str()).await?;
        Ok(found.map(|record| record.deploy))
    }

    /// Undoes what could not be saved of an accepted deploy.
    fn take_back(&mut self, record: &DeployRecord, seq: u64) {
        self.book.state.app.next_seq = seq;
        self.book.ledger.delete(record.key());
        if self.book.exists {
            self.book.ledger.put(&self.book.state.app);
        } else {
            self.book.ledger.delete(self.book.state.app.key());
        }
    }

    /// Takes a deploy as far as it goes now; returns when to look again.
    pub async fn advance(&mut self, seq: u64) -> Option<Timestamp> {
        while let Some(record) = self.book.state.deploys.get(&seq) {
            let now = self.book.now();
            let (status, step) = (record.deploy.status, deploy::next(record, &self.seen(record), now));
            let points = points::of(&step, status);
            points.before();
            match step {
                Step::Wait(until) => return until,
                Step::Fetch => self.fetch(seq),
                Step::Release if self.release(seq).await => {}
                Step::Release => return None,
                Step::Stage => self.stage(seq).await,
                Step::Switch if status == DeployStatus::Starting => {
                    self.note(seq, DeployStatus::Switching, "every sandbox is RUNNING".into());
                }
                Step::Switch => self.switch(seq).await,
                Step::Retire => self.retire(seq),
                Step::Finish(status, error) if self.finish(seq, status, error.clone()) => {}
                // What its sandbox wrote last is being read.
                Step::Finish(..) => return None,
            }
            points.save();
            if !self.book.commit().await {
                return Some(later(now, WRITE_AGAIN));
            }
            points.saved();
            self.book.publish();
        }
        None
    }

    fn seen(&self, record: &DeployRecord) -> Seen {
        let seq = record.deploy.seq;
        let refers = |pool: &&PoolRecord| pool.references.iter().any(|claim| claim.seq == seq);
        let pools: Vec<&PoolRecord> = self.book.state.pools.values().filter(refers).collect();
        Seen {
            installed: self.publishing.installed(self.book.name()),
            port_timeout: pools
                .iter()
                .map(|pool| pool.spec.port_timeout)
                .max()
                .unwrap_or_default(),
            pools: pools.iter().map(|pool| self.pool_seen(record, pool)).collect(),
            handover: pools
                .iter()
                .map(|pool| turn::handover(pool, self.book.state.pools.values()))
                .max()
                .unwrap_or_default(),
            acknowledged: self.publishing.is_acknowledged(seq),
            old_serving: self.book.state.unwanted(),
            images: self.supply.images_seen(self.book, seq, record.names_images()),
            release: self.release_seen(record),
        }
    }

    fn pool_seen(&self, record: &DeployRecord, pool: &PoolRecord) -> PoolSeen {
        let own = pool.references.iter().find(|claim| claim.seq == record.deploy.seq);
        let wanted = own.map_or(0, |claim| {
            pool::needed(&claim.concurrency, wanting::of(pool, self.book, self.making, self.desk))
        });
        PoolSeen {
            service: pool.service.clone(),
            ready: self.book.state.ready(&pool.id),
            wanted,
            failure: self
                .book
                .boot_failure(record.starting_at, pool)
                .and_then(|sandbox| sandbox.reason.clone()),
            node_fault: self.book.node_fault(&pool.id),
        }
    }

    /// Adds a step to a deploy's story.
    pub fn note(&mut self, seq: u64, status: DeployStatus, message: String) {
        let now = self.book.now();
        let Some(record) = self.book.state.deploys.get_mut(&seq) else {
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
        self.book.ledger.put(&*record);
    }

    /// Ends a deploy as it turned out; one that failed says what its sandbox wrote last. False: that is being read first.
    fn finish(&mut self, seq: u64, status: DeployStatus, error: Option<String>) -> bool {
        let Some(record) = self.book.state.deploys.get(&seq) else {
            return true;
        };
        let error = match (error, status) {
            (Some(error), DeployStatus::Failed) => match self.culprit(record) {
                Some(culprit) => match self.supply.with_last_words(record, culprit, &error) {
                    Some(error) => Some(error),
                    None => return false,
                },
                None => Some(error),
            },
            (error, _) => error,
        };
        self.end(seq, status, error);
        true
    }

    /// Ends a deploy, and returns it as it ended. One that failed or was overtaken takes its claims back; what serves is not
    /// touched.
    pub fn end(&mut self, seq: u64, status: DeployStatus, error: Option<String>) -> Option<Deploy> {
        let why = error.as_deref().unwrap_or("its deploy ended");
        self.end_release(seq, why);
        let installed = self.publishing.installed(self.book.name());
        if status != DeployStatus::Succeeded && seq != installed {
            self.book.drop_references(|_, of| of == seq);
        }
        self.book.metrics.deploys.with_label_values(&[status.as_str()]).inc();
        let now = self.book.now();
        if let Some(record) = self.book.state.deploys.get_mut(&seq) {
            record.deploy.error.clone_from(&error);
            record.deploy.finished_at = Some(now);
            record.close();
        }
        self.note(seq, status, error.unwrap_or_else(|| "done".into()));
        self.publishing.forget(seq);
        self.supply.end(self.book, seq);
        self.book.held.end(seq);
        self.book.state.deploys.remove(&seq).map(|record| record.deploy)
    }

    /// The sandbox that tells why a deploy's time was not enough. One that ended says so in its own reason, log included.
    fn culprit(&self, record: &DeployRecord) -> Option<SandboxId> {
        if let Some(release) = record.release.as_ref().filter(|_| record.starting_at.is_none()) {
            return Some(release.run.clone());
        }
        let mut pools = self.book.state.pools.values();
        if pools.any(|pool| self.book.boot_failure(record.starting_at, pool).is_some()) {
            return None;
        }
        let mut sandboxes = self.book.state.sandboxes();
        let waited_for = sandboxes.find(|sandbox| {
            sandbox.state == SandboxState::Pending && Some(&sandbox.version) == record.deploy.version.as_ref()
        });
        waited_for.map(|sandbox| sandbox.id.clone())
    }
}

fn step(status: DeployStatus, at: Timestamp, message: String) -> DeployStep {
    DeployStep { status, at, message }
}

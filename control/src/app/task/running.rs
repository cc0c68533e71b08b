//! Decides how a run is carried out: saved first, then started, and what its sandbox comes to is what it comes to.

use super::WRITE_AGAIN;
use super::book::Book;
use super::pooling::Runner;
use super::publishing::Publishing;
use crate::app::pool::earliest;
use crate::app::view::main_pool;
use crate::app::{Begun, World, run, spec};
use crate::clock::later;
use crate::drain::Work;
use crate::record::{Attached, Outcome, RunRecord, SandboxRecord, Spec, Stored, ended_by_itself, size};
use jiff::Timestamp;
use miren_api::id::{PoolId, SandboxId, VersionId};
use miren_api::resource::SandboxState;
use miren_api::run::{RunRequest, TIMEOUT_MAX};
use miren_api::{ApiError, ErrorCode};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Why a run ends with its client.
pub const CLIENT_GONE: &str = "its client has gone";
/// What the daemon it was attached to leaves of a run.
const UNATTACHED: &str = "control was started anew, and its client could not stay";

/// The places that an app's runs have on the node.
pub(super) struct Running {
    node: Arc<Semaphore>,
    places: BTreeMap<SandboxId, OwnedSemaphorePermit>,
}

impl Running {
    pub fn new(world: &World) -> Self {
        Self {
            node: Arc::clone(&world.runs),
            places: BTreeMap::new(),
        }
    }
}

/// The runs of an app, over its records.
pub(super) struct Runs<'t> {
    pub book: &'t mut Book,
    pub runner: &'t mut Runner,
    pub running: &'t mut Running,
    pub publishing: &'t Publishing,
}

impl Runs<'_> {
    /// Accepts a run; it begins when this task has saved it.
    pub async fn begin(&mut self, request: RunRequest) -> Result<Begun, ApiError> {
        if self.book.state.app.deleting {
            let why = format!("app {} is being deleted", self.book.name());
            return Err(ApiError::new(ErrorCode::Conflict, why));
        }
        let _admitted = self.book.admission.admit(Work::Run)?;
        let permit = self
            .book
            .admission
            .start()
            .ok_or_else(|| self.book.admission.draining())?;
        let of_people = self.book.state.living_runs().filter(|run| run.deploy.is_none());
        run::check_room(of_people.count())?;
        let place = Arc::clone(&self.running.node).try_acquire_owned().map_err(|_| full())?;
        let record = self.record(request)?;
        size::check(&record)?;
        let run = record.shown(Some(SandboxState::Pending));
        let (id, is_attached) = (record.id.clone(), record.attached.is_some());
        self.book.begin_run(record, self.runner.node, permit);
        if let Err(error) = self.book.save().await {
            self.take_back(&id);
            let doubt = match error.is_final() {
                true => "; control ends, and the next one knows whether it was saved",
                false => "",
            };
            return Err(ApiError::new(
                ErrorCode::Internal,
                format!("saving the run: {error}{doubt}"),
            ));
        }
        let streams = is_attached.then(|| self.runner.executor.attach(&id));
        self.running.places.insert(id, place);
        self.book.publish();
        Ok(Begun { run, streams })
    }

    fn record(&self, request: RunRequest) -> Result<RunRecord, ApiError> {
        let timeout = check(&request)?;
        let (version, service, spec) = self.spec(request.service.as_deref())?;
        let now = self.book.now();
        Ok(RunRecord {
            id: SandboxId::generate(),
            app: self.book.name().clone(),
            version,
            service,
            spec: spec::once(spec, run::quoted(&request.command)),
            words: request.command,
            attached: (!request.detach).then_some(Attached {
                stdin: request.stdin,
                terminal: request.terminal,
            }),
            deploy: None,
            created_at: now,
            until: later(now, timeout),
            unwanted: None,
            outcome: None,
        })
    }

    /// What runs of the active version: as its pool has it, image and all.
    fn spec(&self, service: Option<&str>) -> Result<(VersionId, String, Spec), ApiError> {
        let app = self.book.name();
        let routed = self.publishing.now();
        let version = routed.active(app).cloned().ok_or_else(|| {
            let message = format!("app {app} has no active version that something could be run in");
            ApiError::new(ErrorCode::NotFound, message).remedy(format!("deploy it first: miren deploy -a {app}"))
        })?;
        let refers = |id: &VersionId| *id == version;
        let pools = self.book.state.pools.values();
        let of_version = pools.filter(|pool| pool.references.iter().any(|claim| refers(&claim.version)));
        let by_service: BTreeMap<String, PoolId> =
            of_version.map(|pool| (pool.service.clone(), pool.id.clone())).collect();
        let id = match service {
            Some(name) => by_service.get(name),
            None => main_pool(&by_service),
        };
        let pool = id.and_then(|id| self.book.state.pools.get(id)).ok_or_else(|| {
            let names: Vec<&str> = by_service.keys().map(String::as_str).collect();
            let message = format!("version {version} has no service {:?}", service.unwrap_or_default());
            let error = ApiError::new(ErrorCode::NotFound, message).field("service");
            error.remedy(format!("one of {}", names.join(", ")))
        })?;
        let spec = Spec {
            service: pool.spec.clone(),
            artifact: pool.artifact.clone(),
            image: pool.image,
        };
        Ok((version, pool.service.clone(), spec))
    }

    fn take_back(&mut self, id: &SandboxId) {
        self.book.begun.retain(|begun| begun != id);
        self.book.held.started(id);
        let run = self.book.state.runs.remove(id).map(|run| run.key());
        let sandbox = self.book.state.remove(id).map(|sandbox| sandbox.key());
        run.into_iter()
            .chain(sandbox)
            .for_each(|key| self.book.ledger.delete(key));
    }

    /// Goes on with what an earlier process began: nobody speaks any more with what had a client.
    pub fn recover(&mut self) {
        let living = self.book.state.living_runs();
        let runs = living.map(|run| (run.id.clone(), run.attached.is_some(), run.deploy.is_some()));
        for (id, attached, of_deploy) in runs.collect::<Vec<_>>() {
            let place = (!of_deploy).then(|| Arc::clone(&self.running.node).try_acquire_owned());
            if let Some(Ok(place)) = place {
                self.running.places.insert(id.clone(), place);
            }
            self.note_end(&id);
            if attached {
                self.book.end_run(&id, UNATTACHED);
            }
        }
    }

    /// Whoever asked for a run is gone before it was told: one that was to be spoken with ends.
    pub fn forsake(&mut self, begun: &Begun) {
        if begun.streams.is_some() {
            self.end(&begun.run.id, CLIENT_GONE);
        }
    }

    /// The client of a run is gone, or wants it to end.
    pub fn end(&mut self, id: &SandboxId, why: &str) {
        self.book.end_run(id, why);
    }

    /// What its sandbox came to is what it came to.
    pub fn note_end(&mut self, id: &SandboxId) {
        let sandbox = self.book.state.sandbox(id);
        let Some(run) = self.book.state.runs.get(id).filter(|run| !run.is_over()) else {
            return;
        };
        let outcome = match sandbox {
            Some(sandbox) if !sandbox.state.is_terminal() => return,
            Some(sandbox) => outcome(sandbox, run.unwanted.as_deref(), self.book.now()),
            None => Outcome {
                at: self.book.now(),
                by_itself: true,
                exit_code: None,
                reason: Some("nothing is known of its end".to_owned()),
            },
        };
        let run = run.clone().ended(outcome);
        tracing::info!(app = %run.app, run = %run.id, outcome = ?run.outcome, "a run has ended");
        self.book.ledger.put(&run);
        self.book.state.runs.insert(id.clone(), run);
        self.running.places.remove(id);
    }

    /// The wall clock was set: the next daemon goes by it, too.
    pub fn keep_deadlines(&mut self) {
        let Book { state, ledger, .. } = &mut *self.book;
        state.living_runs().for_each(|run| ledger.put(run));
    }

    /// Starts what was accepted, forgets what ended long ago; which are to end, and when to look again.
    pub async fn settle(&mut self) -> (Vec<(SandboxId, String)>, Option<Timestamp>) {
        let now = self.book.now();
        let plan = run::plan(self.book.state.runs.values(), self.book.state.app.deleting, now);
        for id in &plan.forget {
            if let Some(run) = self.book.state.runs.remove(id) {
                self.book.ledger.delete(run.key());
            }
        }
        let mut wake = plan.wake;
        if !self.book.begun.is_empty() {
            match self.book.commit().await {
                true => self.start(),
                false => wake = earliest(wake, Some(later(now, WRITE_AGAIN))),
            }
        }
        // One that has not been started yet is ended once it was: it is not known where that would be done.
        let started = |(id, _): &(SandboxId, String)| !self.book.begun.contains(id);
        (plan.end.into_iter().filter(started).collect(), wake)
    }

    fn start(&mut self) {
        for id in std::mem::take(&mut self.book.begun) {
            let (Some(run), Some(sandbox)) = (self.book.state.runs.get(&id), self.book.state.sandbox(&id)) else {
                continue;
            };
            self.runner.owners.lock().insert(id.clone(), run.app.clone());
            self.book.metrics.starts.inc();
            self.runner.executor.start(spec::order_of_run(run, sandbox));
        }
    }
}

fn outcome(sandbox: &SandboxRecord, unwanted: Option<&str>, now: Timestamp) -> Outcome {
    let facts = &sandbox.facts;
    let by_itself = ended_by_itself(sandbox.state, facts.ended_by, unwanted.is_some());
    Outcome {
        at: sandbox.ended_at.unwrap_or(now),
        by_itself,
        exit_code: facts.exit_code,
        reason: sandbox.reason.clone().or(unwanted.map(str::to_owned)),
    }
}

fn full() -> ApiError {
    let message = format!("{} runs are under way on this node already", run::PER_NODE);
    ApiError::new(ErrorCode::AtCapacity, message).remedy("wait until one of them has ended")
}

/// How long it may take.
fn check(request: &RunRequest) -> Result<Duration, ApiError> {
    let refused = |field: &str, why: &str| Err(ApiError::new(ErrorCode::InvalidValue, why.to_owned()).field(field));
    if request.command.first().is_none_or(String::is_empty) || request.command.iter().any(|word| word.contains('\0')) {
        return refused("command", "a command is words without zero bytes");
    }
    if request.detach && (request.stdin || request.terminal.is_some()) {
        return refused(
            "detach",
            "what goes on without its client has neither its input nor its terminal",
        );
    }
    let (attached, detached) = run::TIMES;
    match request.timeout {
        None if request.detach => Ok(detached),
        None => Ok(attached),
        Some(seconds @ 1..=TIMEOUT_MAX) => Ok(Duration::from_secs(seconds)),
        Some(_) => refused("timeout", "is not between a second and a week"),
    }
}

//! Decides how the release command of a deploy is run: once, in a run of the version that is about to be made, and never a second time.

use super::Deploys;
use crate::app::deploy::ReleaseSeen;
use crate::app::spec;
use crate::clock::later;
use crate::record::{DeployRecord, ReleaseRecord, RunRecord, size};
use miren_api::app_file::WEB;
use miren_api::deploy::DeployStatus;
use miren_api::id::{SandboxId, VersionId};
use miren_api::run::RunStatus;
use miren_api::{ApiError, ErrorCode};

impl Deploys<'_> {
    /// What is seen of the release command of a deploy.
    pub(super) fn release_seen(&self, record: &DeployRecord) -> ReleaseSeen {
        if record.release_command().is_none() {
            return ReleaseSeen::None;
        }
        let Some(release) = &record.release else {
            let mut others = self.book.state.living_runs();
            return match others.any(|run| run.deploy.is_some()) {
                true => ReleaseSeen::Waits,
                false => ReleaseSeen::Due,
            };
        };
        let gone = || ReleaseSeen::Failed("nothing is known of what became of it".to_owned());
        let Some(run) = self.book.state.runs.get(&release.run) else {
            return gone();
        };
        match &run.outcome {
            None => ReleaseSeen::Runs,
            Some(_) if !self.supply.released.is_told(&run.id) => ReleaseSeen::Runs,
            Some(outcome) if outcome.status() == RunStatus::Succeeded => ReleaseSeen::Succeeded,
            Some(outcome) => outcome.reason.clone().map_or_else(gone, ReleaseSeen::Failed),
        }
    }

    /// Begins it. That it was begun is saved with the deploy, before anything of it runs. False: the node starts nothing any more.
    pub(super) async fn release(&mut self, seq: u64) -> bool {
        let Some(permit) = self.book.admission.start() else {
            return false;
        };
        let Some(record) = self.book.state.deploys.get(&seq) else {
            return true;
        };
        let run = match self.release_run(seq, record).await {
            Ok(run) => run,
            Err(error) => {
                self.end(seq, DeployStatus::Failed, Some(format!("release: {}", error.message)));
                return true;
            }
        };
        let message = format!(
            "running the release command as {}; all it writes: miren logs -a {} --sandbox {}",
            run.id, run.app, run.id
        );
        if let Some(record) = self.book.state.deploys.get_mut(&seq) {
            record.release = Some(ReleaseRecord {
                run: run.id.clone(),
                version: run.version.clone(),
            });
        }
        self.book.begin_run(run, self.node, permit);
        self.note(seq, DeployStatus::Staging, message);
        true
    }

    async fn release_run(&self, seq: u64, record: &DeployRecord) -> Result<RunRecord, ApiError> {
        let source = record.source();
        let mut services = self.supply.what_runs(&source).await?.services;
        let release = record.release_command();
        let (command, timeout) =
            release.map_or_else(Default::default, |release| (release.command.clone(), release.timeout));
        let first = services.keys().next().cloned();
        let web = services.contains_key(WEB).then(|| WEB.to_owned());
        let name = web.or(first).unwrap_or_default();
        let absent = || ApiError::new(ErrorCode::InvalidConfig, format!("there is no service {name:?}"));
        let service = services.remove(&name).ok_or_else(absent)?;
        let images = self.supply.fetches.of(seq);
        let spec = spec::Spec::of(&name, service, &source.content, &images);
        let now = self.book.now();
        let run = RunRecord {
            id: SandboxId::generate(),
            app: self.book.name().clone(),
            version: VersionId::generate(self.book.name()),
            service: name,
            spec: spec::once(spec, command),
            words: Vec::new(),
            attached: None,
            deploy: Some(record.deploy.id.clone()),
            created_at: now,
            until: later(now, timeout),
            unwanted: None,
            outcome: None,
        };
        size::check(&run)?;
        Ok(run)
    }

    /// Ends the release command of a deploy that ends before it.
    pub(super) fn end_release(&mut self, seq: u64, why: &str) {
        let record = self.book.state.deploys.get(&seq);
        if let Some(release) = record.and_then(|record| record.release.as_ref()) {
            let id = release.run.clone();
            self.book.end_run(&id, why);
            self.supply.released.forget(&id);
        }
    }

    /// Passes on what release commands write to who follows their deploys.
    pub fn pass_on(&mut self) {
        let state = &self.book.state;
        for record in state.deploys.values() {
            if let Some(release) = &record.release {
                let is_over = state.runs.get(&release.run).is_none_or(RunRecord::is_over);
                self.supply.pass_on(record, &release.run, is_over);
            }
        }
    }
}

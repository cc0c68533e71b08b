//! Decides what a deploy installs: which folder, with which variables, as a new version or as one there was.

use crate::app::task::Task;
use crate::app::{spec, variables};
use crate::ledger::{self, LoadError};
use crate::record::{Source, Stored, VersionRecord};
use miren_api::app_file::Service;
use miren_api::deploy::DeployRequest;
use miren_api::id::VersionId;
use miren_api::{ApiError, ErrorCode};
use std::collections::BTreeMap;

impl Task {
    /// Settles what a request means, before it gets its number. Nothing is changed.
    ///
    /// # Errors
    /// With everything that would make the deploy fail before its sandboxes start.
    pub(super) async fn source(&self, request: &DeployRequest) -> Result<Source, ApiError> {
        let changes_variables = !request.env.is_empty() || !request.service_env.is_empty();
        let base = match (&request.artifact, &request.version) {
            (Some(_), Some(_)) => {
                let message = "a deploy installs a folder or a version, not both";
                return Err(ApiError::new(ErrorCode::InvalidRequest, message).field("version"));
            }
            (None, Some(version)) => Some(self.source_of(version).await?),
            (Some(_), None) => self.newest().await?,
            (None, None) if changes_variables => Some(self.newest().await?.ok_or_else(|| self.nothing_deployed())?),
            (None, None) => {
                let message = "there is nothing to deploy: neither a folder, nor a version, nor a changed variable";
                return Err(ApiError::new(ErrorCode::InvalidRequest, message).field("artifact"));
            }
        };
        let (kept, artifact) = base.map(|base| (base.variables, base.artifact)).unzip();
        let source = Source {
            artifact: request.artifact.clone().or(artifact).unwrap_or_default(),
            variables: kept.unwrap_or_default().with(request),
            version: request.version.clone().filter(|_| !changes_variables),
        };
        let services = self.services(&source).await?;
        variables::check(request, &services)?;
        let mounts = services.into_values().flat_map(|service| service.disks).collect();
        let disks = self.world.executor.disks();
        disks.check(&self.state.app.name, mounts).await?;
        Ok(source)
    }

    /// What the newest deploy under way installs, else what serves: a change of variables is on top of that.
    async fn newest(&self) -> Result<Option<Source>, ApiError> {
        if let Some(under_way) = self.state.deploys.values().next_back() {
            return Ok(Some(under_way.source()));
        }
        let active = self.world.routing.now().active(&self.state.app.name).cloned();
        match active {
            Some(version) => Ok(Some(self.source_of(&version).await?)),
            None => Ok(None),
        }
    }

    async fn source_of(&self, version: &VersionId) -> Result<Source, ApiError> {
        let found: Option<VersionRecord> = ledger::find(&*self.world.store, version.as_str()).await?;
        let of_app = found.filter(|found| found.app == self.state.app.name);
        let found = of_app.ok_or_else(|| {
            let message = format!("app {} has no version {version}", self.state.app.name);
            ApiError::new(ErrorCode::NotFound, message)
                .field("version")
                .remedy(format!("miren app versions -a {}", self.state.app.name))
        })?;
        Ok(Source {
            artifact: found.artifact,
            variables: found.variables,
            version: Some(found.id),
        })
    }

    fn nothing_deployed(&self) -> ApiError {
        let message = format!(
            "app {} has no version whose variables could change",
            self.state.app.name
        );
        ApiError::new(ErrorCode::NotFound, message).remedy("deploy its folder first")
    }

    /// The services that a source runs.
    pub(super) async fn services(&self, source: &Source) -> Result<BTreeMap<String, Service>, ApiError> {
        spec::load(&self.world.artifacts, &source.artifact, source.variables.clone()).await
    }

    /// The version that a deploy installs: the one there was, for this task to write from now on, or a new one.
    pub(super) async fn version(&mut self, seq: u64, source: &Source) -> Result<VersionRecord, ApiError> {
        if let Some(id) = &source.version {
            let key = crate::store::Key::new(VersionRecord::KIND, id.as_str());
            let record = self.world.store.get(&key).await.map_err(LoadError::from)?;
            let gone = || ApiError::new(ErrorCode::NotFound, format!("version {id} was removed meanwhile"));
            return Ok(self.ledger.adopt(&record.ok_or_else(gone)?)?);
        }
        Ok(VersionRecord {
            id: VersionId::generate(&self.state.app.name),
            app: self.state.app.name.clone(),
            seq,
            created_at: self.world.clock.now(),
            artifact: source.artifact.clone(),
            variables: source.variables.clone(),
            pools: BTreeMap::new(),
        })
    }
}

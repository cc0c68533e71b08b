//! Decides what a deploy installs: which folder, with which variables, as a new version or as one there was.

use crate::app::task::book::Book;
use crate::app::task::publishing::Publishing;
use crate::app::task::supply::Supply;
use crate::app::{spec, variables};
use crate::images::Pins;
use crate::ledger;
use crate::record::{Content, Settings, Source, VersionRecord, size};
use miren_api::app_file::{Service, dockerfile_of};
use miren_api::deploy::DeployRequest;
use miren_api::id::VersionId;
use miren_api::{ApiError, ErrorCode};
use miren_image::{Digest, Reference};
use std::collections::BTreeMap;

/// What requests mean, told from what is known of the app.
pub(in crate::app::task) struct Sources<'t> {
    pub book: &'t Book,
    pub supply: &'t Supply,
    pub publishing: &'t Publishing,
}

impl Sources<'_> {
    /// Settles what a request means, before it gets its number. Nothing is changed.
    ///
    /// # Errors
    /// With everything that would make the deploy fail before its sandboxes start.
    pub async fn source(&self, request: &DeployRequest, read: Option<Box<Settings>>) -> Result<Source, ApiError> {
        let (source, services) = self.content(request, read).await?;
        // Each is kept with its pool.
        services.values().try_for_each(size::check)?;
        let mounts = services.into_values().flat_map(|service| service.disks).collect();
        let disks = self.supply.executor.disks();
        disks.check(&self.book.state.app.name, mounts).await?;
        Ok(source)
    }

    /// As [`Self::source`], whatever disks it needs; with the services it runs.
    pub async fn content(
        &self,
        request: &DeployRequest,
        read: Option<Box<Settings>>,
    ) -> Result<(Source, BTreeMap<String, Service>), ApiError> {
        if let Some(image) = request.image.as_deref().filter(|image| dockerfile_of(image).is_some()) {
            let error = ApiError::new(ErrorCode::InvalidValue, format!("{image:?} is no name of an image"));
            return Err(error.field("image").remedy("a name like registry.example.com/shop:v1"));
        }
        let changes_variables = !request.env.is_empty() || !request.service_env.is_empty();
        let brings_content = request.artifact.is_some() || request.image.is_some();
        let base = match (brings_content, &request.version) {
            (true, Some(_)) => {
                let message = "a deploy installs a folder or an image, or a version, not both";
                return Err(ApiError::new(ErrorCode::InvalidRequest, message).field("version"));
            }
            (false, Some(version)) => Some(self.source_of(version).await?),
            (true, None) => self.newest().await?,
            (false, None) if changes_variables => Some(self.newest().await?.ok_or_else(|| self.nothing_deployed())?),
            (false, None) => {
                let message = "there is nothing to deploy: no folder, no image, no version and no changed variable";
                return Err(ApiError::new(ErrorCode::InvalidRequest, message).field("artifact"));
            }
        };
        let same = base.as_ref().and_then(|base| base.version.clone());
        let settings = base.as_ref().and_then(|base| base.settings.clone());
        let (kept, content) = base.map(|base| (base.variables, base.content)).unzip();
        let brought = Content {
            artifact: request.artifact.clone().unwrap_or_default(),
            image: request.image.clone(),
            images: Pins::new(),
        };
        let mut source = Source {
            content: content.filter(|_| !brings_content).unwrap_or(brought),
            variables: kept.unwrap_or_default().with(request),
            version: same.filter(|_| request.version.is_some() && !changes_variables),
            settings: match brings_content {
                true => read.map(|read| *read),
                false => settings,
            },
        };
        let settings = self.supply.settings(&source).await?;
        let services = spec::run(&settings, &source.variables).services;
        source.settings = Some(settings);
        variables::check(request, &services)?;
        variables::check_required(&self.book.state.app.name, &services)?;
        self.name_images(&mut source.content, &services).await?;
        Ok((source, services))
    }

    /// Notes which images are needed; those of a version that is there keep their digests.
    async fn name_images(&self, content: &mut Content, services: &BTreeMap<String, Service>) -> Result<(), ApiError> {
        let refused = |why: String, remedy: &str| {
            let error = ApiError::new(ErrorCode::InvalidValue, why).field("image");
            Err(error.remedy(remedy))
        };
        for name in services.values().filter_map(Service::any_image) {
            if dockerfile_of(name).is_some() {
                // Whether it can be built is seen when it is.
            } else if let Ok(digest) = name.parse::<Digest>() {
                match self.supply.images.find(digest).await {
                    Ok(Some(_)) => {}
                    Ok(None) => return refused(format!("there is no image {name}"), "send it with --image-archive"),
                    Err(error) => return refused(error.to_string(), "send it again with --image-archive"),
                }
            } else if let Err(error) = name.parse::<Reference>() {
                return refused(error.to_string(), "a name like registry.example.com/shop:v1");
            }
            content.images.entry(name.to_owned()).or_default();
        }
        Ok(())
    }

    /// What the newest deploy under way installs, else what serves: a change of variables is on top of that.
    async fn newest(&self) -> Result<Option<Source>, ApiError> {
        if let Some(under_way) = self.book.state.deploys.values().next_back() {
            return Ok(Some(under_way.source()));
        }
        let active = self.publishing.now().active(&self.book.state.app.name).cloned();
        match active {
            Some(version) => Ok(Some(self.source_of(&version).await?)),
            None => Ok(None),
        }
    }

    async fn source_of(&self, version: &VersionId) -> Result<Source, ApiError> {
        let found: Option<VersionRecord> = ledger::find(&*self.supply.store, version.as_str()).await?;
        let of_app = found.filter(|found| found.app == self.book.state.app.name);
        let found = of_app.ok_or_else(|| {
            let message = format!("app {} has no version {version}", self.book.state.app.name);
            ApiError::new(ErrorCode::NotFound, message)
                .field("version")
                .remedy(format!("miren app versions -a {}", self.book.state.app.name))
        })?;
        Ok(Source {
            content: found.content,
            variables: found.variables,
            // A preview stays one: what is deployed of it is another version (E10).
            version: found.preview.is_none().then_some(found.id),
            settings: None,
        })
    }

    fn nothing_deployed(&self) -> ApiError {
        let message = format!(
            "app {} has no version whose variables could change",
            self.book.state.app.name
        );
        ApiError::new(ErrorCode::NotFound, message).remedy("deploy its folder first")
    }
}

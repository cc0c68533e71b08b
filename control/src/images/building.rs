//! Decides what a build is given of this node, and how its image gets into the store.

use super::{FetchError, Fetcher};
use crate::executor::Executor;
use miren_api::app_file::Builder;
use miren_api::id::AppName;
use miren_build::{Order, Outside};
use miren_image::Image;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// What is to be built.
pub(super) struct Wanted<'w> {
    pub(super) app: &'w AppName,
    /// Unpacked.
    pub(super) folder: PathBuf,
    pub(super) dockerfile: &'w str,
    /// None: the first that there is.
    pub(super) builder: Option<Builder>,
}

impl Fetcher {
    /// Throws away what builds of an app left for its next one.
    pub async fn forget_builds(&self, app: &AppName) -> io::Result<()> {
        let (builds, app) = (Arc::clone(&self.builds), app.clone());
        let forgetting = tokio::task::spawn_blocking(move || builds.forget(app.as_str()));
        forgetting.await.map_err(io::Error::other)?
    }

    /// Builds a Dockerfile; `tell` gets what the builder writes.
    pub(super) async fn build(
        &self,
        Wanted {
            app,
            folder,
            dockerfile,
            builder,
        }: Wanted<'_>,
        executor: &dyn Executor,
        tell: &(dyn Fn(String) + Send + Sync),
    ) -> Result<Image, FetchError> {
        let outlet = executor.outlet().await.map_err(FetchError::Outlet)?;
        let outside = outlet.as_ref().map(|outlet| Outside {
            network: outlet.network.clone(),
            cgroup: outlet.cgroup.clone(),
            resolvers: outlet.resolvers.clone(),
        });
        let order = Order {
            app: app.as_str(),
            folder: &folder,
            dockerfile,
            builder,
            outside: outside.as_ref(),
        };
        let archive = self.builds.build(order, tell).await?;
        drop(outlet);
        tell("taking in what was built".to_owned());
        let file = File::open(archive.path()).map_err(FetchError::Archive)?;
        Ok(self.store.import(file, None, &|_| ()).await?)
    }
}

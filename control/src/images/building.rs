//! Decides what a build is given of this node, and how its image gets into the store.

use super::{FetchError, Fetcher};
use crate::app::spec;
use crate::executor::Executor;
use miren_build::{Order, Outside};
use miren_image::Image;
use std::fs::File;
use std::path::Path;

impl Fetcher {
    /// Builds a Dockerfile of an unpacked folder; `tell` gets what the builder writes.
    pub(super) async fn build(
        &self,
        folder: &Path,
        dockerfile: &str,
        executor: &dyn Executor,
        tell: &(dyn Fn(String) + Send + Sync),
    ) -> Result<Image, FetchError> {
        let settings = spec::build(folder.to_owned()).await;
        let settings = settings.map_err(|error| FetchError::Settings(error.message))?;
        let outlet = executor.outlet().await.map_err(FetchError::Outlet)?;
        let outside = outlet.as_ref().map(|outlet| Outside {
            network: outlet.network.clone(),
            cgroup: outlet.cgroup.clone(),
            resolvers: outlet.resolvers.clone(),
        });
        let order = Order {
            folder,
            dockerfile,
            builder: settings.builder,
            outside: outside.as_ref(),
        };
        let archive = self.builds.build(order, tell).await?;
        drop(outlet);
        tell("taking in what was built".to_owned());
        let file = File::open(archive.path()).map_err(FetchError::Archive)?;
        Ok(self.store.import(file, None, &|_| ()).await?)
    }
}

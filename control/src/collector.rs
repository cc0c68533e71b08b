//! Decides which folders and images are kept: those of pools, of deploys and runs under way and of versions.

use crate::artifact::Artifacts;
use crate::images::Fetcher;
use crate::ledger::{self, LoadError};
use crate::record::{Content, DeployRecord, PoolRecord, RunRecord, VersionRecord};
use crate::store::{Selection, Store};
use miren_image::{Digest, ImageError};
use std::collections::HashSet;
use std::time::Duration;

/// How long a folder is kept that no deploy has named yet.
pub const UPLOAD_GRACE: Duration = Duration::from_secs(3600);

/// Why nothing was collected.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    #[error(transparent)]
    Records(#[from] LoadError),
    #[error(transparent)]
    Images(#[from] ImageError),
    #[error("removing folders: {0}")]
    Artifacts(std::io::Error),
}

/// What must stay.
#[derive(Debug, Default, PartialEq, Eq)]
struct Needed {
    artifacts: HashSet<String>,
    images: HashSet<Digest>,
}

impl Needed {
    fn add(&mut self, content: &Content) {
        self.artifacts.insert(content.artifact.clone());
        self.images.extend(content.images.values().flatten());
    }
}

/// Removes what nothing needs any more. `grace`: how old a folder must be that no record names.
pub async fn collect(
    store: &dyn Store,
    images: &Fetcher,
    artifacts: &Artifacts,
    grace: Duration,
) -> Result<(), CollectError> {
    let needed = needed(store).await?;
    let images = images.store.collect(&needed.images).await?;
    let (artifacts, keep) = (artifacts.clone(), needed.artifacts);
    let removing = tokio::task::spawn_blocking(move || artifacts.remove_except(&keep, grace)).await;
    let folders = removing.map_err(std::io::Error::other).and_then(|removed| removed);
    let folders = folders.map_err(CollectError::Artifacts)?;
    if folders + images.images.len() > 0 {
        let (images, bytes) = (images.images.len(), images.bytes);
        tracing::info!(folders, images, bytes, "removed what no version needs any more");
    }
    Ok(())
}

/// In the order in which a name is handed on, from deploys to versions to pools: so none is missed on its way.
async fn needed(store: &dyn Store) -> Result<Needed, LoadError> {
    let mut needed = Needed::default();
    let deploys: Vec<DeployRecord> = ledger::list(store, Selection::All).await?;
    for deploy in deploys.iter().filter(|record| !record.deploy.status.is_final()) {
        needed.add(&deploy.source().content);
    }
    for version in ledger::list::<VersionRecord>(store, Selection::All).await? {
        needed.add(&version.content);
    }
    let runs = ledger::list::<RunRecord>(store, Selection::All).await?;
    for run in runs.into_iter().filter(|run| !run.is_over()) {
        needed.artifacts.insert(run.spec.artifact);
        needed.images.extend(run.spec.image);
    }
    for pool in ledger::list::<PoolRecord>(store, Selection::All).await? {
        needed.artifacts.insert(pool.artifact);
        needed.images.extend(pool.image);
    }
    Ok(needed)
}

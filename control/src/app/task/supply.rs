//! Decides where what deploys and previews install comes from: the folders, the images and the records of versions there were.

use super::book::Book;
use super::fetching::Fetches;
use super::last_words::LastWords;
use super::released::Released;
use crate::app::spec::{self, Run};
use crate::app::{Event, World};
use crate::executor::Executor;
use crate::images::Fetcher;
use crate::ledger::LoadError;
use crate::output::Outputs;
use crate::record::{Settings, Source, Stored, VersionRecord};
use crate::store::{Key, Store};
use miren_api::id::VersionId;
use miren_api::{ApiError, ErrorCode};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::mpsc;

/// What an app's deploys and previews are made of.
pub(super) struct Supply {
    pub store: Arc<dyn Store>,
    pub executor: Arc<dyn Executor>,
    pub images: Arc<Fetcher>,
    pub artifacts: PathBuf,
    pub outputs: Arc<Outputs>,
    /// To the task itself, for what it waits for outside.
    pub events: mpsc::UnboundedSender<Event>,
    pub fetches: Fetches,
    pub last_words: LastWords,
    pub released: Released,
}

impl Supply {
    pub fn new(world: &World, events: mpsc::UnboundedSender<Event>) -> Self {
        Self {
            store: Arc::clone(&world.store),
            executor: Arc::clone(&world.executor),
            images: Arc::clone(&world.images),
            artifacts: world.artifacts.clone(),
            outputs: Arc::clone(&world.outputs),
            events,
            fetches: Fetches::default(),
            last_words: LastWords::default(),
            released: Released::default(),
        }
    }

    /// What the folder of a source says.
    pub async fn settings(&self, source: &Source) -> Result<Settings, ApiError> {
        spec::settled(&self.artifacts, source).await
    }

    /// What a source runs: as its folder was read when it was accepted.
    pub async fn what_runs(&self, source: &Source) -> Result<Run, ApiError> {
        let settings = self.settings(source).await?;
        Ok(spec::run(&settings, &source.variables))
    }

    /// The version that a deploy installs: the one there was, for this task to write from now on, or a new one.
    pub async fn version(&self, book: &mut Book, seq: u64, source: &Source) -> Result<VersionRecord, ApiError> {
        if let Some(id) = &source.version {
            let key = Key::new(VersionRecord::KIND, id.as_str());
            let record = self.store.get(&key).await.map_err(LoadError::from)?;
            let gone = || ApiError::new(ErrorCode::NotFound, format!("version {id} was removed meanwhile"));
            return Ok(book.ledger.adopt(&record.ok_or_else(gone)?)?);
        }
        let deploy = book.state.deploys.get(&seq);
        // What its release command ran in is what is made now.
        let released = deploy.and_then(|record| Some(record.release.as_ref()?.version.clone()));
        Ok(VersionRecord {
            id: released.unwrap_or_else(|| VersionId::generate(book.name())),
            app: book.name().clone(),
            seq,
            created_at: book.now(),
            content: source.content.clone(),
            variables: source.variables.clone(),
            pools: BTreeMap::new(),
            preview: None,
        })
    }
}

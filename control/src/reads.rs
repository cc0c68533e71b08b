//! Decides what of the store is read to be shown: records of versions and deploys that no task keeps in memory.

use crate::ledger::{self, LoadError};
use crate::record::{BY_APP, DeployRecord, VersionRecord};
use crate::store::{Selection, Store};
use miren_api::id::{AppName, VersionId};
use std::sync::Arc;

mod states;

pub use states::{DeployState, DeployStates};

/// Reads what is shown, and writes nothing. Cheap to clone.
#[derive(Clone)]
pub struct Reads {
    store: Arc<dyn Store>,
}

impl Reads {
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    /// Every version of an app.
    ///
    /// # Errors
    /// When they cannot be read or understood; so of every read.
    pub async fn versions(&self, app: &AppName) -> Result<Vec<VersionRecord>, LoadError> {
        ledger::list(&*self.store, of(app)).await
    }

    pub async fn version(&self, id: &VersionId) -> Result<Option<VersionRecord>, LoadError> {
        ledger::find(&*self.store, id.as_str()).await
    }

    /// Every deploy of an app, ended ones included.
    pub async fn deploys(&self, app: &AppName) -> Result<Vec<DeployRecord>, LoadError> {
        ledger::list(&*self.store, of(app)).await
    }

    /// Deploys whose id begins like that.
    pub async fn deploys_like(&self, beginning: &str) -> Result<Vec<DeployRecord>, LoadError> {
        ledger::list(&*self.store, Selection::Prefix(beginning.to_owned())).await
    }
}

fn of(app: &AppName) -> Selection {
    Selection::Index(BY_APP, app.to_string())
}

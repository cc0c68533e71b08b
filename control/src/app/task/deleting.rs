//! Decides how an app goes: out of routing first, then its sandboxes drain, then its disks and its records are removed.

use super::{App, Task};
use crate::record::{BY_APP, DeployRecord, Stored, VersionRecord};
use crate::routing::Change;
use crate::store::Selection;
use miren_api::ApiError;
use miren_api::ErrorCode;
use miren_api::deploy::DeployStatus;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// How long the clean-ups of its sandboxes, which give back the disks, are waited for at a time.
const LAST_CLEAN_UP: Duration = Duration::from_secs(5);

impl Task {
    pub(super) async fn delete(&mut self, keep_disks: bool, reply: oneshot::Sender<Result<App, ApiError>>) {
        if !self.exists {
            let name = &self.state.app.name;
            let _ = reply.send(Err(ApiError::new(
                ErrorCode::NotFound,
                format!("there is no app {name}"),
            )));
            return;
        }
        self.state.app.deleting = true;
        self.state.app.keep_disks |= keep_disks;
        self.ledger.put(&self.state.app);
        let in_flight: Vec<u64> = self.state.deploys.keys().copied().collect();
        for seq in in_flight {
            self.end(seq, DeployStatus::Failed, Some("the app was deleted".into()));
        }
        for seq in self.making.seqs() {
            self.fail_preview(seq, ApiError::new(ErrorCode::Conflict, "the app was deleted"));
        }
        if self.commit().await {
            self.withdraw().await;
        }
        self.deletions.push(reply);
    }

    /// Takes the app out of routing, and every claim off its pools once the proxies know.
    pub(super) async fn withdraw(&mut self) {
        match self
            .world
            .routing
            .submit(Change::RemoveApp(self.state.app.name.clone()))
            .await
        {
            Ok(generation) => self.world.desk.acknowledged(generation).await,
            Err(error) => {
                tracing::error!(app = %self.state.app.name, %error, "taking a deleted app out of routing failed");
            }
        }
        for id in self.state.drop_references(|_, _| true) {
            if let Some(pool) = self.state.pools.get(&id) {
                self.ledger.put(pool);
            }
        }
    }

    /// Says that the app drains, to everyone who asked for it.
    pub(super) fn answer_deletions(&mut self) {
        if self.deletions.is_empty() {
            return;
        }
        let app = self.view.borrow().app(None, &[], Vec::new());
        for reply in self.deletions.drain(..) {
            let _ = reply.send(Ok(app.clone()));
        }
    }

    pub(super) fn is_gone(&self) -> bool {
        self.state.app.deleting && !self.state.is_live()
    }

    /// Removes the disks and the records of the app, in this order. False: it failed, and is tried again soon; a restart goes
    /// on with it.
    pub(super) async fn remove(&mut self) -> bool {
        self.remove_disks().await && self.remove_records().await
    }

    async fn remove_disks(&self) -> bool {
        let app = &self.state.app;
        if app.keep_disks {
            return true;
        }
        let removing = self.world.executor.disks().delete_all(&app.name);
        let error = match timeout(LAST_CLEAN_UP, removing).await {
            Ok(Ok(())) => return true,
            Ok(Err(error)) => error.message,
            Err(_) => format!("its sandboxes still have them after {LAST_CLEAN_UP:?}"),
        };
        tracing::error!(app = %app.name, error, "removing a deleted app's disks failed");
        false
    }

    /// Removes every record of the app. False: it failed.
    async fn remove_records(&mut self) -> bool {
        let of_app = || Selection::Index(BY_APP, self.state.app.name.to_string());
        let versions = self.ledger.load::<VersionRecord>(of_app()).await;
        let deploys = self.ledger.load::<DeployRecord>(of_app()).await;
        let (versions, deploys) = match (versions, deploys) {
            (Ok(versions), Ok(deploys)) => (versions, deploys),
            (Err(error), _) | (_, Err(error)) => {
                tracing::error!(app = %self.state.app.name, %error, "removing a deleted app's records failed");
                return false;
            }
        };
        let keys = versions.iter().map(Stored::key).chain(deploys.iter().map(Stored::key));
        keys.for_each(|key| self.ledger.delete(key));
        self.state
            .sandboxes()
            .for_each(|sandbox| self.ledger.delete(sandbox.key()));
        self.state
            .pools
            .values()
            .for_each(|pool| self.ledger.delete(pool.key()));
        self.ledger.delete(self.state.app.key());
        if !self.commit().await {
            return false;
        }
        self.exists = false;
        true
    }
}

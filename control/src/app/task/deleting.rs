//! Decides how an app goes: out of routing first, then its sandboxes drain, then its disks and its records are removed; what is
//! deployed under its name meanwhile waits for that.

use super::{App, Command, Task};
use crate::clock::{later, shifted};
use crate::record::{BY_APP, DeployRecord, Stored, VersionRecord};
use crate::routing::Change;
use crate::store::Selection;
use jiff::Timestamp;
use miren_api::ApiError;
use miren_api::ErrorCode;
use miren_api::deploy::DeployStatus;
use miren_sandbox::Budgets;
use std::collections::VecDeque;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// How long the clean-ups of its sandboxes, which give back the disks, are waited for at a time.
const LAST_CLEAN_UP: Duration = Duration::from_secs(5);
/// What may wait for the end of an app.
const WAITING: usize = 64;
/// How long it waits on top of what the app's sandboxes may take to drain and stop.
const END_SLACK: Duration = Duration::from_secs(30);

/// What the next app of a name is asked for while the one there is goes, in order, each until a moment of
/// [`crate::clock::Clock::steady`].
#[derive(Default)]
pub(super) struct Waiting {
    of: VecDeque<(Timestamp, Command)>,
}

impl Waiting {
    pub(super) fn into_commands(self) -> Vec<Command> {
        self.of.into_iter().map(|(_, command)| command).collect()
    }
}

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

    /// The name is free when the app is gone: what makes the next one waits for that, and so does what comes after it.
    pub(super) fn wait_for_end(&mut self, command: Command) {
        let of = &mut self.waiting.of;
        of.retain(|(_, command)| command.is_awaited());
        let makes_one = command.makes_app() || of.iter().any(|(_, command)| command.makes_app());
        if !makes_one || self.stopping.is_some() || of.len() >= WAITING {
            return command.refuse(self.still_there());
        }
        let longest = self.state.pools.values().map(|pool| Budgets::of(&pool.spec).total());
        let patience = longest.max().unwrap_or_default().saturating_add(END_SLACK);
        let until = later(self.world.clock.steady(), patience);
        self.waiting.of.push_back((until, command));
    }

    /// Refuses what has waited for too long; returns when to look again.
    pub(super) fn give_up_waiting(&mut self) -> Option<Timestamp> {
        let now = self.world.clock.steady();
        let (over, left): (VecDeque<_>, VecDeque<_>) = std::mem::take(&mut self.waiting.of)
            .into_iter()
            .partition(|(until, _)| *until <= now);
        self.waiting.of = left;
        for (_, command) in over {
            command.refuse(self.still_there());
        }
        let next = self.waiting.of.iter().map(|(until, _)| *until).min();
        next.map(|until| shifted(until, self.offset))
    }

    fn still_there(&self) -> ApiError {
        let name = &self.state.app.name;
        let live = self
            .state
            .sandboxes()
            .filter(|sandbox| !sandbox.state.is_terminal())
            .count();
        let left = match live {
            0 => "its disks and records are being removed".to_owned(),
            live => format!("{live} of its sandboxes have not ended"),
        };
        ApiError::new(ErrorCode::Conflict, format!("app {name} is being deleted: {left}")).remedy(format!(
            "deploy its folder when it is gone; look with `miren sandbox list -a {name}`"
        ))
    }

    pub(super) fn is_gone(&self) -> bool {
        self.state.app.deleting && !self.state.is_live()
    }

    /// Removes what was built of it, the disks and the records of the app, in this order. False: it failed, and is tried again soon; a restart goes
    /// on with it.
    pub(super) async fn remove(&mut self) -> bool {
        self.forget_builds().await && self.remove_disks().await && self.remove_records().await
    }

    /// Layers that steps of its Dockerfile wrote are for no other app of its name.
    async fn forget_builds(&self) -> bool {
        let app = &self.state.app.name;
        let Err(error) = self.world.images.forget_builds(app).await else {
            return true;
        };
        tracing::error!(%app, %error, "throwing away the layers of a deleted app failed");
        false
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
        self.state.pools.keys().for_each(|id| self.world.node_faults.clear(id));
        self.ledger.delete(self.state.app.key());
        if !self.commit().await {
            return false;
        }
        self.exists = false;
        true
    }
}

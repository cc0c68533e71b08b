//! Decides how an app goes: out of routing first, then its sandboxes drain, then what was built of it, its disks and its records are
//! removed; what is deployed under its name meanwhile waits for that.

use super::book::Book;
use super::publishing::Publishing;
use super::supply::Supply;
use super::{Command, WRITE_AGAIN};
use crate::app::Event;
use crate::clock::{later, shifted};
use crate::executor::Executor;
use crate::images::Fetcher;
use crate::record::{BY_APP, DeployRecord, Stored, VersionRecord};
use crate::routing::Change;
use crate::store::Selection;
use jiff::Timestamp;
use miren_api::id::AppName;
use miren_api::resource::App;
use miren_api::{ApiError, ErrorCode};
use miren_sandbox::Budgets;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

/// How long the clean-ups of its sandboxes, which give back the disks, are waited for before it is said.
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

/// How far the end of an app is. Only in memory: each step can be done twice, and a restart begins anew.
#[derive(Default)]
enum Stage {
    /// Routes may lead to it.
    #[default]
    Routed,
    /// None does; some proxies may not know.
    Unrouted,
    /// Every proxy knows: its sandboxes drain.
    Drains,
    /// None of them is left: what was built of it and its disks are removed.
    Clears(#[expect(dead_code, reason = "held to be dropped")] AbortOnDropHandle<()>),
    /// Only its records are left.
    Cleared,
}

/// The end of an app, and who waits for it.
#[derive(Default)]
pub(super) struct Leaving {
    stage: Stage,
    replies: Vec<oneshot::Sender<Result<App, ApiError>>>,
    pub waiting: Waiting,
}

/// What comes next of an app that goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Look again at this moment, or when something has happened.
    Wait(Option<Timestamp>),
    /// Nothing is left of it.
    Gone,
}

impl Leaving {
    /// Answers when the app drains.
    pub fn answer(&mut self, reply: oneshot::Sender<Result<App, ApiError>>) {
        self.replies.push(reply);
    }

    /// No route leads to it, and every live proxy knows.
    pub fn withdrawn(&mut self) {
        if matches!(self.stage, Stage::Unrouted) {
            self.stage = Stage::Drains;
        }
    }

    /// What was built of it and its disks are gone.
    pub fn cleared(&mut self) {
        if matches!(self.stage, Stage::Clears(_)) {
            self.stage = Stage::Cleared;
        }
    }
}

/// The end of an app, over its records.
pub(super) struct Deletion<'t> {
    pub book: &'t mut Book,
    pub supply: &'t Supply,
    pub publishing: &'t Publishing,
    pub leaving: &'t mut Leaving,
}

impl Deletion<'_> {
    /// Takes an app that goes as far as it goes now.
    pub async fn advance(&mut self) -> Next {
        loop {
            match &self.leaving.stage {
                _ if !self.book.state.app.deleting => return Next::Wait(None),
                Stage::Routed => {
                    if !self.withdraw().await {
                        return self.again();
                    }
                    self.leaving.stage = Stage::Unrouted;
                }
                Stage::Unrouted | Stage::Clears(_) => return Next::Wait(None),
                Stage::Drains => {
                    self.book.drop_references(|_, _| true);
                    if self.book.state.is_live() {
                        return Next::Wait(None);
                    }
                    self.leaving.stage = Stage::Clears(self.clear());
                }
                Stage::Cleared => {
                    return match self.remove_records().await {
                        true => Next::Gone,
                        false => self.again(),
                    };
                }
            }
        }
    }

    fn again(&self) -> Next {
        Next::Wait(Some(later(self.book.now(), WRITE_AGAIN)))
    }

    /// Takes the app out of routing; an event tells when the proxies know. False: it failed, and is tried again.
    async fn withdraw(&self) -> bool {
        match self
            .publishing
            .submit(Change::RemoveApp(self.book.name().clone()))
            .await
        {
            Ok(generation) => {
                self.publishing
                    .when_acknowledged(generation, Duration::ZERO, Event::Withdrawn);
                true
            }
            Err(error) => {
                tracing::error!(app = %self.book.name(), %error, "taking a deleted app out of routing failed; trying again");
                false
            }
        }
    }

    /// Removes what was built of it and its disks, beside the task; an event tells when they are gone.
    fn clear(&self) -> AbortOnDropHandle<()> {
        let (app, keep_disks) = (self.book.name().clone(), self.book.state.app.keep_disks);
        let (images, executor) = (Arc::clone(&self.supply.images), Arc::clone(&self.supply.executor));
        let events = self.supply.events.clone();
        AbortOnDropHandle::new(miren_log::spawn("the clean-up of a deleted app", async move {
            while !(forget_builds(&images, &app).await && (keep_disks || remove_disks(&*executor, &app).await)) {
                tokio::time::sleep(WRITE_AGAIN).await;
            }
            // A task that is gone needs to know nothing.
            let _ = events.send(Event::Cleared);
        }))
    }

    /// Says that the app drains, to everyone who asked for it.
    pub fn answer_deletions(&mut self) {
        if self.leaving.replies.is_empty() || matches!(self.leaving.stage, Stage::Routed | Stage::Unrouted) {
            return;
        }
        let app = self.book.shown().app(None, &[], Vec::new());
        for reply in self.leaving.replies.drain(..) {
            let _ = reply.send(Ok(app.clone()));
        }
    }

    /// The name is free when the app is gone: what makes the next one waits for that, and so does what comes after it.
    pub fn wait_for_end(&mut self, command: Command) {
        let of = &mut self.leaving.waiting.of;
        of.retain(|(_, command)| command.is_awaited());
        let makes_one = command.makes_app() || of.iter().any(|(_, command)| command.makes_app());
        if !makes_one || self.book.stopping.is_some() || of.len() >= WAITING {
            return command.refuse(self.still_there());
        }
        let pools = self.book.state.pools.values();
        let longest = pools.map(|pool| Budgets::of(&pool.spec).total());
        let patience = longest.max().unwrap_or_default().saturating_add(END_SLACK);
        let until = later(self.book.clock.steady(), patience);
        self.leaving.waiting.of.push_back((until, command));
    }

    /// Refuses what has waited for too long; returns when to look again.
    pub fn give_up_waiting(&mut self) -> Option<Timestamp> {
        let now = self.book.clock.steady();
        let (over, left): (VecDeque<_>, VecDeque<_>) = std::mem::take(&mut self.leaving.waiting.of)
            .into_iter()
            .partition(|(until, _)| *until <= now);
        self.leaving.waiting.of = left;
        for (_, command) in over {
            command.refuse(self.still_there());
        }
        let next = self.leaving.waiting.of.iter().map(|(until, _)| *until).min();
        next.map(|until| shifted(until, self.book.offset))
    }

    fn still_there(&self) -> ApiError {
        let name = self.book.name();
        let live = self
            .book
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

    /// Removes every record of the app. False: it failed.
    async fn remove_records(&mut self) -> bool {
        let app = self.book.name().to_string();
        let of_app = || Selection::Index(BY_APP, app.clone());
        let versions = self.book.ledger.load::<VersionRecord>(of_app()).await;
        let deploys = self.book.ledger.load::<DeployRecord>(of_app()).await;
        let (versions, deploys) = match (versions, deploys) {
            (Ok(versions), Ok(deploys)) => (versions, deploys),
            (Err(error), _) | (_, Err(error)) => {
                tracing::error!(app = %self.book.name(), %error, "removing a deleted app's records failed");
                return false;
            }
        };
        let runs = self.book.state.runs.values().map(Stored::key);
        let keys = versions.iter().map(Stored::key).chain(deploys.iter().map(Stored::key));
        keys.chain(runs)
            .collect::<Vec<_>>()
            .into_iter()
            .for_each(|key| self.book.ledger.delete(key));
        let Book {
            state, ledger, faults, ..
        } = &mut *self.book;
        state.sandboxes().for_each(|sandbox| ledger.delete(sandbox.key()));
        for (id, pool) in &state.pools {
            ledger.delete(pool.key());
            faults.clear(id);
        }
        ledger.delete(state.app.key());
        if !self.book.commit().await {
            return false;
        }
        self.book.exists = false;
        true
    }
}

/// Layers that steps of its Dockerfile wrote are for no other app of its name.
async fn forget_builds(images: &Fetcher, app: &AppName) -> bool {
    let Err(error) = images.forget_builds(app).await else {
        return true;
    };
    tracing::error!(%app, %error, "throwing away the layers of a deleted app failed; trying again");
    false
}

async fn remove_disks(executor: &dyn Executor, app: &AppName) -> bool {
    let error = match timeout(LAST_CLEAN_UP, executor.disks().delete_all(app)).await {
        Ok(Ok(())) => return true,
        Ok(Err(error)) => error.message,
        Err(_) => format!("its sandboxes still have them after {LAST_CLEAN_UP:?}"),
    };
    tracing::error!(%app, error, "removing a deleted app's disks failed; trying again");
    false
}

//! Decides how a preview ends: out of routing, then its claims, then its record; each step saved before the next.

use crate::app::Event;
use crate::app::pool::earliest;
use crate::app::preview::{self, Standing, Upkeep, upkeep};
use crate::app::task::{Task, WRITE_AGAIN};
use crate::clock::{later, since};
use crate::lease::SILENCE;
use crate::record::{Stored, VersionRecord};
use crate::routing::Change;
use jiff::Timestamp;
use miren_api::id::VersionId;
use std::time::Duration;

impl Task {
    /// Takes every preview that is there as far as it goes now; returns when to look again.
    pub(in crate::app::task) async fn keep_previews(&mut self) -> Option<Timestamp> {
        let mut wake = None;
        let made = self.state.previews.keys().filter(|id| !self.making.makes(id));
        for id in made.cloned().collect::<Vec<_>>() {
            wake = earliest(wake, self.keep_preview(&id).await);
        }
        wake
    }

    async fn keep_preview(&mut self, id: &VersionId) -> Option<Timestamp> {
        loop {
            let now = self.world.clock.wall();
            let record = self.state.previews.get(id)?;
            match self.upkeep(record, now) {
                // A date of the wall clock, as far ahead as that says.
                Upkeep::Keep(until) => return Some(later(self.now(), since(until, now))),
                Upkeep::Wait => return None,
                Upkeep::Withdraw => self.ask_proxies(id, Duration::ZERO),
                Upkeep::Release => {
                    let changed = self.state.drop_references(|version, _| version == id);
                    self.put_pools(&changed);
                    // Its pools are planned anew at once.
                    return Some(self.now());
                }
                Upkeep::Forget => return self.forget_preview(id).await,
            }
        }
    }

    fn upkeep(&self, record: &VersionRecord, now: Timestamp) -> Upkeep {
        let routed = self.world.routing.now();
        let label = record.preview.as_ref().map(|preview| preview.label.as_str());
        let is_going = |pool| self.state.pools.get(pool).is_some_and(|pool| pool.is_retiring());
        let standing = Standing {
            version: &record.id,
            label: label.and_then(|label| routed.table.label_of(&record.app, label)),
            unrouted: self.making.unrouted.get(&record.id).copied(),
            refers: self.state.has_references(&record.id),
            clearing: record.pools.values().any(is_going),
        };
        upkeep(standing, now)
    }

    /// Lets labels go whose time is long over. What fails is tried again at the next turn.
    pub(in crate::app::task) async fn forget_labels(&self) {
        let (app, now) = (&self.state.app.name, self.world.clock.wall());
        let table = self.world.routing.now().table;
        let most = self.world.policy.previews.per_app;
        for route in preview::forgotten(table.labels_of(app), most, now) {
            let change = Change::Unlabel {
                app: app.clone(),
                label: route.label.clone(),
                version: route.version.clone(),
            };
            if let Err(error) = self.world.routing.submit(change).await {
                self.world.metrics.store_errors.inc();
                tracing::warn!(%app, label = route.label, %error, "an old label stays; trying again");
            }
        }
    }

    /// Tells itself when every live proxy knows that no label leads to a version; after `grace`, in which proxies may come back.
    fn ask_proxies(&mut self, id: &VersionId, grace: Duration) {
        self.making.unrouted.insert(id.clone(), false);
        let generation = self.world.routing.now().generation;
        let (desk, events, version) = (self.world.desk.clone(), self.events.clone(), id.clone());
        miren_log::spawn("an acknowledgement", async move {
            tokio::time::sleep(grace).await;
            desk.acknowledged(generation).await;
            // The task may have ended meanwhile: then nobody needs to know.
            let _ = events.send(Event::Unrouted(version));
        });
    }

    /// Every live proxy knows.
    pub(in crate::app::task) fn unrouted(&mut self, version: VersionId) {
        if self.state.previews.contains_key(&version) {
            self.making.unrouted.insert(version, true);
        }
    }

    /// What an earlier process left without a label. Proxies that knew it may not have come back yet.
    pub(in crate::app::task) fn recover_previews(&mut self) {
        let routed = self.world.routing.now();
        let is_left = |record: &&VersionRecord| {
            let label = record.preview.as_ref().map(|preview| preview.label.as_str());
            let route = label.and_then(|label| routed.table.label_of(&record.app, label));
            route.is_none_or(|route| route.version != record.id)
        };
        let left: Vec<VersionId> = self
            .state
            .previews
            .values()
            .filter(is_left)
            .map(|r| r.id.clone())
            .collect();
        left.iter().for_each(|id| self.ask_proxies(id, SILENCE));
    }

    async fn forget_preview(&mut self, id: &VersionId) -> Option<Timestamp> {
        let record = self.state.previews.get(id)?;
        self.ledger.delete(record.key());
        if !self.commit().await {
            return Some(later(self.now(), WRITE_AGAIN));
        }
        self.state.previews.remove(id);
        self.making.unrouted.remove(id);
        tracing::info!(app = %self.state.app.name, version = %id, "nothing is left of a preview");
        None
    }
}

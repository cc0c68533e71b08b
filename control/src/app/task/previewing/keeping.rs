//! Decides how a preview ends: out of routing, then its claims, then its record; each step saved before the next.

use super::Previews;
use crate::app::Event;
use crate::app::pool::earliest;
use crate::app::preview::{self, Standing, Upkeep, upkeep};
use crate::app::task::WRITE_AGAIN;
use crate::clock::{later, since};
use crate::lease::SILENCE;
use crate::record::{Stored, VersionRecord};
use crate::routing::Change;
use jiff::Timestamp;
use miren_api::id::VersionId;
use std::time::Duration;

impl Previews<'_> {
    /// Takes every preview that is there as far as it goes now; returns when to look again.
    pub async fn keep(&mut self) -> Option<Timestamp> {
        let mut wake = None;
        let made = self.book.state.previews.keys().filter(|id| !self.making.makes(id));
        for id in made.cloned().collect::<Vec<_>>() {
            wake = earliest(wake, self.keep_one(&id).await);
        }
        wake
    }

    async fn keep_one(&mut self, id: &VersionId) -> Option<Timestamp> {
        loop {
            let now = self.book.clock.wall();
            let record = self.book.state.previews.get(id)?;
            match self.upkeep(record, now) {
                // A date of the wall clock, as far ahead as that says.
                Upkeep::Keep(until) => return Some(later(self.book.now(), since(until, now))),
                Upkeep::Wait => return None,
                Upkeep::Withdraw => self.ask_proxies(id, Duration::ZERO),
                Upkeep::Release => {
                    self.book.drop_references(|version, _| version == id);
                    // Its pools are planned anew at once.
                    return Some(self.book.now());
                }
                Upkeep::Forget => return self.forget(id).await,
            }
        }
    }

    fn upkeep(&self, record: &VersionRecord, now: Timestamp) -> Upkeep {
        let routed = self.publishing.now();
        let label = record.preview.as_ref().map(|preview| preview.label.as_str());
        let is_going = |pool| self.book.state.pools.get(pool).is_some_and(|pool| pool.is_retiring());
        let standing = Standing {
            version: &record.id,
            label: label.and_then(|label| routed.table.label_of(&record.app, label)),
            unrouted: self.making.unrouted.get(&record.id).copied(),
            refers: self.book.state.has_references(&record.id),
            clearing: record.pools.values().any(is_going),
        };
        upkeep(standing, now)
    }

    /// Lets labels go whose time is long over. What fails is tried again at the next turn.
    pub async fn forget_labels(&self) {
        let (app, now) = (self.book.name(), self.book.clock.wall());
        let table = self.publishing.now().table;
        let most = self.per_app;
        for route in preview::forgotten(table.labels_of(app), most, now) {
            let change = Change::Unlabel {
                app: app.clone(),
                label: route.label.clone(),
                version: route.version.clone(),
            };
            if let Err(error) = self.publishing.submit(change).await {
                self.book.metrics.store_errors.inc();
                tracing::warn!(%app, label = route.label, %error, "an old label stays; trying again");
            }
        }
    }

    /// Tells itself when every live proxy knows that no label leads to a version; after `grace`, in which proxies may come back.
    fn ask_proxies(&mut self, id: &VersionId, grace: Duration) {
        self.making.unrouted.insert(id.clone(), false);
        let generation = self.publishing.now().generation;
        let then = Event::Unrouted(id.clone());
        self.publishing.when_acknowledged(generation, grace, then);
    }

    /// Every live proxy knows.
    pub fn unrouted(&mut self, version: VersionId) {
        if self.book.state.previews.contains_key(&version) {
            self.making.unrouted.insert(version, true);
        }
    }

    /// What an earlier process left without a label. Proxies that knew it may not have come back yet.
    pub fn recover(&mut self) {
        let routed = self.publishing.now();
        let is_left = |record: &&VersionRecord| {
            let label = record.preview.as_ref().map(|preview| preview.label.as_str());
            let route = label.and_then(|label| routed.table.label_of(&record.app, label));
            route.is_none_or(|route| route.version != record.id)
        };
        let left: Vec<VersionId> = self
            .book
            .state
            .previews
            .values()
            .filter(is_left)
            .map(|r| r.id.clone())
            .collect();
        left.iter().for_each(|id| self.ask_proxies(id, SILENCE));
    }

    async fn forget(&mut self, id: &VersionId) -> Option<Timestamp> {
        let record = self.book.state.previews.get(id)?;
        self.book.ledger.delete(record.key());
        if !self.book.commit().await {
            return Some(later(self.book.now(), WRITE_AGAIN));
        }
        self.book.state.previews.remove(id);
        self.making.unrouted.remove(id);
        tracing::info!(app = %self.book.name(), version = %id, "nothing is left of a preview");
        None
    }
}

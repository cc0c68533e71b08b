//! Decides how a preview is announced: its version gets the label, and those go that are too many, all of it or nothing.

use super::Previews;
use crate::app::Event;
use crate::app::preview::{self, Stage};
use crate::clock::later;
use crate::record::AskedPreview;
use crate::routing::Change;
use miren_api::id::{Label, VersionId};
use miren_api::routing::EphemeralRoute;
use std::time::Duration;

impl Previews<'_> {
    /// Lets the version have its label, and those go that are too many: all of it or nothing.
    pub(super) async fn announce(&mut self, seq: u64) {
        let Some(preparation) = self.making.of.get(&seq) else {
            return;
        };
        let Some(version) = preparation.version.clone() else {
            return;
        };
        let (app, now) = (self.book.name().clone(), self.book.clock.wall());
        let table = self.publishing.now().table;
        let label = preparation.order.label.as_str();
        let most = self.per_app;
        let evict = preview::evicted(label, table.labels_of(&app), most, now);
        let before = table.label_of(&app, label).filter(|route| now < route.expires_at);
        let replaced = before.map(|route| route.version.clone());
        let route = EphemeralRoute {
            label: label.to_owned(),
            version: version.clone(),
            expires_at: later(now, preparation.order.ttl),
        };
        let is_keyed = self.note_asked(seq, &version, replaced.clone(), &evict);
        if is_keyed && !self.book.commit().await {
            // What is not saved is not announced.
            return;
        }
        let change = Change::Label {
            app,
            route,
            evict: evict.clone(),
        };
        match self.publishing.submit(change).await {
            Ok(generation) => {
                if let Some(preparation) = self.making.of.get_mut(&seq) {
                    preparation.stage = Stage::Announced;
                    preparation.replaced = replaced;
                    preparation.evicted = evict;
                }
                self.tell(seq, format!("published in snapshot {generation}"));
                let then = Event::Acknowledged(seq);
                self.publishing.when_acknowledged(generation, Duration::ZERO, then);
            }
            Err(error) => self.fail(seq, error.into()),
        }
    }

    /// The key it was asked for with, if there is one, is part of its version, with what is answered: a restart answers the same.
    fn note_asked(&mut self, seq: u64, version: &VersionId, replaced: Option<VersionId>, evicted: &[String]) -> bool {
        let preparation = self.making.of.get(&seq);
        let asked = preparation.and_then(|preparation| Some((preparation.order.asked()?, preparation.reused)));
        let record = self.book.state.previews.get_mut(version);
        let (Some((asked, reused)), Some(record)) = (asked, record) else {
            return false;
        };
        if let Some(preview) = &mut record.preview {
            preview.asked = Some(AskedPreview {
                asked,
                replaced,
                evicted: evicted.iter().map(Label::from_text).collect(),
                reused,
            });
        }
        self.book.ledger.put(&*record);
        true
    }
}

//! Decides when the images of a deploy or a preview are fetched, and how long they are held: until the next deploy of the app has ended.

use super::Task;
use crate::app::Event;
use crate::app::deploy::ImagesSeen;
use crate::images::{Fetched, Wanted};
use crate::record::Content;
use miren_api::deploy::DeployStatus;
use miren_image::Image;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio_util::task::AbortOnDropHandle;

/// Images of the deploys under way, by number.
#[derive(Default)]
pub(super) struct Fetches {
    of: BTreeMap<u64, Fetch>,
    /// Of the deploy that ended last: the collector must not have them before the records are seen that name them.
    last: Fetched,
}

enum Fetch {
    /// Ends when this is dropped.
    Running(#[expect(dead_code, reason = "held to be dropped")] AbortOnDropHandle<()>),
    Done(Result<Fetched, String>),
}

impl Fetches {
    pub(super) fn seen(&self, seq: u64, names_images: bool) -> ImagesSeen {
        match self.of.get(&seq) {
            _ if !names_images => ImagesSeen::Here,
            None => ImagesSeen::Elsewhere,
            Some(Fetch::Running(_)) => ImagesSeen::OnTheWay,
            Some(Fetch::Done(Ok(_))) => ImagesSeen::Here,
            Some(Fetch::Done(Err(why))) => ImagesSeen::Unavailable(why.clone()),
        }
    }

    /// The images of a deploy, as far as they are here.
    pub(super) fn of(&self, seq: u64) -> Fetched {
        match self.of.get(&seq) {
            Some(Fetch::Done(Ok(fetched))) => fetched.clone(),
            _ => Fetched::new(),
        }
    }

    /// A deploy has ended.
    pub(super) fn end(&mut self, seq: u64) {
        if let Some(Fetch::Done(Ok(fetched))) = self.of.remove(&seq) {
            self.last = fetched;
        }
    }
}

impl Task {
    /// Begins to fetch the images of a deploy; an event tells how that ends.
    pub(super) fn fetch(&mut self, seq: u64) {
        let Some(record) = self.state.deploys.get(&seq) else {
            return;
        };
        let content = record.source().content;
        let key = record.id().to_string();
        let names: Vec<&str> = content.images.keys().map(String::as_str).collect();
        self.note(
            seq,
            DeployStatus::Staging,
            format!("getting image {}", names.join(", ")),
        );
        self.begin_to_fetch(seq, content, &key);
    }

    /// Begins to fetch what a deploy or a preview names; what is to be read by people goes out under `key`.
    pub(super) fn begin_to_fetch(&mut self, seq: u64, content: Content, key: &str) {
        let output = self.world.outputs.open(key);
        let (world, events) = (Arc::clone(&self.world), self.events.clone());
        let app = self.state.app.name.clone();
        let fetching = miren_log::spawn("the images of a deploy", async move {
            let tell = |text| output.add(text);
            let wanted = Wanted {
                app: &app,
                content: &content,
                artifacts: &world.artifacts,
            };
            let fetched = world.images.fetch(wanted, &*world.executor, &tell);
            // Images are read that strangers made: should one be too much for us, its deploy fails and no other.
            let result = match miren_log::caught("the images of a deploy", fetched).await {
                Ok(fetched) => fetched.map_err(|error| error.to_string()),
                Err(panicked) => Err(panicked.to_string()),
            };
            // A task that is gone needs to know nothing.
            let _ = events.send(Event::Fetched { seq, result });
        });
        self.fetches
            .of
            .insert(seq, Fetch::Running(AbortOnDropHandle::new(fetching)));
    }

    /// The digests are part of the deploy from here on, whatever becomes of the names.
    pub(super) fn fetched(&mut self, seq: u64, result: Result<Fetched, String>) {
        let pins = |fetched: &Fetched| {
            let pin = |(name, image): (&String, &Image)| (name.clone(), Some(image.digest));
            fetched.iter().map(pin).collect()
        };
        if let Some(record) = self.state.deploys.get_mut(&seq) {
            if let Ok(fetched) = &result {
                record.pin(pins(fetched));
                self.ledger.put(&*record);
            }
        } else if let Some(source) = self.making.source(seq) {
            if let Ok(fetched) = &result {
                source.content.images = pins(fetched);
            }
        } else {
            return;
        }
        self.fetches.of.insert(seq, Fetch::Done(result));
    }
}

//! Decides when a deploy's images are fetched, and how long they are held: until the next deploy of the app has ended.

use super::Task;
use crate::app::Event;
use crate::app::deploy::ImagesSeen;
use crate::images::Fetched;
use crate::record::DeployRecord;
use miren_api::deploy::DeployStatus;
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
    pub(super) fn seen(&self, record: &DeployRecord) -> ImagesSeen {
        match self.of.get(&record.deploy.seq) {
            _ if !record.names_images() => ImagesSeen::Here,
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
        let output = self.world.outputs.open(record.id());
        let names: Vec<&str> = content.images.keys().map(String::as_str).collect();
        self.note(
            seq,
            DeployStatus::Staging,
            format!("getting image {}", names.join(", ")),
        );
        let (world, events) = (Arc::clone(&self.world), self.events.clone());
        let fetching = tokio::spawn(async move {
            let tell = |text| output.add(text);
            let fetched = world.images.fetch(&content, &world.artifacts, &*world.executor, &tell);
            let result = fetched.await.map_err(|error| error.to_string());
            // A task that is gone needs to know nothing.
            let _ = events.send(Event::Fetched { seq, result });
        });
        self.fetches
            .of
            .insert(seq, Fetch::Running(AbortOnDropHandle::new(fetching)));
    }

    /// The digests are part of the deploy from here on, whatever becomes of the names.
    pub(super) fn fetched(&mut self, seq: u64, result: Result<Fetched, String>) {
        let Some(record) = self.state.deploys.get_mut(&seq) else {
            return;
        };
        if let Ok(fetched) = &result {
            let pins = fetched.iter().map(|(name, image)| (name.clone(), Some(image.digest)));
            record.pin(pins.collect());
            self.ledger.put(&*record);
        }
        self.fetches.of.insert(seq, Fetch::Done(result));
    }
}

//! Decides when the images of a deploy or a preview are fetched, and how long they are held: until the next deploy of the app has ended.

use super::Task;
use crate::app::Event;
use crate::app::deploy::ImagesSeen;
use crate::app::spec;
use crate::clock::shifted;
use crate::images::{FetchError, Fetched, NotFetched, Wanted};
use crate::node_faults::Waits;
use crate::record::Source;
use jiff::Timestamp;
use miren_api::deploy::DeployStatus;
use miren_api::resource::NodeFault;
use miren_image::Image;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio_util::task::AbortOnDropHandle;

/// Images of the deploys under way, by number.
#[derive(Default)]
pub(super) struct Fetches {
    of: BTreeMap<u64, Fetch>,
    /// Those that have met a fault of the node, and when they first did, by [`crate::clock::Clock::steady`].
    faulty: BTreeMap<u64, Timestamp>,
    /// Of the deploy that ended last: the collector must not have them before the records are seen that name them.
    last: Fetched,
}

enum Fetch {
    /// Ends when this is dropped.
    Running(#[expect(dead_code, reason = "held to be dropped")] AbortOnDropHandle<()>),
    /// The node was to blame.
    Faulty,
    Done(Result<Fetched, String>),
}

impl Fetches {
    /// The images of a deploy, as far as they are here.
    pub(super) fn of(&self, seq: u64) -> Fetched {
        match self.of.get(&seq) {
            Some(Fetch::Done(Ok(fetched))) => fetched.clone(),
            _ => Fetched::new(),
        }
    }

    fn end(&mut self, seq: u64) {
        self.faulty.remove(&seq);
        if let Some(Fetch::Done(Ok(fetched))) = self.of.remove(&seq) {
            self.last = fetched;
        }
    }
}

impl Task {
    pub(super) fn images_seen(&self, seq: u64, names_images: bool) -> ImagesSeen {
        match self.fetches.of.get(&seq) {
            _ if !names_images => ImagesSeen::Here,
            None => ImagesSeen::Elsewhere,
            Some(Fetch::Running(_)) => ImagesSeen::OnTheWay,
            Some(Fetch::Done(Ok(_))) => ImagesSeen::Here,
            Some(Fetch::Done(Err(why))) => ImagesSeen::Unavailable(why.clone()),
            Some(Fetch::Faulty) => {
                let met = self.world.node_faults.of(self.waits(seq));
                let since = self.fetches.faulty.get(&seq).copied();
                match (met, since) {
                    (Some(met), Some(since)) => ImagesSeen::Faulty {
                        told: met.told(),
                        since: shifted(since, self.offset),
                        retry_at: shifted(met.retry_at, self.offset),
                    },
                    _ => ImagesSeen::Elsewhere,
                }
            }
        }
    }

    fn waits(&self, seq: u64) -> Waits {
        Waits::Images(self.state.app.name.clone(), seq)
    }

    /// A deploy or a preview has ended.
    pub(super) fn end_fetch(&mut self, seq: u64) {
        self.world.node_faults.clear(self.waits(seq));
        self.fetches.end(seq);
    }

    /// Begins to fetch the images of a deploy; an event tells how that ends.
    pub(super) fn fetch(&mut self, seq: u64) {
        let Some(record) = self.state.deploys.get(&seq) else {
            return;
        };
        let source = record.source();
        let key = record.id().to_string();
        let names: Vec<&str> = source.content.images.keys().map(String::as_str).collect();
        let message = format!("getting image {}", names.join(", "));
        // Of what is tried each second the first time is a step.
        if !self.fetches.faulty.contains_key(&seq) {
            self.note(seq, DeployStatus::Staging, message);
        }
        self.begin_to_fetch(seq, source, &key);
    }

    /// Begins to fetch what a deploy or a preview names; what is to be read by people goes out under `key`.
    pub(super) fn begin_to_fetch(&mut self, seq: u64, source: Source, key: &str) {
        let output = self.world.outputs.open(key);
        let (world, events) = (Arc::clone(&self.world), self.events.clone());
        let app = self.state.app.name.clone();
        let fetching = miren_log::spawn("the images of a deploy", async move {
            let tell = |text| output.add(text);
            let fetched = async {
                let settings = match source.settings {
                    Some(settings) => settings,
                    None => spec::load(&world.artifacts, &source.content)
                        .await
                        .map_err(|error| FetchError::Settings(error.message))?,
                };
                let wanted = Wanted {
                    app: &app,
                    content: &source.content,
                    artifacts: &world.artifacts,
                    build: settings.build,
                };
                world.images.fetch(wanted, &*world.executor, &tell).await
            };
            // Images are read that strangers made: should one be too much for us, its deploy fails and no other.
            let result = match miren_log::caught("the images of a deploy", fetched).await {
                Ok(fetched) => fetched.map_err(NotFetched::from),
                Err(panicked) => Err(NotFetched {
                    why: panicked.to_string(),
                    node_fault: None,
                }),
            };
            // A task that is gone needs to know nothing.
            let _ = events.send(Event::Fetched { seq, result });
        });
        self.fetches
            .of
            .insert(seq, Fetch::Running(AbortOnDropHandle::new(fetching)));
    }

    /// The digests are part of the deploy from here on, whatever becomes of the names.
    pub(super) fn fetched(&mut self, seq: u64, result: Result<Fetched, NotFetched>) {
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
        let fetch = match result {
            Ok(fetched) => Fetch::Done(Ok(fetched)),
            Err(NotFetched {
                why,
                node_fault: Some(fault),
            }) => {
                self.wait_for_node(seq, fault, &why);
                self.fetches.of.insert(seq, Fetch::Faulty);
                return;
            }
            Err(NotFetched { why, .. }) => Fetch::Done(Err(why)),
        };
        self.world.node_faults.clear(self.waits(seq));
        self.fetches.of.insert(seq, fetch);
    }

    /// The first time is told to whoever watches the deploy.
    fn wait_for_node(&mut self, seq: u64, fault: NodeFault, why: &str) {
        let now = self.world.clock.steady();
        self.world.node_faults.note(self.waits(seq), fault, why, now);
        let is_first = !self.fetches.faulty.contains_key(&seq);
        self.fetches.faulty.entry(seq).or_insert(now);
        if is_first && self.state.deploys.contains_key(&seq) {
            let message = format!("the node cannot get it yet ({}: {why}); trying again", fault.as_str());
            self.note(seq, DeployStatus::Staging, message);
        }
    }
}

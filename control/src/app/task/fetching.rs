//! Decides when the images of a deploy or a preview are fetched, and how long they are held: until the next deploy of the app has ended.

use super::book::Book;
use super::supply::Supply;
use crate::app::Event;
use crate::app::deploy::ImagesSeen;
use crate::app::spec;
use crate::clock::shifted;
use crate::images::{FetchError, Fetched, NotFetched, Wanted};
use crate::node_faults::Waits;
use crate::record::{Pins, Source};
use jiff::Timestamp;
use miren_api::id::AppName;
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

    /// Whether the node was to blame before.
    pub(super) fn has_been_faulty(&self, seq: u64) -> bool {
        self.faulty.contains_key(&seq)
    }

    fn end(&mut self, seq: u64) {
        self.faulty.remove(&seq);
        if let Some(Fetch::Done(Ok(fetched))) = self.of.remove(&seq) {
            self.last = fetched;
        }
    }
}

/// What came of fetching.
pub(super) enum Outcome {
    /// They are here, under these digests.
    Here(Pins),
    Failed,
    /// The node was to blame: it is tried again. What is to be told of it the first time.
    Again(Option<String>),
}

impl Supply {
    pub fn images_seen(&self, book: &Book, seq: u64, names_images: bool) -> ImagesSeen {
        match self.fetches.of.get(&seq) {
            _ if !names_images => ImagesSeen::Here,
            None => ImagesSeen::Elsewhere,
            Some(Fetch::Running(_)) => ImagesSeen::OnTheWay,
            Some(Fetch::Done(Ok(_))) => ImagesSeen::Here,
            Some(Fetch::Done(Err(why))) => ImagesSeen::Unavailable(why.clone()),
            Some(Fetch::Faulty) => {
                let met = book.faults.of(waits(book, seq));
                let since = self.fetches.faulty.get(&seq).copied();
                match (met, since) {
                    (Some(met), Some(since)) => ImagesSeen::Faulty {
                        told: met.told(),
                        since: shifted(since, book.offset),
                        retry_at: shifted(met.retry_at, book.offset),
                    },
                    _ => ImagesSeen::Elsewhere,
                }
            }
        }
    }

    /// A deploy or a preview has ended.
    pub fn end(&mut self, book: &Book, seq: u64) {
        book.faults.clear(waits(book, seq));
        self.fetches.end(seq);
        self.last_words.forget(seq);
    }

    /// Begins to fetch what a deploy or a preview of `app` names; what is to be read by people goes out under `key`. An event
    /// tells how that ends.
    pub fn fetch(&mut self, app: AppName, seq: u64, source: Source, key: &str) {
        let (images, executor) = (Arc::clone(&self.images), Arc::clone(&self.executor));
        let (output, artifacts) = (self.outputs.open(key), self.artifacts.clone());
        let events = self.events.clone();
        let fetching = miren_log::spawn("the images of a deploy", async move {
            let tell = |text| output.add(text);
            let fetched = async {
                let settings = spec::settled(&artifacts, &source).await;
                let settings = settings.map_err(|error| FetchError::Settings(error.message))?;
                let wanted = Wanted {
                    app: &app,
                    content: &source.content,
                    artifacts: &artifacts,
                    build: settings.build,
                };
                images.fetch(wanted, &*executor, &tell).await
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
        let running = Fetch::Running(AbortOnDropHandle::new(fetching));
        self.fetches.of.insert(seq, running);
    }

    /// Takes in what came of it, for a deploy or a preview that has not ended.
    pub fn fetched(&mut self, book: &Book, seq: u64, result: Result<Fetched, NotFetched>) -> Outcome {
        let (fetch, outcome) = match result {
            Ok(fetched) => {
                let pin = |(name, image): (&String, &Image)| (name.clone(), Some(image.digest));
                let pins = fetched.iter().map(pin).collect();
                (Fetch::Done(Ok(fetched)), Outcome::Here(pins))
            }
            Err(NotFetched {
                why,
                node_fault: Some(fault),
            }) => {
                let now = book.clock.steady();
                book.faults.note(waits(book, seq), fault, &why, now);
                let is_first = !self.fetches.has_been_faulty(seq);
                self.fetches.faulty.entry(seq).or_insert(now);
                let told = format!("the node cannot get it yet ({}: {why}); trying again", fault.as_str());
                self.fetches.of.insert(seq, Fetch::Faulty);
                return Outcome::Again(is_first.then_some(told));
            }
            Err(NotFetched { why, .. }) => (Fetch::Done(Err(why)), Outcome::Failed),
        };
        book.faults.clear(waits(book, seq));
        self.fetches.of.insert(seq, fetch);
        outcome
    }
}

fn waits(book: &Book, seq: u64) -> Waits {
    Waits::Images(book.name().clone(), seq)
}

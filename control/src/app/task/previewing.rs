//! Decides how previews are made: beside what serves and without a deploy, ready before they take over, announced at once.

use super::WRITE_AGAIN;
use super::book::Book;
use super::deploying::Sources;
use super::fetching::Outcome;
use super::publishing::Publishing;
use super::supply::Supply;
use crate::app::deploy::PoolSeen;
use crate::app::preview::{self, Seen, Stage, Step};
use crate::clock::{later, shifted};
use crate::images::{Fetched, NotFetched};
use crate::record::{PoolRecord, Settings, Source};
use jiff::{SignedDuration, Timestamp};
use miren_api::ephemeral::{EphemeralDeployed, EphemeralRequest};
use miren_api::id::{Label, PoolId, VersionId};
use miren_api::{ApiError, ErrorCode};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use tokio::sync::oneshot;

mod accepting;
mod announcing;
mod keeping;
mod labels;
mod staging;

/// Where the answer to a request for a preview goes.
pub(in crate::app) type Reply = oneshot::Sender<Result<EphemeralDeployed, ApiError>>;

/// A preview that was asked for.
#[derive(Clone, Debug)]
pub struct PreviewOrder {
    pub label: Label,
    pub ttl: Duration,
    pub request: EphemeralRequest,
    /// The same key means the same preview; what happens meanwhile is told under it.
    pub key: Option<String>,
    /// What the folder that it brings says, where that was read already.
    pub read: Option<Box<Settings>>,
}

/// Previews that are being made, by the number of their version. Only in memory.
#[derive(Default)]
pub(super) struct Making {
    of: BTreeMap<u64, Preparation>,
    /// Those that were made last, with their keys.
    recent: VecDeque<(PreviewOrder, EphemeralDeployed)>,
    last: u64,
    /// Versions without a label, and whether every proxy knows.
    unrouted: BTreeMap<VersionId, bool>,
}

struct Preparation {
    order: PreviewOrder,
    source: Source,
    replies: Vec<Reply>,
    stage: Stage,
    version: Option<VersionId>,
    /// Pools that have to be ready before it takes over.
    pools: Vec<PoolId>,
    patience: Duration,
    reused: bool,
    replaced: Option<VersionId>,
    evicted: Vec<String>,
}

impl Making {
    /// A number for a preview, above those of deploys, which count from 1: they have none to spare for what is no deploy.
    fn number(&mut self, now: Timestamp) -> u64 {
        let by_time = u64::try_from(now.as_microsecond()).unwrap_or_default();
        self.last = by_time.max(self.last + 1);
        self.last
    }

    /// The wall clock was set by so much.
    pub(super) fn shift(&mut self, by: SignedDuration) {
        for preparation in self.of.values_mut() {
            if let Stage::Starting { since } = &mut preparation.stage {
                *since = shifted(*since, by);
            }
        }
    }

    /// Whether sandboxes of this number are waited for.
    pub(super) fn is_starting(&self, seq: u64) -> bool {
        matches!(self.stage(seq), Some(Stage::Starting { .. }))
    }

    fn stage(&self, seq: u64) -> Option<&Stage> {
        self.of.get(&seq).map(|preparation| &preparation.stage)
    }

    pub(super) fn seqs(&self) -> Vec<u64> {
        self.of.keys().copied().collect()
    }

    fn makes(&self, version: &VersionId) -> bool {
        let mut made = self.of.values().filter_map(|preparation| preparation.version.as_ref());
        made.any(|made| made == version)
    }

    /// What it installs.
    pub(super) fn source(&mut self, seq: u64) -> Option<&mut Source> {
        self.of.get_mut(&seq).map(|preparation| &mut preparation.source)
    }

    fn key(&self, seq: u64) -> Option<&str> {
        self.of.get(&seq)?.order.key.as_deref()
    }
}

/// The previews of an app, over its records.
pub(super) struct Previews<'t> {
    pub book: &'t mut Book,
    pub supply: &'t mut Supply,
    pub publishing: &'t mut Publishing,
    pub making: &'t mut Making,
    /// How many an app may have.
    pub per_app: usize,
}

impl Previews<'_> {
    fn sources(&self) -> Sources<'_> {
        Sources {
            book: self.book,
            supply: self.supply,
            publishing: self.publishing,
        }
    }

    /// Takes a preview as far as it goes now; returns when to look again.
    pub async fn advance(&mut self, seq: u64) -> Option<Timestamp> {
        while let Some(preparation) = self.making.of.get(&seq) {
            let now = self.book.now();
            match preview::next(&preparation.stage, &self.seen(seq, preparation), now) {
                Step::Wait(until) => return until,
                Step::Fetch => self.fetch(seq),
                Step::Stage => self.stage(seq).await,
                Step::Publish => self.announce(seq).await,
                Step::Done => self.finish(seq),
                Step::Fail(why) => self.fail(seq, ApiError::new(ErrorCode::BootFailed, why)),
            }
            if !self.book.commit().await {
                // Once it is announced there is nothing to take back: what else has to be saved is tried again.
                if self.making.stage(seq) != Some(&Stage::Announced) {
                    let failed = "saving the preview failed; nothing has changed for requests";
                    self.fail(seq, ApiError::new(ErrorCode::Internal, failed));
                }
                return Some(later(now, WRITE_AGAIN));
            }
            self.book.publish();
        }
        None
    }

    fn seen(&self, seq: u64, preparation: &Preparation) -> Seen {
        let pools = preparation.pools.iter().filter_map(|id| self.book.state.pools.get(id));
        let since = match preparation.stage {
            Stage::Starting { since } => Some(since),
            Stage::Accepted | Stage::Announced => None,
        };
        let pool_seen = |pool: &PoolRecord| PoolSeen {
            service: pool.service.clone(),
            ready: self.book.state.ready(&pool.id),
            wanted: 1,
            failure: self
                .book
                .boot_failure(since, pool)
                .and_then(|sandbox| sandbox.reason.clone()),
            node_fault: self.book.node_fault(&pool.id),
        };
        Seen {
            images: self
                .supply
                .images_seen(self.book, seq, !preparation.source.content.images.is_empty()),
            pools: pools.map(pool_seen).collect(),
            patience: preparation.patience,
            acknowledged: self.publishing.is_acknowledged(seq),
        }
    }

    /// Takes in what came of fetching its images.
    pub fn fetched(&mut self, seq: u64, result: Result<Fetched, NotFetched>) {
        let outcome = self.supply.fetched(self.book, seq, result);
        if let (Outcome::Here(pins), Some(source)) = (outcome, self.making.source(seq)) {
            source.content.images = pins;
        }
    }

    fn fetch(&mut self, seq: u64) {
        let key = self
            .making
            .key(seq)
            .map_or_else(|| format!("preview-{seq}"), str::to_owned);
        let source = self.making.source(seq).map(|source| source.clone());
        if let Some(source) = source {
            self.supply.fetch(self.book.name().clone(), seq, source, &key);
        }
    }

    fn finish(&mut self, seq: u64) {
        self.book.publish();
        let Some(preparation) = self.end(seq) else {
            return;
        };
        let label = preparation.order.label.clone();
        let made = self.shown_label(&label).map(|ephemeral| EphemeralDeployed {
            ephemeral,
            replaced: preparation.replaced,
            evicted: preparation.evicted.into_iter().map(Label::from_text).collect(),
            reused: preparation.reused,
        });
        if let Ok(made) = &made {
            self.book.metrics.previews.with_label_values(&["made"]).inc();
            tracing::info!(app = %self.book.name(), %label, version = %made.ephemeral.version,
                until = %made.ephemeral.expires_at, "preview");
            self.remember_preview(preparation.order, made.clone());
        }
        answer(preparation.replies, &made);
    }

    /// Ends it with an error. What serves the label goes on; what was made for it is removed as anything without a label.
    pub fn fail(&mut self, seq: u64, error: ApiError) {
        let Some(preparation) = self.end(seq) else {
            return;
        };
        self.book.metrics.previews.with_label_values(&["failed"]).inc();
        tracing::warn!(app = %self.book.name(), label = %preparation.order.label, %error, "a preview failed");
        answer(preparation.replies, &Err(error));
    }

    /// Tells those who follow it.
    fn tell(&self, seq: u64, text: String) {
        if let Some(key) = self.making.key(seq) {
            self.supply.outputs.open(key).add(text);
        }
    }

    fn end(&mut self, seq: u64) -> Option<Preparation> {
        if let Some(key) = self.making.key(seq) {
            self.supply.outputs.open(key).end();
        }
        self.publishing.forget(seq);
        self.supply.end(self.book, seq);
        self.book.held.end(seq);
        self.making.of.remove(&seq)
    }
}

fn answer(replies: Vec<Reply>, outcome: &Result<EphemeralDeployed, ApiError>) {
    for reply in replies {
        // Who asked may be gone: the preview is there all the same.
        let _ = reply.send(outcome.clone());
    }
}

//! Decides how previews are made: beside what serves and without a deploy, ready before they take over, announced at once.

use super::{Task, WRITE_AGAIN};
use crate::app::deploy::{self, PoolSeen};
use crate::app::preview::{self, Seen, Stage, Step};
use crate::app::spec::Spec;
use crate::clock::{later, shifted};
use crate::record::{AskedPreview, PoolRecord, Preview, Reference, Source, VersionRecord};
use crate::routing::Change;
use jiff::{SignedDuration, Timestamp};
use miren_api::ephemeral::{EphemeralDeployed, EphemeralRequest};
use miren_api::id::{Label, PoolId, VersionId};
use miren_api::routing::EphemeralRoute;
use miren_api::{ApiError, ErrorCode};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;
use tokio::sync::oneshot;

mod accepting;
mod keeping;
mod labels;

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

impl Task {
    /// Takes a preview as far as it goes now; returns when to look again.
    pub(super) async fn advance_preview(&mut self, seq: u64) -> Option<Timestamp> {
        while let Some(preparation) = self.making.of.get(&seq) {
            let now = self.now();
            match preview::next(&preparation.stage, &self.preview_seen(seq, preparation), now) {
                Step::Wait(until) => return until,
                Step::Fetch => self.fetch_for_preview(seq),
                Step::Stage => self.stage_preview(seq).await,
                Step::Publish => self.publish_preview(seq).await,
                Step::Done => self.finish_preview(seq),
                Step::Fail(why) => self.fail_preview(seq, ApiError::new(ErrorCode::BootFailed, why)),
            }
            if !self.commit().await {
                // Once it is announced there is nothing to take back: what else has to be saved is tried again.
                if self.making.stage(seq) != Some(&Stage::Announced) {
                    let failed = "saving the preview failed; nothing has changed for requests";
                    self.fail_preview(seq, ApiError::new(ErrorCode::Internal, failed));
                }
                return Some(later(now, WRITE_AGAIN));
            }
            self.publish();
        }
        None
    }

    fn preview_seen(&self, seq: u64, preparation: &Preparation) -> Seen {
        let pools = preparation.pools.iter().filter_map(|id| self.state.pools.get(id));
        let since = match preparation.stage {
            Stage::Starting { since } => Some(since),
            Stage::Accepted | Stage::Announced => None,
        };
        let pool_seen = |pool: &PoolRecord| PoolSeen {
            service: pool.service.clone(),
            ready: self.state.ready(&pool.id),
            wanted: 1,
            failure: self
                .boot_failure(since, pool)
                .and_then(|sandbox| sandbox.reason.clone()),
            node_fault: self.world.node_faults.of(&pool.id).map(|met| met.told()),
        };
        Seen {
            images: self.images_seen(seq, !preparation.source.content.images.is_empty()),
            pools: pools.map(pool_seen).collect(),
            patience: preparation.patience,
            acknowledged: self.acknowledged.contains(&seq),
        }
    }

    fn fetch_for_preview(&mut self, seq: u64) {
        let key = self
            .making
            .key(seq)
            .map_or_else(|| format!("preview-{seq}"), str::to_owned);
        let source = self.making.source(seq).map(|source| source.clone());
        if let Some(source) = source {
            self.begin_to_fetch(seq, source, &key);
        }
    }

    /// Makes the version. Where sandboxes serve the label now, it gets its own before it takes over.
    async fn stage_preview(&mut self, seq: u64) {
        let Some(preparation) = self.making.of.get(&seq) else {
            return;
        };
        let (source, label) = (preparation.source.clone(), preparation.order.label.clone());
        let clone_of = preparation.order.request.version.clone();
        let run = match self.what_runs(&source).await {
            Ok(run) => run,
            Err(error) => return self.fail_preview(seq, error),
        };
        let images = self.fetches.of(seq);
        let specs: BTreeMap<String, Spec> = accepting::previewed(run.services, &run.previews)
            .map(|(name, service)| (name.clone(), Spec::of(&name, service, &source.content, &images)))
            .collect();
        let patience = specs.values().map(|spec| spec.service.port_timeout).max();
        let version = VersionRecord {
            id: VersionId::generate(&self.state.app.name),
            app: self.state.app.name.clone(),
            seq,
            created_at: self.now(),
            content: source.content,
            variables: source.variables,
            pools: BTreeMap::new(),
            preview: Some(Preview {
                label: label.clone(),
                source: clone_of,
                specs,
                asked: None,
            }),
        };
        let served = self.served_under(&label);
        let (version, reused) = self.claim_for(version, &served);
        let since = self.now();
        if let Some(preparation) = self.making.of.get_mut(&seq) {
            preparation.stage = Stage::Starting { since };
            preparation.patience = deploy::patience(patience.unwrap_or_default());
            preparation.pools = version.pools.values().cloned().collect();
            preparation.version = Some(version.id.clone());
            preparation.reused = reused;
        }
        let told = match version.pools.is_empty() {
            true => format!("version {}: starts with its first request", version.id),
            false => format!("version {}: starting before it takes over", version.id),
        };
        self.tell(seq, told);
        self.ledger.put(&version);
        self.state.previews.insert(version.id.clone(), version);
    }

    /// Services of the label's version that have RUNNING sandboxes.
    fn served_under(&self, label: &Label) -> BTreeSet<String> {
        let routed = self.world.routing.now();
        let Some(route) = routed.table.label_of(&self.state.app.name, label.as_str()) else {
            return BTreeSet::new();
        };
        let is_its_own = |pool: &&PoolRecord| pool.references.iter().any(|claim| claim.version == route.version);
        let pools = self.state.pools.values().filter(is_its_own);
        let serving = pools.filter(|pool| self.state.ready(&pool.id) > 0);
        serving.map(|pool| pool.service.clone()).collect()
    }

    /// Gives the version pools for these services. Says whether any of them was there.
    fn claim_for(&mut self, mut version: VersionRecord, services: &BTreeSet<String>) -> (VersionRecord, bool) {
        let mut is_reused = false;
        for name in services {
            if let Some((pool, reused)) = self.claim_preview(&version, name) {
                version.pools.insert(name.clone(), pool);
                is_reused |= reused;
            }
        }
        (version, is_reused)
    }

    /// The pool of a service of a preview: the one of its label that runs the same, or a new one.
    fn claim_preview(&mut self, version: &VersionRecord, service: &str) -> Option<(PoolId, bool)> {
        let preview = version.preview.as_ref()?;
        let spec = preview.specs.get(service)?.clone();
        let claim = Reference {
            version: version.id.clone(),
            seq: version.seq,
            concurrency: spec.service.concurrency,
        };
        Some(self.claim(service, spec, claim, Some(&preview.label)))
    }

    /// Lets the version have its label, and those go that are too many: all of it or nothing.
    async fn publish_preview(&mut self, seq: u64) {
        let Some(preparation) = self.making.of.get(&seq) else {
            return;
        };
        let Some(version) = preparation.version.clone() else {
            return;
        };
        let (app, now) = (self.state.app.name.clone(), self.world.clock.wall());
        let table = self.world.routing.now().table;
        let label = preparation.order.label.as_str();
        let most = self.world.policy.previews.per_app;
        let evict = preview::evicted(label, table.labels_of(&app), most, now);
        let before = table.label_of(&app, label).filter(|route| now < route.expires_at);
        let replaced = before.map(|route| route.version.clone());
        let route = EphemeralRoute {
            label: label.to_owned(),
            version: version.clone(),
            expires_at: later(now, preparation.order.ttl),
        };
        let is_keyed = self.note_asked(seq, &version, replaced.clone(), &evict);
        if is_keyed && !self.commit().await {
            // What is not saved is not announced.
            return;
        }
        let change = Change::Label {
            app,
            route,
            evict: evict.clone(),
        };
        match self.world.routing.submit(change).await {
            Ok(generation) => {
                if let Some(preparation) = self.making.of.get_mut(&seq) {
                    preparation.stage = Stage::Announced;
                    preparation.replaced = replaced;
                    preparation.evicted = evict;
                }
                self.tell(seq, format!("published in snapshot {generation}"));
                self.await_acknowledgement(seq, generation, Duration::ZERO);
            }
            Err(error) => self.fail_preview(seq, error.into()),
        }
    }

    /// The key it was asked for with, if there is one, is part of its version, with what is answered: a restart answers the same.
    fn note_asked(&mut self, seq: u64, version: &VersionId, replaced: Option<VersionId>, evicted: &[String]) -> bool {
        let preparation = self.making.of.get(&seq);
        let asked = preparation.and_then(|preparation| Some((preparation.order.asked()?, preparation.reused)));
        let record = self.state.previews.get_mut(version);
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
        self.ledger.put(&*record);
        true
    }

    fn finish_preview(&mut self, seq: u64) {
        self.publish();
        let Some(preparation) = self.end_preview(seq) else {
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
            self.world.metrics.previews.with_label_values(&["made"]).inc();
            tracing::info!(app = %self.state.app.name, %label, version = %made.ephemeral.version,
                until = %made.ephemeral.expires_at, "preview");
            self.remember_preview(preparation.order, made.clone());
        }
        answer(preparation.replies, &made);
    }

    /// Ends it with an error. What serves the label goes on; what was made for it is removed as anything without a label.
    pub(super) fn fail_preview(&mut self, seq: u64, error: ApiError) {
        let Some(preparation) = self.end_preview(seq) else {
            return;
        };
        self.world.metrics.previews.with_label_values(&["failed"]).inc();
        tracing::warn!(app = %self.state.app.name, label = %preparation.order.label, %error, "a preview failed");
        answer(preparation.replies, &Err(error));
    }

    /// Tells those who follow it.
    fn tell(&self, seq: u64, text: String) {
        if let Some(key) = self.making.key(seq) {
            self.world.outputs.open(key).add(text);
        }
    }

    fn end_preview(&mut self, seq: u64) -> Option<Preparation> {
        if let Some(key) = self.making.key(seq) {
            self.world.outputs.open(key).end();
        }
        self.acknowledged.remove(&seq);
        self.end_fetch(seq);
        self.making.of.remove(&seq)
    }
}

fn answer(replies: Vec<Reply>, outcome: &Result<EphemeralDeployed, ApiError>) {
    for reply in replies {
        // Who asked may be gone: the preview is there all the same.
        let _ = reply.send(outcome.clone());
    }
}

//! How the proxy follows control: serve what it routes by, say so, keep it on disk, pass hints on.

use super::keep::{Unwritten, keep};
use super::served::Verdict;
use super::{Routing, Served, SnapshotStore};
use crate::control::{Backoff, Control};
use crate::lease::Leases;
use crate::life::folder::Folder;
use crate::metrics::Metrics;
use futures_util::{Stream, StreamExt};
use miren_api::client::Event;
use miren_api::lease::LeaseKey;
use miren_api::routing::{PoolChanged, RoutingDelta, RoutingSnapshot, SandboxHint};
use miren_api::{ClientError, Identity};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// First pause after the stream broke.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// Longest pause between attempts to reach control.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// How long the first snapshot may take to come from control before the one on disk is used.
const CONTROL_FIRST: Duration = Duration::from_secs(1);

/// What control tells, event by event.
type Events = Pin<Box<dyn Stream<Item = Result<Event, ClientError>> + Send>>;

/// A first snapshot from control, and the stream it came on.
pub struct Begun {
    snapshot: RoutingSnapshot,
    events: Events,
}

/// Where it is told that a snapshot is in use.
struct Outlets {
    applied: watch::Sender<Served>,
    unwritten: Unwritten,
}

/// Everything that following needs.
#[derive(Clone, Debug)]
pub struct Follower {
    pub control: Control,
    pub routing: Arc<Routing>,
    pub leases: Leases,
    pub store: SnapshotStore,
    /// Where that is.
    pub folder: Folder,
    pub metrics: Arc<Metrics>,
}

impl Follower {
    /// Takes a first snapshot: control's, if it answers soon; else the newest readable one from disk, which may be older
    /// than what the proxy before this one served. What control has begun to tell is to be followed on.
    pub async fn begin(&self) -> Option<Begun> {
        let Ok(Some(begun)) = tokio::time::timeout(CONTROL_FIRST, self.fetch()).await else {
            self.load();
            return None;
        };
        self.routing.replace(&begun.snapshot);
        Some(begun)
    }

    async fn fetch(&self) -> Option<Begun> {
        let mut events: Events = Box::pin(self.control.stream(None).await.ok()?);
        loop {
            let event = events.next().await?.ok()?;
            match event.name.as_str() {
                "identity" if !self.is_bound_to(&event) => return None,
                "snapshot" => {
                    let snapshot = serde_json::from_str(&event.data).ok()?;
                    return Some(Begun { snapshot, events });
                }
                _ => {}
            }
        }
    }

    fn load(&self) {
        let loaded = self.store.load();
        for (path, why) in &loaded.damaged {
            self.metrics.damaged_snapshots.inc();
            tracing::error!(file = %path.display(), why, "ALARM: what was kept of routing cannot all be used; going by what was kept before");
        }
        if let Some(table) = loaded.table {
            let generation = table.generation();
            tracing::info!(generation, "routing by the kept snapshot until control answers");
            self.routing.put(table);
        }
    }

    /// Whether the slot table in use is the one that control, by this event, writes.
    fn is_bound_to(&self, event: &Event) -> bool {
        let told: Result<Identity, _> = serde_json::from_str(&event.data);
        if let Ok(Identity { lineage, epoch, .. }) = &told {
            tracing::debug!(lineage, epoch, "following control");
        }
        self.leases.binding().holds_for(told.ok().as_ref())
    }

    /// Follows control until the task is dropped; it never ends by itself. Once control writes another slot table nothing is
    /// served by what it says, and nothing acknowledged. `begun` is what [`Follower::begin`] returned.
    pub async fn run(self, begun: Option<Begun>) {
        let (applied, to_acknowledge) = watch::channel(Served::default());
        let outlets = Outlets {
            applied,
            unwritten: Unwritten::default(),
        };
        let following = async {
            tokio::join!(
                self.follow(begun, &outlets),
                acknowledge(self.control.clone(), to_acknowledge),
                keep(&outlets.unwritten, &self.store, &self.folder, &self.metrics)
            )
        };
        tokio::select! {
            biased;
            // Its end would be taken for a death, which cuts what is in flight.
            _ = self.leases.binding().ended() => std::future::pending().await,
            _ = following => {}
        }
    }

    async fn follow(&self, begun: Option<Begun>, outlets: &Outlets) {
        let mut pause = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        // A snapshot from disk is not resumed after: control may have been set up anew since.
        let mut last = None;
        let mut open = None;
        if let Some(Begun { snapshot, events }) = begun {
            self.take(&snapshot, true, &mut last, outlets);
            open = Some(events);
        }
        let mut said = false;
        loop {
            let result = self.one_stream(open.take(), &mut last, outlets, &mut pause).await;
            let was_connected = self.metrics.control_connected.get() == 1;
            self.metrics.control_connected.set(0);
            match result {
                Ok(()) => tracing::debug!("control ended the stream; connecting again"),
                Err(error) if was_connected || !said => {
                    tracing::warn!(%error, "cannot follow control; serving what is known");
                    said = true;
                }
                Err(error) => tracing::debug!(%error, "still cannot follow control"),
            }
            tokio::time::sleep(pause.pause()).await;
        }
    }

    async fn one_stream(
        &self,
        open: Option<Events>,
        last: &mut Option<u64>,
        outlets: &Outlets,
        pause: &mut Backoff,
    ) -> Result<(), ClientError> {
        let mut begins = open.is_none();
        let mut events = match open {
            Some(events) => events,
            None => Box::pin(self.control.stream(*last).await?),
        };
        self.metrics.control_connected.set(1);
        if !begins {
            self.leases.refresh_all();
        }
        while let Some(event) = events.next().await {
            let event = event?;
            pause.reset();
            match event.name.as_str() {
                "identity" => {
                    if !self.is_bound_to(&event) {
                        return Ok(());
                    }
                }
                "snapshot" => {
                    if begins {
                        // What happened while nobody listened: every pool in use asks again.
                        self.leases.refresh_all();
                    }
                    match serde_json::from_str::<RoutingSnapshot>(&event.data) {
                        Ok(snapshot) => {
                            self.take(&snapshot, begins, last, outlets);
                            begins = false;
                        }
                        Err(error) => {
                            tracing::error!(%error, "control sent a snapshot this proxy cannot read; keeping the last one")
                        }
                    }
                }
                "delta" => {
                    if let Err(why) = self.advance(&event, last, outlets) {
                        self.metrics.routing_gaps.inc();
                        tracing::warn!(why, "asking control for a whole snapshot");
                        return Ok(());
                    }
                }
                _ => self.hint(&event),
            }
        }
        Ok(())
    }

    /// Applies what control sent, and has what is served from then on acknowledged.
    ///
    /// The first one of this process replaces one from disk in any case.
    fn take(&self, snapshot: &RoutingSnapshot, begins: bool, last: &mut Option<u64>, outlets: &Outlets) {
        let (current, told) = (self.routing.served(), Served::of(snapshot));
        match current.judge(&told, begins) {
            Verdict::Take => {}
            Verdict::Same if last.is_none() => {}
            Verdict::Same => return outlets.applied.send_modify(|applied| *applied = current),
            Verdict::Late => {
                tracing::warn!(%told, %current, "control sent an older snapshot");
                return outlets.applied.send_modify(|applied| *applied = current);
            }
        }
        if last.is_some() && current.is_put_back_by(&told) {
            tracing::warn!(%told, %current, "control goes by another history, as after a restore of its store: routing by that");
        }
        self.routing.replace(snapshot);
        self.applied(None, last, outlets);
    }

    /// Applies what changed since the generation in use; says why not when only a whole snapshot helps.
    fn advance(&self, event: &Event, last: &mut Option<u64>, outlets: &Outlets) -> Result<(), String> {
        let delta: RoutingDelta = serde_json::from_str(&event.data).map_err(|error| error.to_string())?;
        if Served::after(&delta) != self.routing.served() {
            self.routing.advance(&delta).map_err(|gap| gap.to_string())?;
            self.applied(Some(delta), last, outlets);
        }
        Ok(())
    }

    /// Another table is in use, by this change if it was one: everyone who has to know is told.
    fn applied(&self, change: Option<RoutingDelta>, last: &mut Option<u64>, outlets: &Outlets) {
        let Some(table) = self.routing.table().clone() else {
            return;
        };
        self.leases.keep_only(&table);
        let (generation, served) = (table.generation(), table.served().clone());
        self.metrics
            .snapshot_generation
            .set(i64::try_from(generation).unwrap_or(i64::MAX));
        tracing::debug!(%served, "routing by a new table");
        outlets.unwritten.put(table, change);
        *last = Some(generation);
        outlets.applied.send_replace(served);
    }

    /// Hints only make the proxy look: at a slot word, or for new leases.
    fn hint(&self, event: &Event) {
        match event.name.as_str() {
            "pool" => {
                if let Ok(PoolChanged { pool }) = serde_json::from_str(&event.data) {
                    self.leases.refresh(&pool);
                }
            }
            "sandbox" => {
                if let Ok(SandboxHint {
                    node, slot, generation, ..
                }) = serde_json::from_str(&event.data)
                {
                    self.leases.look(LeaseKey { node, slot, generation });
                }
            }
            other => tracing::debug!(event = other, "control sent an event this proxy does not know"),
        }
    }
}

/// Tells control what is served, until it has heard it or something else is.
async fn acknowledge(control: Control, mut applied: watch::Receiver<Served>) {
    let mut pause = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
    while applied.changed().await.is_ok() {
        let served = applied.borrow_and_update().clone();
        while let Err(error) = control.acknowledge(&served).await {
            tracing::debug!(%error, %served, "control did not take the acknowledgement");
            tokio::time::sleep(pause.pause()).await;
            if applied.has_changed().unwrap_or(false) {
                break;
            }
        }
        pause.reset();
    }
}

//! The limits and counts of all connections of some listeners: who is let in, who is told to go, and the end.

use super::client::{Client, Limit};
use super::park::Place;
use super::places::{Cause, Entrance, Entry, Places, Turned};
use super::seldom::Seldom;
use crate::config::{Limits, Network};
use crate::life::gate::{Class, Gate};
use crate::metrics::Metrics;
use parking_lot::Mutex;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// How long connections without a request stay open when the proxy stops.
#[derive(Clone, Copy, Debug)]
pub(super) struct Graces {
    /// One that had a request: the next may be on its way.
    pub kept: Duration,
    /// One that was accepted but has not sent its first request; longer.
    pub fresh: Duration,
}

/// Of clients who could not know that it stops.
pub(super) const GRACES: Graces = Graces {
    kept: Duration::from_secs(1),
    fresh: Duration::from_secs(2),
};

/// How long a new connection waits for one that was told to give way. Going takes microseconds; where it takes longer than
/// this, the machine has no time for connections.
const GIVE_WAY: Duration = Duration::from_secs(5);

/// Which connections without a request are told to go since the proxy stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Closing {
    No = 0,
    /// Those that had a request.
    Kept = 1,
    All = 2,
}

/// The limits and counts of all connections.
#[derive(Debug)]
pub struct House {
    places: Mutex<Places>,
    trusted: Vec<Network>,
    /// A [`Closing`].
    closing: AtomicU8,
    /// The time for requests is over.
    requests_cut: AtomicBool,
    /// A place became free, or one that was to give way has got a request.
    freed: Notify,
    /// Half of a crowd has left.
    crowd_left: Notify,
    opened: Instant,
    gate: Arc<Gate>,
    /// `None` where they are no clients.
    metrics: Option<Arc<Metrics>>,
    refusals: Seldom,
    shortages: Seldom,
}

impl House {
    /// For clients. `limits.connections` is a number here, as [`super::descriptors::connections`] settles it; who is in
    /// `trusted` speaks for many clients and has no limit of its own.
    pub fn new(limits: &Limits, trusted: Vec<Network>, gate: Arc<Gate>, metrics: Arc<Metrics>) -> Arc<Self> {
        let each = Limit::of(limits.connections_per_ip, limits.connections);
        Arc::new(Self::with(limits.connections, each, trusted, gate, Some(metrics)))
    }

    /// For `places` connections that are no clients': whoever they come from, nothing but their number is limited.
    pub fn uncounted(places: usize) -> Arc<Self> {
        Arc::new(Self::with(
            places,
            Limit::Fixed(usize::MAX),
            Vec::new(),
            Arc::default(),
            None,
        ))
    }

    fn with(places: usize, each: Limit, trusted: Vec<Network>, gate: Arc<Gate>, metrics: Option<Arc<Metrics>>) -> Self {
        Self {
            places: Mutex::new(Places::new(places, each)),
            trusted,
            closing: AtomicU8::new(Closing::No as u8),
            requests_cut: AtomicBool::new(false),
            freed: Notify::new(),
            crowd_left: Notify::new(),
            opened: Instant::now(),
            gate,
            metrics,
            refusals: Seldom::default(),
            shortages: Seldom::default(),
        }
    }

    /// Tells some of those longest without a request to go; for who finds no descriptor, such as for a connection to a sandbox.
    pub fn make_room(&self) {
        let chosen = self.places.lock().make_room(self.now());
        tell(&chosen);
    }

    /// Returns when a crowd has left: half of it, or half of what was left then.
    pub async fn crowd_left(&self) {
        self.crowd_left.notified().await;
    }

    /// A place for a connection from `address`; `None` if it is to be closed at once.
    pub(super) async fn admit(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let client = Client::of(address, &self.trusted);
        let begun = tokio::time::Instant::now();
        loop {
            let mut freed = std::pin::pin!(self.freed.notified());
            freed.as_mut().enable();
            let entrance = self.places.lock().enter(client, self.now());
            match entrance {
                Entrance::In(entry) => return Some(self.place(entry)),
                Entrance::Soon(chosen) => tell(&chosen),
                Entrance::Full(cause) => {
                    self.refuse(address, cause);
                    return None;
                }
            }
            if tokio::time::timeout_at(begun + GIVE_WAY, freed).await.is_err() {
                self.refuse(address, Cause::All);
                return None;
            }
        }
    }

    fn place(self: &Arc<Self>, entry: Arc<Entry>) -> Place {
        self.count(|metrics| {
            metrics.connections.inc();
            metrics.open_connections.inc();
        });
        let (fresh, counted) = (self.gate.enter(Class::Fresh), self.gate.enter(Class::Connection));
        Place::new(Arc::clone(self), entry, fresh, counted)
    }

    fn refuse(&self, address: IpAddr, cause: Cause) {
        self.count(|metrics| metrics.connections_refused.inc());
        let Some(times) = self.refusals.happened(Instant::now()) else {
            return;
        };
        match cause {
            Cause::All => tracing::warn!(
                times,
                "closed new connections at once: as many as limits.connections allows are busy with requests"
            ),
            Cause::Client => tracing::warn!(
                times,
                %address,
                "closed new connections at once: their address has as many open as limits.connections_per_ip allows"
            ),
        }
    }

    /// No connection can be accepted: has room made, and waits until a connection ends, or for `longest`.
    pub(super) async fn pause(&self, error: &io::Error, longest: Duration) {
        self.count(|metrics| metrics.crowds.accept_errors.inc());
        if let Some(times) = self.shortages.happened(Instant::now()) {
            tracing::error!(%error, times, "cannot accept connections; they wait (see the limit of descriptors, LimitNOFILE)");
        }
        let mut freed = std::pin::pin!(self.freed.notified());
        freed.as_mut().enable();
        self.make_room();
        // Either way it is tried again.
        let _ = tokio::time::timeout(longest, freed).await;
    }

    /// An entry was written by its owner. True if its connection had no request before.
    pub(super) fn turned(&self, entry: &Entry, turned: Turned) -> bool {
        if turned.was_chosen {
            self.places.lock().stays(entry);
            self.freed.notify_waiters();
        }
        turned.was_fresh
    }

    pub(super) fn leave(&self, entry: &Entry) {
        let left = self.places.lock().leave(entry);
        if left.is_crowd {
            self.crowd_left.notify_one();
        }
        self.freed.notify_waiters();
        self.count(|metrics| {
            metrics.open_connections.dec();
            if left.gave_way {
                metrics.crowds.evicted.inc();
            }
        });
    }

    /// Whether a connection without a request is to be closed, since its place is needed or the proxy stops.
    pub(super) fn is_over(&self, entry: &Entry) -> bool {
        let closing = if entry.is_fresh() { Closing::All } else { Closing::Kept };
        entry.is_chosen() || self.closing.load(Ordering::SeqCst) >= closing as u8 || self.has_cut_requests()
    }

    /// Has requests ended, whoever has them: those there are, and those that come.
    pub fn cut_requests(&self) {
        self.requests_cut.store(true, Ordering::SeqCst);
        self.tell_all();
    }

    pub(super) fn has_cut_requests(&self) -> bool {
        self.requests_cut.load(Ordering::SeqCst)
    }

    /// Since the house was opened.
    pub(super) fn now(&self) -> Duration {
        self.opened.elapsed()
    }

    /// Whether those who have its places are clients: they may have a request under way, and have to be told of an end.
    pub(super) fn has_clients(&self) -> bool {
        self.metrics.is_some()
    }

    /// Returns once the proxy was told to stop and no connection is left.
    pub(super) async fn is_empty(&self) {
        self.gate.empty(Class::Connection).await;
    }

    /// Gives connections without a request their moment once nobody new is let in; returns at once when there are none.
    pub(super) async fn settle(&self, graces: Graces) {
        let over = async {
            tokio::time::sleep(graces.kept).await;
            self.close(Closing::Kept);
            let fresh = self.gate.empty(Class::Fresh);
            // Those that are there still have had their time.
            let _ = tokio::time::timeout(graces.fresh - graces.kept, fresh).await;
        };
        tokio::select! {
            () = self.gate.empty(Class::Connection) => {}
            () = over => {}
        }
        self.close(Closing::All);
    }

    fn close(&self, closing: Closing) {
        self.closing.store(closing as u8, Ordering::SeqCst);
        self.tell_all();
    }

    fn tell_all(&self) {
        let open = self.places.lock().open().to_vec();
        tell(&open);
    }

    fn count(&self, count: impl FnOnce(&Metrics)) {
        if let Some(metrics) = &self.metrics {
            count(metrics);
        }
    }
}

/// With no lock held: what is woken may leave.
fn tell(entries: &[Arc<Entry>]) {
    for entry in entries {
        entry.told.wake();
    }
}

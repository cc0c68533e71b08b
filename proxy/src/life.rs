//! The life of a proxy: open what needs privileges, serve, and go when nothing is under way.

use crate::binding::Binding;
use crate::config::Config;
use crate::control::Control;
use crate::edge::Plain;
use crate::error::StartError;
use crate::lease::{KeepLimits, LeaseStore, Leases, WaitLimits};
use crate::life::admin::Admin;
use crate::life::gate::{Class, Gate};
use crate::listen::{self, House, descriptors, sockets};
use crate::metrics::Metrics;
use crate::request::{Parts, Rules};
use crate::routing::{Follower, Routing, SnapshotStore};
use crate::slots::Slots;
use miren_loader::{OpenError, ProxyEvents};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

pub mod admin;
pub mod gate;
pub mod memory;
pub mod privileges;

/// How long the slot table may take to appear: control makes it when it starts.
const TABLE_WAIT: Duration = Duration::from_secs(30);
const TABLE_POLL: Duration = Duration::from_millis(50);

/// How long WebSockets may take to say goodbye at the end: each has a second.
const GOODBYES: Duration = Duration::from_secs(2);

/// How long control may take to take the leases back at the end.
const GIVE_BACK: Duration = Duration::from_secs(1);

/// How far the proxy was told to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stop {
    /// Serve.
    No,
    /// Take no new connection, finish what is under way.
    Finish,
    /// Go at once.
    Now,
}

/// How serving came to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Everything under way was finished.
    Finished,
    /// Something was cut.
    Cut,
    /// Control writes another slot table than the one this process could open: a successor has to begin with privileges.
    OtherTable { own: String, controls: String },
}

/// Where a proxy listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addresses {
    pub http: Vec<SocketAddr>,
    pub admin: SocketAddr,
}

/// Everything opened that needs privileges; nothing runs yet.
#[derive(Debug)]
pub struct Prepared {
    config: Config,
    slots: Slots,
    events: Option<ProxyEvents>,
    http: Vec<TcpListener>,
    admin: TcpListener,
}

impl Prepared {
    /// Opens the slot table and listens; settles how many connections there may be.
    ///
    /// # Errors
    /// When an address is taken, when more connections are set than there can be, or when there is no slot table within half a minute.
    pub fn open(mut config: Config) -> Result<Self, StartError> {
        let descriptors = descriptors::raise().map_err(StartError::Descriptors)?;
        config.limits.connections = descriptors::connections(&config.limits, descriptors)?;
        let http = sockets::http(&config.http)?;
        let admin = sockets::listen(config.admin, "admin.listen")?;
        let (slots, events) = open_slots(&config).map_err(|source| StartError::Slots { source })?;
        Ok(Self {
            config,
            slots,
            events,
            http,
            admin,
        })
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Where it listens; with port 0 in the settings, where the system chose.
    pub fn addresses(&self) -> std::io::Result<Addresses> {
        let http = self
            .http
            .iter()
            .map(TcpListener::local_addr)
            .collect::<std::io::Result<_>>()?;
        Ok(Addresses {
            http,
            admin: self.admin.local_addr()?,
        })
    }

    /// Serves until told to stop, or until the slot table is not control's any more; calls `ready` once the first routing
    /// snapshot is there.
    ///
    /// # Errors
    /// When something cannot be set up.
    pub async fn serve(
        self,
        stop: watch::Receiver<Stop>,
        ready: impl FnOnce() + Send + 'static,
    ) -> Result<Ended, StartError> {
        let metrics = Arc::new(Metrics::new()?);
        let server = self.config.control.to_string();
        let control = Control::new(&self.config.control).map_err(|source| StartError::Control { server, source })?;
        let (waiting, kept) = (waiting(&self.config), kept_links(&self.config));
        let (leases, keeper) = Leases::new(self.slots, control.clone(), waiting, kept, Arc::clone(&metrics));
        let routing = Arc::new(Routing::default());
        let store = SnapshotStore::new(&self.config.data_dir);
        let follower = Follower {
            control,
            routing: Arc::clone(&routing),
            leases: leases.clone(),
            store,
            metrics: Arc::clone(&metrics),
        };
        let kept = LeaseStore::new(&self.config.data_dir, leases.binding().own());
        let begun = follower.begin().await;
        if let (None, Some(table)) = (&begun, &*routing.table()) {
            leases.restore(&kept, table);
        }

        let gate = Arc::new(Gate::default());
        let (close, closed) = watch::channel(false);
        let parts = Parts {
            routing: Arc::clone(&routing),
            leases: leases.clone(),
            gate: Arc::clone(&gate),
            metrics: Arc::clone(&metrics),
        };
        let house = house(&self.config, &parts);
        let plain = Arc::new(Plain::new(parts, Rules::of(&self.config)));
        let edge = listen::listen(self.http, Arc::clone(&house), plain, closed)?;

        let mut tasks = JoinSet::new();
        let giving_back = memory::after_crowds(house, self.config.threads);
        tasks.spawn(miren_log::endless("giving memory back after crowds", giving_back));
        let keeping = keeper.run(self.events, kept);
        tasks.spawn(miren_log::endless("the keeper of leases", keeping));
        tasks.spawn(miren_log::endless("the follower of routing", follower.run(begun)));
        let ready = tell_when_ready(Arc::clone(&routing), leases.binding().clone(), ready);
        tasks.spawn(miren_log::supervised("readiness", ready));
        let admin = Admin {
            metrics,
            routing,
            gate: Arc::clone(&gate),
        };
        tasks.spawn(miren_log::supervised("the metrics", serve_admin(admin, self.admin)));

        let patience = self.config.request_timeout;
        let ended = finish(stop, &leases, async move {
            gate.close();
            close.send_replace(true);
            drained(edge, &gate, patience).await
        })
        .await;
        if tokio::time::timeout(GIVE_BACK, leases.give_back()).await.is_err() {
            tracing::debug!("control did not take the leases back in time; they expire");
        }
        Ok(ended)
    }
}

fn waiting(config: &Config) -> WaitLimits {
    WaitLimits {
        requests: config.limits.waiting_requests,
        bytes: config.limits.waiting_bytes.0,
        time: config.timeouts.wait_for_capacity,
    }
}

fn kept_links(config: &Config) -> KeepLimits {
    KeepLimits::new(config.limits.upstream_idle, config.timeouts.upstream_idle)
}

fn house(config: &Config, parts: &Parts) -> Arc<House> {
    let (gate, metrics) = (Arc::clone(&parts.gate), Arc::clone(&parts.metrics));
    House::new(&config.limits, config.trusted.clone(), gate, metrics)
}

/// Waits for the order to stop, or until the slot table says nothing any more; then for `end`. A second order ends it at once.
async fn finish(mut stop: watch::Receiver<Stop>, leases: &Leases, end: impl Future<Output = bool>) -> Ended {
    let other = tokio::select! {
        // A sender that is gone can give no order any more.
        _ = stop.wait_for(|order| *order >= Stop::Finish) => None,
        other = leases.binding().ended() => Some(other),
    };
    if let Some(other) = &other {
        tracing::error!(own = %leases.binding().own(), controls = other, "control writes another slot table: taking no more requests");
        leases.let_go();
    }
    // Also where it stops already: the rest is not done by words that nobody writes.
    let let_go = async {
        leases.binding().ended().await;
        leases.let_go();
        std::future::pending().await
    };
    let finished = tokio::select! {
        finished = finish_or_stop(stop, end) => finished,
        never = let_go => never,
    };
    match other {
        Some(controls) => Ended::OtherTable {
            own: leases.binding().own().to_string(),
            controls,
        },
        None if finished => Ended::Finished,
        None => Ended::Cut,
    }
}

async fn finish_or_stop(mut stop: watch::Receiver<Stop>, end: impl Future<Output = bool>) -> bool {
    let now = async {
        if stop.wait_for(|order| *order >= Stop::Now).await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        finished = end => finished,
        () = now => false,
    }
}

/// Whether every connection ended within `patience`.
async fn drained(edge: JoinHandle<()>, gate: &Gate, patience: Duration) -> bool {
    let all = async {
        if let Err(error) = edge.await {
            tracing::error!(%error, "the listeners failed");
        }
        gate.empty(Class::Connection).await;
    };
    let finished = tokio::time::timeout(patience, all).await.is_ok();
    if !finished {
        let (requests, tunnels) = (gate.count(Class::Request), gate.count(Class::Tunnel));
        tracing::warn!(requests, tunnels, "cut what was still under way after {patience:?}");
        gate.say_goodbye();
        let _ = tokio::time::timeout(GOODBYES, gate.empty(Class::Tunnel)).await;
    }
    finished
}

async fn tell_when_ready(routing: Arc<Routing>, binding: Binding, ready: impl FnOnce()) {
    let mut changes = routing.changes();
    while routing.table().is_none() {
        if changes.changed().await.is_err() {
            return;
        }
    }
    // One of another table serves nothing: it ends for a successor.
    if binding.holds() {
        ready();
    }
}

async fn serve_admin(admin: Admin, listener: TcpListener) {
    if let Err(error) = admin.serve(listener).await {
        tracing::error!(%error, "metrics are not served any more");
    }
}

fn open_slots(config: &Config) -> Result<(Slots, Option<ProxyEvents>), OpenError> {
    let begun = Instant::now();
    let mut said = false;
    loop {
        match Slots::open(&config.slots) {
            Err(OpenError::NoTable(place)) if begun.elapsed() < TABLE_WAIT => {
                if !said {
                    tracing::info!(table = %place.display(), "waiting for miren-control to make the slot table");
                    said = true;
                }
                std::thread::sleep(TABLE_POLL);
            }
            result => return result,
        }
    }
}

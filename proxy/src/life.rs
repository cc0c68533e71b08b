//! The life of a proxy: open what needs privileges, serve, and go when nothing is under way.

use crate::binding::Binding;
use crate::config::Config;
use crate::control::Control;
use crate::edge::Plain;
use crate::error::StartError;
use crate::lease::{KeepLimits, LeaseStore, Leases, WaitLimits};
use crate::life::admin::Admin;
use crate::life::folder::Folder;
use crate::life::gate::Gate;
use crate::life::parent::Parent;
use crate::life::phase::{Budgets, Life};
use crate::life::replace::Until;
use crate::life::stop::{Announce, Voices, Works};
use crate::life::successor::Successor;
use crate::life::upgrade::Successors;
use crate::listen::{self, House, descriptors, sockets};
use crate::metrics::Metrics;
use crate::request::{Parts, Rules};
use crate::routing::{Follower, Routing, SnapshotStore};
use crate::slots::Slots;
use miren_fault::Point;
use miren_loader::{OpenError, ProxyEvents};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

pub mod admin;
mod facts;
pub mod folder;
pub mod gate;
mod handover;
pub mod memory;
mod parent;
pub mod phase;
pub mod privileges;
pub mod replace;
mod stop;
mod successor;
mod upgrade;
mod watchdog;

pub use facts::facts;

/// How long the slot table may take to appear: control makes it when it starts.
const TABLE_WAIT: Duration = Duration::from_secs(30);
const TABLE_POLL: Duration = Duration::from_millis(50);

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
    /// Whether a supervisor made those.
    supervised: bool,
    admin: TcpListener,
    parent: Option<Parent>,
    successor: Option<Successor>,
}

impl Prepared {
    /// Opens the slot table and listens; settles how many connections there may be.
    ///
    /// # Errors
    /// When an address is taken, when more connections are set than there can be, or when there is no slot table within half a minute.
    pub fn open(mut config: Config) -> Result<Self, StartError> {
        settle_connections(&mut config)?;
        let (http, supervised) = sockets::http(&config.http)?;
        let admin = sockets::listen(config.admin, "admin.listen")?;
        let (slots, events) = open_slots(&config, TABLE_WAIT).map_err(|source| StartError::Slots { source })?;
        Ok(Self {
            config,
            slots,
            events,
            http,
            supervised,
            admin,
            parent: Parent::of_this_process(),
            successor: None,
        })
    }

    /// The same, with the sockets of the proxy that runs on the same data folder. That one serves on until this one says that it is
    /// ready to accept, which it says before `until`. The second part is where that one writes its log.
    ///
    /// # Errors
    /// As [`Prepared::open`], or when no proxy gives its sockets. The slot table is there already, or never.
    pub fn take_over(mut config: Config, until: Option<Until>) -> Result<(Self, OwnedFd), StartError> {
        settle_connections(&mut config)?;
        miren_fault::blocking(Point::TakeSlots)?;
        let (slots, events) = open_slots(&config, Duration::ZERO).map_err(|source| StartError::Slots { source })?;
        let handed = successor::ask(&config.data_dir)?;
        let supervised = handed.is_supervised();
        let log = handed.log.try_clone()?;
        let (http, admin, mut successor) = handed.settle(&config)?;
        successor.until = until;
        let prepared = Self {
            config,
            slots,
            events,
            http,
            supervised,
            admin,
            parent: Parent::of_this_process(),
            successor: Some(successor),
        };
        Ok((prepared, log))
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

    /// Serves until told to stop, until a successor does, or until the slot table is not control's any more; calls `ready` once
    /// requests can be served here, and nowhere else any more where this is a successor.
    ///
    /// # Errors
    /// When something cannot be set up, or the process before this one does not make way.
    pub async fn serve(
        self,
        stop: watch::Receiver<Stop>,
        ready: impl FnOnce() + Send + 'static,
    ) -> Result<Ended, StartError> {
        let Self {
            config,
            slots,
            events,
            http,
            supervised,
            admin,
            parent,
            successor,
        } = self;
        let mut tasks = JoinSet::new();
        let folder = Folder::new(&config.data_dir);
        let (parts, by_control) = follow(&config, slots, events, folder.clone(), &mut tasks).await?;
        let works = Works::new(&parts, house(&config, &parts));
        let plain = Arc::new(Plain::new(parts.clone(), Rules::of(&config)));
        if let Some(successor) = &successor {
            tokio::select! {
                proven = successor.prove(&parts.routing, by_control, &works.house, &plain) => proven?,
                // Nothing has begun.
                () = told(stop.clone()) => return Ok(Ended::Finished),
            }
            miren_fault::at(Point::TakeListen).await?;
        }
        let sockets = upgrade::copies(&http, supervised, &admin)?;
        let listeners = listen::listen(http, Arc::clone(&works.house), plain, works.door.subscribe())?;
        let watchdog = watchdog::interval(successor.as_ref().and_then(|successor| successor.watchdog));
        if let Some(successor) = successor
            && let Err(error) = successor.serves(|| works.open()).await
        {
            // Nobody was let in.
            give_back(&parts.leases).await;
            return Err(error);
        }
        works.open();
        let (successors, served) = watch::channel(None);
        serve_pages(&works, admin, served.clone(), &mut tasks);
        let giving_back = memory::after_crowds(Arc::clone(&works.house), config.threads);
        tasks.spawn(miren_log::endless("giving memory back after crowds", giving_back));
        tell_supervisor(watchdog, served, &mut tasks);
        own(&folder, &mut tasks);
        let routing = Arc::clone(&parts.routing);
        let (upgrades, offers) = upgrade::upgrades(sockets, routing, successors, (watchdog, parent));
        tasks.spawn(miren_log::endless("the upgrades", upgrades.run(folder)));
        let (tell, is_ready) = oneshot::channel();
        let ready: Announce = Box::new(ready);
        let ready = move || {
            // Who has ended has no use for it.
            drop(tell.send(ready));
        };
        let ready = tell_when_ready(Arc::clone(&parts.routing), parts.leases.binding().clone(), ready);
        tasks.spawn(miren_log::supervised("readiness", ready));
        let voices = Voices {
            orders: stop,
            ready: is_ready,
            offers,
            listeners,
        };
        let ended = works.run(Life::new(budgets(&config)), voices).await;
        give_back(&parts.leases).await;
        Ok(ended)
    }
}

/// Begins to follow control: with routing when it returns, if there is any. Whether that is what control says.
async fn follow(
    config: &Config,
    slots: Slots,
    events: Option<ProxyEvents>,
    folder: Folder,
    tasks: &mut JoinSet<()>,
) -> Result<(Parts, bool), StartError> {
    let metrics = Arc::new(Metrics::new()?);
    let server = config.control.to_string();
    let control = Control::new(&config.control).map_err(|source| StartError::Control { server, source })?;
    let (waiting, kept) = (waiting(config), kept_links(config));
    let (leases, keeper) = Leases::new(slots, control.clone(), waiting, kept, Arc::clone(&metrics));
    let routing = Arc::new(Routing::default());
    let follower = Follower {
        control,
        routing: Arc::clone(&routing),
        leases: leases.clone(),
        store: SnapshotStore::new(&config.data_dir),
        folder: folder.clone(),
        metrics: Arc::clone(&metrics),
    };
    let kept = LeaseStore::new(&config.data_dir, leases.binding().own());
    let begun = follower.begin().await;
    let by_control = begun.is_some();
    if let (None, Some(table)) = (&begun, &*routing.table()) {
        leases.restore(&kept, table);
    }
    let keeping = keeper.run(events, kept, folder);
    tasks.spawn(miren_log::endless("the keeper of leases", keeping));
    tasks.spawn(miren_log::endless("the follower of routing", follower.run(begun)));
    let parts = Parts {
        routing,
        leases,
        gate: Arc::new(Gate::default()),
        metrics,
    };
    Ok((parts, by_control))
}

fn own(folder: &Folder, tasks: &mut JoinSet<()>) {
    let folder = folder.clone();
    let owning = async move { folder.own().await };
    tasks.spawn(miren_log::supervised("the data folder", owning));
}

async fn give_back(leases: &Leases) {
    if tokio::time::timeout(GIVE_BACK, leases.give_back()).await.is_err() {
        tracing::debug!("control did not take the leases back in time; they expire");
    }
}

/// Waits until there is an order to stop; for ever where nobody can give one.
async fn told(mut stop: watch::Receiver<Stop>) {
    if stop.wait_for(|order| *order > Stop::No).await.is_err() {
        std::future::pending().await
    }
}

fn settle_connections(config: &mut Config) -> Result<(), StartError> {
    let descriptors = descriptors::raise().map_err(StartError::Descriptors)?;
    config.limits.connections = descriptors::connections(&config.limits, descriptors)?;
    Ok(())
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

fn budgets(config: &Config) -> Budgets {
    Budgets {
        lame_duck: config.drain.lame_duck,
        requests: config.drain.request_timeout,
        tunnels: config.drain.tunnel_timeout,
        upgrade_tunnels: config.drain.upgrade_tunnel_timeout,
    }
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

fn serve_pages(works: &Works, listener: TcpListener, successors: Successors, tasks: &mut JoinSet<()>) {
    let admin = Admin {
        metrics: Arc::clone(&works.metrics),
        phase: works.phase.subscribe(),
        successors,
    };
    tasks.spawn(miren_log::supervised("the metrics", serve_admin(admin, listener)));
}

fn tell_supervisor(watchdog: Option<Duration>, successors: Successors, tasks: &mut JoinSet<()>) {
    if let Some(interval) = watchdog {
        let telling = watchdog::run(interval, successors, watchdog::tell);
        tasks.spawn(miren_log::endless("the watchdog", telling));
    }
}

async fn serve_admin(admin: Admin, listener: TcpListener) {
    if let Err(error) = admin.serve(listener).await {
        tracing::error!(%error, "metrics are not served any more");
    }
}

fn open_slots(config: &Config, longest: Duration) -> Result<(Slots, Option<ProxyEvents>), OpenError> {
    let begun = Instant::now();
    let mut said = false;
    loop {
        match Slots::open(&config.slots) {
            Err(OpenError::NoTable(place)) if begun.elapsed() < longest => {
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

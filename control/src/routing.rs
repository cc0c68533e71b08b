//! Decides where hosts lead: one task owns the routes and which version serves each app, and numbers every change of them.

use crate::fatal::{Fatal, outlived};
use crate::ledger::{self, Ledger, LoadError};
use crate::record::{ActiveRecord, LabelRecord, RouteRecord, SnapshotRecord};
use crate::store::{Key, Kind, Selection, Store, StoreError};
use miren_api::app_file::WEB;
use miren_api::id::{AppName, VersionId};
use miren_api::resource::{Maintenance, Route};
use miren_api::routing::{EphemeralRoute, RoutingDelta, RoutingSnapshot};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot, watch};

mod names;
mod table;

pub use names::Names;
pub use table::{DEFAULT_HOST, Table};

/// Changes waiting for the task; more make their senders wait.
const QUEUE: usize = 64;

/// Why routing was not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RoutingError {
    #[error("deploy {installed} of the same app was installed first")]
    Superseded { installed: u64 },
    #[error("there is no route for {host}")]
    NoRoute { host: String },
    #[error(
        "{host} is the host that app {app} has by its name, below ingress.apps_domain: it has no settings, and goes with the app"
    )]
    Derived { host: String, app: AppName },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("routing has stopped")]
    Stopped,
}

/// One change of routing.
#[derive(Clone, Debug)]
pub enum Change {
    /// A host leads elsewhere from now on; what else was settled of it stays.
    SetRoute(Route),
    RemoveRoute(String),
    /// Changes what is settled of a host besides where it leads.
    Settle {
        host: String,
        what: Setting,
    },
    /// The version takes the app's traffic, unless a deploy with a higher number already has. Where nothing was ever routed, the
    /// app becomes the default too.
    Install(ActiveRecord),
    /// A version is reached under a label of the app, in place of the one that was; the labels of `evict` go.
    Label {
        app: AppName,
        route: EphemeralRoute,
        evict: Vec<String>,
    },
    /// The label goes, if it is still this version's.
    Unlabel {
        app: AppName,
        label: String,
        version: VersionId,
    },
    RemoveApp(AppName),
}

/// Something that is settled of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    TimeoutMs(Option<u64>),
    Maintenance(Option<Maintenance>),
}

/// What is routed at one generation. Cheap to clone, and cheap to keep.
#[derive(Clone, Debug, Default)]
pub struct Routed {
    pub generation: u64,
    /// Drawn by the daemon that made this generation: where a store was put back, numbers come again, and this does not.
    pub lineage: Arc<str>,
    pub table: Table,
}

impl Routed {
    /// Number of the deploy that serves `app`; 0 when none does.
    pub fn installed(&self, app: &AppName) -> u64 {
        self.table.active(app).map_or(0, |active| active.seq)
    }

    pub fn active(&self, app: &AppName) -> Option<&VersionId> {
        Some(&self.table.active(app)?.version)
    }

    pub fn snapshot(&self) -> RoutingSnapshot {
        RoutingSnapshot {
            lineage: self.lineage.to_string(),
            ..self.table.snapshot(self.generation)
        }
    }

    /// What turns the snapshot of `before` into this one's, however many changes lie between them.
    pub fn since(&self, before: &Self) -> RoutingDelta {
        RoutingDelta {
            from: before.generation,
            from_lineage: before.lineage.to_string(),
            generation: self.generation,
            lineage: self.lineage.to_string(),
            ..self.table.delta(&before.table).unwrap_or_default()
        }
    }
}

type Submitted = (Change, oneshot::Sender<Result<u64, RoutingError>>);

/// What routing's task keeps of its process.
struct Own {
    /// Of the generations that it makes.
    lineage: Arc<str>,
    fatal: Fatal,
}

/// The way to routing's task. Cheap to clone.
#[derive(Clone)]
pub struct Routing {
    changes: mpsc::Sender<Submitted>,
    routed: watch::Receiver<Routed>,
    /// Of the generations that this daemon makes.
    own: Arc<str>,
    /// What it found.
    found: Point,
}

/// A generation of one history.
#[derive(Clone, Debug)]
struct Point {
    lineage: Arc<str>,
    generation: u64,
}

impl Routing {
    /// Loads what was routed last and starts the task.
    pub async fn start(store: Arc<dyn Store>, names: Names, fatal: Fatal) -> Result<Self, LoadError> {
        let mut ledger = Ledger::new(store);
        let table = Table::new(
            ledger.load::<RouteRecord>(Selection::All).await?,
            ledger.load::<ActiveRecord>(Selection::All).await?,
            ledger.load::<LabelRecord>(Selection::All).await?,
        );
        let own: Arc<str> = format!("{:032x}", rand::random::<u128>()).into();
        let found = number(&mut ledger, &names, &own).await?;
        let table = table.under(names);
        let routed = watch::Sender::new(Routed {
            generation: found.generation,
            lineage: Arc::clone(&found.lineage),
            table,
        });
        let (changes, queue) = mpsc::channel(QUEUE);
        let routing = Self {
            changes,
            routed: routed.subscribe(),
            own: Arc::clone(&own),
            found,
        };
        let serving = serve(ledger, routed, queue, Own { lineage: own, fatal });
        miren_log::spawn("the routing table", serving);
        Ok(routing)
    }

    /// Makes one change and returns the generation that has it: committed and published.
    pub async fn submit(&self, change: Change) -> Result<u64, RoutingError> {
        let (reply, answer) = oneshot::channel();
        // What was not taken is dropped, and with it the reply.
        let _ = self.changes.send((change, reply)).await;
        match answer.await {
            Ok(outcome) => outcome,
            Err(_) => {
                // It may be committed.
                outlived().await;
                Err(RoutingError::Stopped)
            }
        }
    }

    /// Whether this is a generation that there was in the history of what is routed now, as far as the lineage that was found and
    /// the own one tell. What a proxy serves of another history
    /// says nothing about this one, whatever its number. One of an earlier release names none, and is believed.
    pub fn has_had(&self, lineage: &str, generation: u64) -> bool {
        let of_found = *lineage == *self.found.lineage && generation <= self.found.generation;
        let of_own = *lineage == *self.own && generation <= self.routed.borrow().generation;
        lineage.is_empty() || of_found || of_own
    }

    pub fn now(&self) -> Routed {
        self.routed.borrow().clone()
    }

    /// Always has the newest; a slow reader misses those between.
    pub fn follow(&self) -> watch::Receiver<Routed> {
        self.routed.clone()
    }
}

/// The generation to begin with. Another name of the ingress, or of what its apps are below, makes another snapshot.
async fn number(ledger: &mut Ledger, names: &Names, own: &Arc<str>) -> Result<Point, LoadError> {
    let point = |lineage: &str, generation| Point {
        lineage: lineage.into(),
        generation,
    };
    let last: Vec<SnapshotRecord> = ledger.load(Selection::All).await?;
    let Some(last) = last.into_iter().next() else {
        return Ok(point(own, 1));
    };
    if Names::of(&last) == *names {
        // An earlier release drew nothing: then nobody serves the same for certain.
        let lineage = Some(&*last.lineage).filter(|lineage| !lineage.is_empty());
        return Ok(point(lineage.unwrap_or(own), last.generation));
    }
    let generation = last.generation + 1;
    ledger.put(&names.snapshot(generation, own));
    ledger.flush().await?;
    Ok(point(own, generation))
}

async fn serve(mut ledger: Ledger, routed: watch::Sender<Routed>, mut queue: mpsc::Receiver<Submitted>, own: Own) {
    while let Some((change, reply)) = queue.recv().await {
        let before = routed.borrow().clone();
        let outcome = apply(&mut ledger, &before, change, &own.lineage).await;
        if let Err(error) = &outcome {
            ledger.discard();
            if let RoutingError::Store(StoreError::Conflict { key }) = error {
                own.fatal.end(ledger::somebody_else_wrote(key));
            }
        }
        let answer = outcome.map(|after| {
            let generation = after.generation;
            routed.send_if_modified(|now| {
                let is_new = generation != now.generation;
                *now = after;
                is_new
            });
            generation
        });
        let _ = reply.send(answer);
    }
}

async fn apply(ledger: &mut Ledger, before: &Routed, change: Change, own: &Arc<str>) -> Result<Routed, RoutingError> {
    let mut table = before.table.clone();
    match change {
        Change::SetRoute(route) => set_route(ledger, &mut table, route),
        Change::RemoveRoute(host) => {
            ledger.delete(Key::new(Kind::Route, &host));
            table.remove(&host);
        }
        Change::Settle { host, what } => settle(ledger, &mut table, host, what)?,
        Change::Install(active) => install(ledger, &mut table, active)?,
        Change::Label { app, route, evict } => {
            for label in evict.iter().filter(|label| **label != route.label) {
                ledger.delete(Key::new(Kind::Label, LabelRecord::id_of(&app, label)));
                table.remove_label(&app, label);
            }
            ledger.put(&LabelRecord::new(&app, route.clone()));
            table.label(&app, route);
        }
        Change::Unlabel { app, label, version } => {
            if table
                .label_of(&app, &label)
                .is_some_and(|route| route.version == version)
            {
                ledger.delete(Key::new(Kind::Label, LabelRecord::id_of(&app, &label)));
                table.remove_label(&app, &label);
            }
        }
        Change::RemoveApp(app) => {
            for route in table.labels_of(&app) {
                ledger.delete(Key::new(Kind::Label, LabelRecord::id_of(&app, &route.label)));
            }
            for host in table.remove_app(&app) {
                ledger.delete(Key::new(Kind::Route, host));
            }
            ledger.delete(Key::new(Kind::Active, app.as_str()));
        }
    }
    let (mut generation, mut lineage) = (before.generation, &before.lineage);
    if table.delta(&before.table).is_some() {
        (generation, lineage) = (generation + 1, own);
        ledger.put(&table.names().snapshot(generation, lineage));
    }
    ledger.flush().await?;
    miren_fault::pass(miren_fault::Point::RoutePublish);
    let lineage = Arc::clone(lineage);
    Ok(Routed {
        generation,
        lineage,
        table,
    })
}

/// What was settled of the host stays: one that is down is not up again because it leads elsewhere.
fn set_route(ledger: &mut Ledger, table: &mut Table, mut route: Route) {
    if let Some(before) = table.settled(&route.host) {
        route.timeout_ms = before.timeout_ms;
        route.maintenance = before.maintenance;
    }
    ledger.put(&RouteRecord(route.clone()));
    table.set(route);
}

fn settle(ledger: &mut Ledger, table: &mut Table, host: String, what: Setting) -> Result<(), RoutingError> {
    let Some(mut route) = table.get(&host).cloned() else {
        return Err(RoutingError::NoRoute { host });
    };
    if route.derived {
        return Err(RoutingError::Derived { host, app: route.app });
    }
    match what {
        Setting::TimeoutMs(timeout) => route.timeout_ms = timeout,
        Setting::Maintenance(maintenance) => route.maintenance = maintenance,
    }
    ledger.put(&RouteRecord(route.clone()));
    table.set(route);
    Ok(())
}

fn install(ledger: &mut Ledger, table: &mut Table, active: ActiveRecord) -> Result<(), RoutingError> {
    let installed = table.active(&active.app).map_or(0, |active| active.seq);
    if installed > active.seq {
        return Err(RoutingError::Superseded { installed });
    }
    if table.is_untouched() {
        let route = Route {
            host: DEFAULT_HOST.to_owned(),
            app: active.app.clone(),
            service: WEB.to_owned(),
            default: true,
            wildcard: false,
            derived: false,
            timeout_ms: None,
            maintenance: None,
        };
        set_route(ledger, table, route);
    }
    ledger.put(&active);
    table.install(active);
    Ok(())
}

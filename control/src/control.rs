//! Decides how control is put together, and in which phase of its life it is; without sockets, so that tests run it too.

use crate::app::run::PER_NODE;
use crate::app::{Hint, World};
use crate::apps::Apps;
use crate::artifact::Artifacts;
use crate::clock::{Clock, later, since};
use crate::collector::{self, UPLOAD_GRACE};
use crate::drain::{Admission, NodeDrain};
use crate::executor::{Executor, Known};
use crate::fatal::Fatal;
use crate::images::Fetcher;
use crate::lease::Desk;
use crate::leasing::Leasing;
use crate::ledger::LoadError;
use crate::metrics::Metrics;
use crate::node_faults::NodeFaults;
use crate::nodes::Nodes;
use crate::output::Outputs;
use crate::policy::Policy;
use crate::routing::Routing;
use crate::store::{Guarded, Store};
use miren_api::id::NodeId;
use miren_api::lease::RENEW_INTERVAL;
use miren_api::routing::SandboxHint;
use miren_gate::Gate;
use miren_loader::Transition;
use miren_sandbox::SandboxChange;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, broadcast, mpsc, watch};
use tokio_util::sync::CancellationToken;

/// Hints kept for a slow proxy before it is told to look at everything.
const HINTS: usize = 1024;
/// How often folders and images are collected: a deploy an hour would leave a few behind for this long.
const COLLECT_EVERY: Duration = Duration::from_secs(300);
/// How often it is looked whether the wall clock was set: a few reads without a system call.
const LOOK_AT_CLOCK: Duration = Duration::from_millis(500);
/// What a proxy gets to renew after it came back, on top of its interval.
const RENEW_SLACK: Duration = Duration::from_secs(1);

/// How far control is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Reads are answered; nothing is planned and nothing is changed.
    Starting,
    Active,
    /// Nothing new is taken.
    Quiescing,
}

/// What is asked of control and counted until it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// What begins something.
    Change,
}

impl miren_gate::Class for Asked {
    const ALL: &'static [Self] = &[Self::Change];

    fn index(self) -> usize {
        self as usize
    }
}

/// What control is made of.
pub struct Parts {
    pub store: Arc<dyn Store>,
    pub executor: Arc<dyn Executor>,
    pub artifacts: Artifacts,
    pub images: Fetcher,
    pub clock: Clock,
    /// Name of the node.
    pub node: String,
    pub policy: Policy,
}

/// The daemon without its sockets.
pub struct Control {
    pub world: Arc<World>,
    pub apps: Arc<Apps>,
    pub artifacts: Artifacts,
    pub node: NodeDrain,
    pub phase: watch::Sender<Phase>,
    /// Closed when nothing new is taken: whatever was let in before is counted by it.
    pub asked: Gate<Asked>,
    /// Ends streams and background work.
    pub ending: CancellationToken,
}

impl Control {
    /// Rebuilds everything from the store, in phase [`Phase::Starting`]; returns what should be running.
    pub async fn load(parts: Parts) -> Result<(Arc<Self>, Vec<Known>), LoadError> {
        let (hints, _) = broadcast::channel(HINTS);
        let (fatal, metrics) = (Fatal::default(), Metrics::new());
        let store: Arc<dyn Store> = Arc::new(Guarded::new(parts.store, fatal.clone()));
        let names = parts.policy.urls.names();
        let nodes = Nodes::load(Arc::clone(&store), &parts.node, parts.clock.now(), fatal.clone()).await?;
        let world = Arc::new(World {
            outputs: Arc::new(Outputs::new(parts.clock.now())),
            routing: Routing::start(Arc::clone(&store), names, fatal.clone()).await?,
            admission: Admission::new(store.epoch(), nodes.follow()),
            nodes,
            store,
            fatal,
            executor: parts.executor,
            desk: Desk::new(parts.clock.clone()),
            clock: parts.clock,
            node_faults: Arc::new(NodeFaults::new(metrics.clone())),
            metrics,
            hints,
            owners: Arc::default(),
            artifacts: parts.artifacts.folder().to_owned(),
            images: Arc::new(parts.images),
            node: parts.node,
            policy: parts.policy,
            runs: Arc::new(Semaphore::new(PER_NODE)),
        });
        let (apps, known) = Apps::load(Arc::clone(&world)).await?;
        let control = Self {
            node: NodeDrain::load(Arc::clone(&world), Arc::clone(&apps)),
            world,
            apps,
            artifacts: parts.artifacts,
            phase: watch::Sender::new(Phase::Starting),
            asked: Gate::new(0),
            ending: CancellationToken::new(),
        };
        Ok((Arc::new(control), known))
    }

    /// What proxies are granted leases by.
    pub fn leasing(&self) -> Leasing {
        Leasing::new(&self.world, Arc::clone(&self.apps))
    }

    /// Lets the runtime take over what runs, then lets the planners begin. `changes` is what the runtime reports on.
    pub async fn activate(&self, known: Vec<Known>, changes: mpsc::UnboundedReceiver<SandboxChange>) {
        let world = &self.world;
        let count = known.len();
        let adopted = world.executor.adopt(known).await;
        if count > 0 {
            // Renewals are taken from now on, however long it took to get here.
            world
                .desk
                .trust_from(later(world.clock.steady(), RENEW_INTERVAL + RENEW_SLACK));
        }
        tracing::info!(known = count, changed = adopted.len(), "took over what runs");
        self.apps.adopted(adopted, changes).await;
        self.phase.send_replace(Phase::Active);
    }

    /// Work that goes on for as long as the daemon does.
    pub async fn background(self: Arc<Self>) {
        let world = Arc::clone(&self.world);
        let transitions = world.executor.transitions();
        tokio::select! {
            () = world.desk.sweep() => {}
            () = watch_clock(&world.clock) => {}
            () = pass_on(transitions, &world.hints, world.nodes.own()) => {}
            () = self.collect_forever() => {}
            () = self.keep_node() => {}
            () = self.ending.cancelled() => {}
        }
    }

    /// Answers for the node, once everything that runs is known.
    async fn keep_node(&self) {
        let mut phase = self.phase.subscribe();
        let _ = phase.wait_for(|phase| *phase != Phase::Starting).await;
        self.node.run().await;
    }

    /// Removes what nothing needs: first when everything that runs is known, then now and again.
    async fn collect_forever(&self) {
        let mut phase = self.phase.subscribe();
        let _ = phase.wait_for(|phase| *phase == Phase::Active).await;
        let clock = &self.world.clock;
        let (mut told, mut set) = (clock.reading().offset, None);
        loop {
            self.apps.collect();
            clock.look();
            let offset = clock.reading().offset;
            if offset > told {
                set = Some(clock.steady());
            }
            told = offset;
            // Uploads are as old as the wall clock says: one that was set makes young ones look old.
            let in_doubt = set.is_some_and(|set| since(clock.steady(), set) < UPLOAD_GRACE);
            let grace = if in_doubt { Duration::MAX } else { UPLOAD_GRACE };
            if let Err(error) = collector::collect(&*self.world.store, &self.world.images, &self.artifacts, grace).await
            {
                tracing::warn!(%error, "collecting folders and images failed; trying again");
            }
            tokio::time::sleep(COLLECT_EVERY).await;
        }
    }

    /// Takes no more changes. The gate is closed before the phase says so: who reads it finds no change let in later.
    pub fn quiesce(&self) {
        let closed = self.asked.close();
        if closed.is_first() {
            let changes = closed.counts().of(Asked::Change);
            tracing::info!(changes, "nothing new is taken; what is under way goes on");
        }
        self.phase.send_replace(Phase::Quiescing);
    }
}

/// Looks whether somebody has set the wall clock. No event tells of all ways in which that is done.
async fn watch_clock(clock: &Clock) {
    loop {
        clock.look();
        tokio::time::sleep(LOOK_AT_CLOCK).await;
    }
}

/// Tells proxies which sandboxes left RUNNING, as hints.
async fn pass_on(mut transitions: broadcast::Receiver<Transition>, hints: &broadcast::Sender<Hint>, node: NodeId) {
    loop {
        match transitions.recv().await {
            // DRAINING and later; what is made or released is nothing a proxy would look at.
            Ok(transition) if transition.state.refuses_connections() => {
                let hint = SandboxHint {
                    node,
                    slot: transition.slot,
                    generation: transition.generation,
                    state: transition.state.name().to_owned(),
                };
                // No receiver means no proxy.
                let _ = hints.send(Hint::Sandbox(hint));
            }
            Ok(_) => {}
            Err(broadcast::error::RecvError::Lagged(missed)) => {
                tracing::debug!(missed, "hints were skipped; proxies read the words themselves");
            }
            Err(broadcast::error::RecvError::Closed) => return std::future::pending().await,
        }
    }
}

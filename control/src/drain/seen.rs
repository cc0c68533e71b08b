//! Decides what is seen of a node while it drains, and how that is told: without a lock that anybody holds for longer than a look.

use super::admission::{self, Work};
use super::phase::{self, Drain};
use super::plan::{Living, Seen};
use crate::app::{AppView, World};
use crate::apps::Apps;
use crate::clock::shifted;
use crate::lease::UnderWay;
use jiff::Timestamp;
use miren_api::deploy::Deploy;
use miren_api::id::SandboxId;
use miren_api::lease::LeaseKey;
use miren_api::node::{Blocker, DrainStep, MOST_BLOCKERS, NodePhase, NodeStatus};
use miren_api::resource::{Sandbox, SandboxState};
use miren_sandbox::Left;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// States of sandboxes that have not ended.
const LIVING: [SandboxState; 4] = [
    SandboxState::Pending,
    SandboxState::Running,
    SandboxState::Draining,
    SandboxState::Stopping,
];
/// Most errors that are kept of a drain.
const MOST_ERRORS: usize = 100;

/// How far the node's drain is, as its one writer last told.
#[derive(Clone, Debug, Default)]
pub(super) struct Progress {
    pub(super) drain: Option<Drain>,
    /// What was found of ended sandboxes.
    pub(super) left: Arc<[Left]>,
    /// What failed, by what it failed with.
    pub(super) errors: BTreeMap<String, String>,
    /// The daemon ends.
    pub(super) down: bool,
}

impl Progress {
    /// Keeps an error: of each thing the first one, and not more than anybody reads.
    pub(super) fn fail(&mut self, what: &str, why: impl FnOnce() -> String) {
        if self.errors.len() < MOST_ERRORS && !self.errors.contains_key(what) {
            self.errors.insert(what.to_owned(), why());
        }
    }
}

/// One look at the node.
pub(super) struct Look {
    gates: admission::Seen,
    views: Vec<Arc<AppView>>,
}

impl Look {
    /// The gates first: whatever they do not count any more is in the pictures of the apps.
    pub(super) fn at(world: &World, apps: &Apps) -> Self {
        let gates = world.admission.seen();
        let views = apps.views();
        Self { gates, views }
    }

    fn sandboxes(&self) -> impl Iterator<Item = &Sandbox> {
        let all = self.views.iter().flat_map(|view| view.sandboxes.iter());
        all.filter(|sandbox| !sandbox.state.is_terminal())
    }

    fn deploys(&self) -> impl Iterator<Item = &Deploy> {
        self.views.iter().flat_map(|view| &view.in_flight)
    }

    /// For the planner.
    pub(super) fn seen(&self, left: Option<usize>) -> Seen {
        let mut living: Vec<&Sandbox> = self.sandboxes().collect();
        living.sort_by_key(|sandbox| (sandbox.created_at, &sandbox.id));
        let living = living.into_iter().map(|sandbox| Living {
            id: sandbox.id.clone(),
            state: sandbox.state,
        });
        Seen {
            admitted: self.gates.admitted.total(),
            starts: self.gates.starts,
            living: living.collect(),
            left,
        }
    }

    /// What there is of ended sandboxes: living ones have the same, and are told of as themselves.
    pub(super) fn without_living(&self, left: Vec<Left>) -> Arc<[Left]> {
        let living: BTreeSet<&str> = self.sandboxes().map(|sandbox| sandbox.id.as_str()).collect();
        left.into_iter().filter(|left| !living.contains(&*left.of)).collect()
    }

    pub(super) fn sandbox(&self, id: &SandboxId) -> Option<&Sandbox> {
        self.sandboxes().find(|sandbox| sandbox.id == *id)
    }

    /// For people and scripts.
    pub(super) fn status(&self, world: &World, progress: &Progress) -> NodeStatus {
        let (now, offset) = (world.clock.steady(), world.clock.reading().offset);
        let told = |steady: Timestamp| shifted(steady, offset);
        let cordoned = world.nodes.follow().borrow().cordoned;
        let drain = progress.drain.as_ref();
        let phase = phase::of(drain, cordoned, progress.down);
        let blockers = match phase {
            NodePhase::Draining | NodePhase::Forced => self.blockers(world, progress),
            _ => Vec::new(),
        };
        let deadline = drain.and_then(|drain| drain.forced_until().or(drain.deadline));
        let (requests, tunnels) = world.desk.all_under_way();
        NodeStatus {
            node: world.node.clone(),
            id: world.nodes.own(),
            state: phase.state(),
            phase,
            gate: self.gates.gate,
            epoch: world.admission.epoch(),
            generation: self.gates.generation,
            cordoned,
            waits_for: drain.and_then(Drain::waits_for),
            admitted: self.gates.admitted.total(),
            starts: self.gates.starts,
            requests,
            tunnels,
            sandboxes: self.by_state(),
            clean_ups: progress.left.len() as u64,
            since: drain.map(|drain| told(drain.since)),
            deadline: deadline
                .filter(|_| !blockers.is_empty() || phase.state() != NodePhase::Empty.state())
                .map(told),
            overdue: drain.is_some_and(|drain| drain.is_overdue(now)),
            more_blockers: blockers.len().saturating_sub(MOST_BLOCKERS) as u64,
            blockers: blockers.into_iter().take(MOST_BLOCKERS).collect(),
            errors: progress.errors.values().cloned().collect(),
        }
    }

    fn by_state(&self) -> BTreeMap<String, u64> {
        let mut by_state: BTreeMap<String, u64> = LIVING.map(|state| (state.as_str().to_owned(), 0)).into();
        for sandbox in self.sandboxes() {
            *by_state.entry(sandbox.state.as_str().to_owned()).or_default() += 1;
        }
        by_state
    }

    /// What the drain waits for now, the oldest first.
    fn blockers(&self, world: &World, progress: &Progress) -> Vec<Blocker> {
        let mut blockers: Vec<Blocker> = match progress.drain.as_ref().and_then(Drain::waits_for) {
            Some(DrainStep::Admitted) => self.deploys().map(of_deploy).chain(self.others_admitted()).collect(),
            Some(DrainStep::Starts) => {
                let starting = self
                    .sandboxes()
                    .filter(|sandbox| sandbox.state == SandboxState::Pending);
                starting.map(|sandbox| of_sandbox(world, progress, sandbox)).collect()
            }
            Some(DrainStep::Sandboxes | DrainStep::CleanUps) => {
                let living = self.sandboxes().map(|sandbox| of_sandbox(world, progress, sandbox));
                living.chain(progress.left.iter().map(of_left)).collect()
            }
            None => Vec::new(),
        };
        blockers.sort_by(|a, b| (a.since.is_none(), a.since, &a.id).cmp(&(b.since.is_none(), b.since, &b.id)));
        blockers
    }

    /// What was let in and has no name.
    fn others_admitted(&self) -> impl Iterator<Item = Blocker> {
        let counts = self.gates.admitted;
        let kinds = [
            (Work::Preview, "previews"),
            (Work::Run, "runs"),
            (Work::Upload, "uploads"),
            (Work::Activation, "requests that wait for a sandbox"),
            (Work::Change, "changes"),
        ];
        let some = kinds.into_iter().filter(move |(work, _)| counts.of(*work) > 0);
        some.map(move |(work, kind)| Blocker {
            id: kind.to_owned(),
            state: "ADMITTED".to_owned(),
            since: None,
            why: format!(
                "{} that were let in before the drain began are not over",
                counts.of(work)
            ),
        })
    }
}

fn of_deploy(deploy: &Deploy) -> Blocker {
    let step = deploy
        .steps
        .last()
        .map(|step| step.message.as_str())
        .unwrap_or_default();
    Blocker {
        id: deploy.id.to_string(),
        state: deploy.status.as_str().to_owned(),
        since: Some(deploy.started_at),
        why: format!("a deploy of {} that was let in before: {step}", deploy.app),
    }
}

fn of_sandbox(world: &World, progress: &Progress, sandbox: &Sandbox) -> Blocker {
    let told = progress.drain.as_ref().and_then(|drain| drain.told.get(&sandbox.id));
    let offset = world.clock.reading().offset;
    Blocker {
        id: sandbox.id.to_string(),
        state: sandbox.state.as_str().to_owned(),
        since: told.map(|at| shifted(*at, offset)).or(Some(sandbox.created_at)),
        why: why_it_stays(world, sandbox),
    }
}

fn why_it_stays(world: &World, sandbox: &Sandbox) -> String {
    let whose = format!("{}/{}", sandbox.app, sandbox.service);
    let under_way = sandbox.slot.zip(sandbox.generation).map(|(slot, generation)| {
        let node = sandbox.node_id;
        world.desk.under_way(LeaseKey { node, slot, generation })
    });
    let UnderWay { requests, tunnels } = under_way.unwrap_or_default();
    let requests = requests - tunnels;
    let some = |count: u32, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    match sandbox.state {
        SandboxState::Pending => format!("{whose} is being started"),
        SandboxState::Running => format!("{whose} waits for its turn"),
        SandboxState::Draining if requests > 0 && tunnels > 0 => {
            format!(
                "{whose} has {} in flight and {}",
                some(requests, "request"),
                some(tunnels, "tunnel")
            )
        }
        SandboxState::Draining if requests > 0 => format!("{whose} has {} in flight", some(requests, "request")),
        SandboxState::Draining if tunnels > 0 => format!("{whose} has {}", some(tunnels, "tunnel")),
        SandboxState::Draining => format!("{whose} has been told to drain"),
        SandboxState::Stopping => format!("{whose} was sent SIGTERM and has not exited"),
        SandboxState::Stopped | SandboxState::Dead => format!("{whose} has ended"),
    }
}

fn of_left(left: &Left) -> Blocker {
    Blocker {
        id: left.of.clone(),
        state: "CLEANING_UP".to_owned(),
        since: None,
        why: left.why.clone(),
    }
}

/// What is told of a sandbox that had to be killed.
pub(super) fn killed(sandbox: &Sandbox) -> String {
    let (id, app, service, state) = (&sandbox.id, &sandbox.app, &sandbox.service, sandbox.state.as_str());
    format!("sandbox {id} of {app}/{service} was {state} when the drain was forced: killed")
}

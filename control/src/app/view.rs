//! Decides what others see of an app: an immutable picture that its task replaces after each step.

use crate::app::pool;
use crate::app::state::AppState;
use crate::clock::later;
use crate::node_faults::NodeFaults;
use crate::policy::Urls;
use crate::record::{PoolRecord, RunRecord, VersionRecord};
use crate::routing::Table;
use jiff::Timestamp;
use miren_api::app_file::WEB;
use miren_api::ephemeral::Ephemeral;
use miren_api::id::{AppName, Label, PoolId, VersionId};
use miren_api::resource::{App, Health, Pool, PoolState, Route, Sandbox, SandboxState};
use miren_api::routing::EphemeralRoute;
use miren_api::run::Run;
use std::collections::BTreeMap;
use std::sync::Arc;

mod sandboxes;

pub use sandboxes::ShownSandboxes;

/// One app as it was after its task's last step.
#[derive(Clone, Debug, PartialEq)]
pub struct AppView {
    pub name: AppName,
    /// Whether it is kept in the store: a name somebody only asked about is not.
    pub exists: bool,
    pub deleting: bool,
    pub pools: BTreeMap<PoolId, PoolView>,
    pub sandboxes: Arc<ShownSandboxes>,
    pub previews: BTreeMap<VersionId, PreviewView>,
    pub in_flight: Vec<miren_api::deploy::Deploy>,
    pub runs: Vec<Run>,
}

/// A version of it that was made to be reached under a label.
#[derive(Clone, Debug, PartialEq)]
pub struct PreviewView {
    pub label: Label,
    pub source: Option<VersionId>,
    pub created_at: Timestamp,
}

/// One pool of it.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolView {
    pub pool: Pool,
    /// Numbers of the deploys that first claimed it for each of its versions.
    pub claims: BTreeMap<VersionId, u64>,
    /// Concurrent requests one of its sandboxes takes.
    pub capacity: u32,
    /// Whether its requests that only read may be asked of two of its sandboxes.
    pub hedge: bool,
    /// Why its last sandbox died too early.
    pub last_failure: Option<String>,
}

impl AppView {
    /// `node`: its name, and what it could not do lately.
    pub fn of(state: &mut AppState, exists: bool, node: (&str, &NodeFaults), now: Timestamp) -> Self {
        let (name, faults) = node;
        let sandboxes = state.shown(name);
        Self {
            name: state.app.name.clone(),
            exists,
            deleting: state.app.deleting,
            pools: state
                .pools
                .values()
                .map(|pool| (pool.id.clone(), pool_view(state, pool, faults, now)))
                .collect(),
            sandboxes,
            previews: state.previews.values().filter_map(preview).collect(),
            in_flight: state.deploys.values().map(|record| record.deploy.clone()).collect(),
            runs: state.runs.values().map(|run| run_view(state, run)).collect(),
        }
    }

    /// The pool that runs `service` of `version`: of two, while a restart is under way, the one that did before.
    pub fn pool_of(&self, version: &VersionId, service: &str) -> Option<&PoolView> {
        let of_service = self.pools.values().filter(|view| view.pool.service == service);
        let claimed = of_service.filter_map(|view| Some((view.claims.get(version)?, view)));
        claimed.min_by_key(|(seq, _)| *seq).map(|(_, view)| view)
    }

    /// The pool that stands for a version: the one that runs it, else the one that was made for it last.
    pub fn main_pool(&self, version: &VersionRecord) -> Option<PoolId> {
        let running = self.pool_of(&version.id, main_service(&version.pools)?);
        running
            .map(|view| &view.pool.id)
            .or_else(|| main_pool(&version.pools))
            .cloned()
    }

    /// What a label leads to, with what runs of it.
    pub fn ephemeral(&self, route: &EphemeralRoute, table: &Table, urls: &Urls) -> Option<Ephemeral> {
        let preview = self.previews.get(&route.version)?;
        let pools = self.pools.values().map(|view| &view.pool);
        let pools: Vec<&Pool> = pools.filter(|pool| pool.versions.contains(&route.version)).collect();
        Some(Ephemeral {
            app: self.name.clone(),
            label: preview.label.clone(),
            version: route.version.clone(),
            expires_at: route.expires_at,
            created_at: preview.created_at,
            urls: urls.of_label(table, &self.name, &preview.label),
            source: preview.source.clone(),
            ready: pools.iter().map(|pool| pool.ready).sum(),
            pools: pools.into_iter().map(|pool| pool.id.clone()).collect(),
        })
    }

    /// RUNNING sandboxes of a pool.
    pub fn running<'a>(&'a self, pool: &'a PoolId) -> impl Iterator<Item = &'a Sandbox> {
        let of_pool = self.sandboxes.of_pool(pool);
        of_pool.filter(|sandbox| sandbox.state == SandboxState::Running)
    }

    /// The app in numbers, given the routes that lead to it and where it can be reached.
    pub fn app(&self, active: Option<&VersionId>, routes: &[&Route], urls: Vec<String>) -> App {
        let of_active: Vec<&Pool> = self
            .pools
            .values()
            .map(|view| &view.pool)
            .filter(|pool| active.is_some_and(|version| pool.versions.contains(version)))
            .collect();
        let ready = of_active.iter().map(|pool| pool.ready).sum();
        let desired = of_active.iter().map(|pool| pool.desired).sum();
        let down = routes.iter().filter(|route| route.maintenance.is_some());
        App {
            name: self.name.clone(),
            version: active.cloned(),
            health: health(active.is_some(), ready, desired, &of_active),
            ready,
            desired,
            routes: routes.iter().map(|route| route.host.clone()).collect(),
            routes_down: down.map(|route| route.host.clone()).collect(),
            urls,
        }
    }
}

fn run_view(state: &AppState, run: &RunRecord) -> Run {
    run.shown(state.sandbox(&run.id).map(|sandbox| sandbox.state))
}

fn preview(record: &VersionRecord) -> Option<(VersionId, PreviewView)> {
    let preview = record.preview.as_ref()?;
    let view = PreviewView {
        label: preview.label.clone(),
        source: preview.source.clone(),
        created_at: record.created_at,
    };
    Some((record.id.clone(), view))
}

fn health(has_version: bool, ready: u32, desired: u32, pools: &[&Pool]) -> Health {
    let crashed = pools
        .iter()
        .any(|pool| pool.state == PoolState::Cooldown && pool.crash_count > 0);
    match (has_version, ready, desired) {
        (false, ..) => Health::Unknown,
        (_, _, 0) => Health::Idle,
        (_, 0, _) if crashed => Health::Crashed,
        (_, 0, _) => Health::Starting,
        (_, ready, desired) if ready < desired => Health::Degraded,
        _ => Health::Healthy,
    }
}

fn pool_view(state: &AppState, record: &PoolRecord, faults: &NodeFaults, now: Timestamp) -> PoolView {
    let current = state.members(&record.id).filter(|sandbox| sandbox.counts()).count();
    let cooldown = record.crash.cooldown(now);
    let claims = record.references.iter();
    PoolView {
        claims: claims
            .filter_map(|claim| Some((claim.version.clone(), record.claimed_by(&claim.version)?)))
            .collect(),
        pool: Pool {
            id: record.id.clone(),
            app: record.app.clone(),
            service: record.service.clone(),
            spec_hash: record.spec_hash.clone(),
            versions: versions_of(record),
            desired: record.desired,
            current: u32::try_from(current).unwrap_or(u32::MAX),
            ready: state.ready(&record.id),
            crash_count: record.crash.count,
            last_crash: record.crash.last_reason.clone().filter(|_| record.crash.count > 0),
            cooldown_until: cooldown.map(|wait| later(now, wait)),
            state: match (record.is_retiring(), cooldown) {
                (true, _) => PoolState::Retiring,
                (false, Some(_)) => PoolState::Cooldown,
                (false, None) => PoolState::Active,
            },
            node_fault: faults.of(&record.id).map(|met| met.told()),
        },
        capacity: pool::capacity(record),
        hedge: record.spec.hedge,
        last_failure: record.crash.last_reason.clone(),
    }
}

/// The versions that refer to a pool; one that is deployed again refers twice for a while.
fn versions_of(record: &PoolRecord) -> Vec<VersionId> {
    let mut versions: Vec<VersionId> = Vec::new();
    for reference in &record.references {
        if !versions.contains(&reference.version) {
            versions.push(reference.version.clone());
        }
    }
    versions
}

/// The pool that stands for a version with several: that of `web`, or of the first service.
pub fn main_pool(pools: &BTreeMap<String, PoolId>) -> Option<&PoolId> {
    pools.get(main_service(pools)?)
}

fn main_service(pools: &BTreeMap<String, PoolId>) -> Option<&str> {
    let first = pools.keys().next()?;
    Some(pools.get_key_value(WEB).map_or(first, |(web, _)| web))
}

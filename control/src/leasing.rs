//! Decides what a proxy that asks for leases gets: its share of every RUNNING sandbox, a wait for the first one, or a reason.

use crate::app::crash::LONGEST_BACKOFF;
use crate::app::view::{PoolView, PreviewView};
use crate::app::{AppHandle, AppView, Command, World};
use crate::apps::Apps;
use crate::clock::Clock;
use crate::drain::{Admission, Changes as Gates, Work};
use crate::executor::Executor;
use crate::lease::{Ask, Changes, Desk, Granted, Leased};
use crate::routing::Routing;
use miren_api::Identity;
use miren_api::id::{AppName, NodeId, PoolId, VersionId};
use miren_api::lease::{
    ACQUIRE_WAIT_MAX, AcquireRequest, AcquireResponse, HeldLease, LEASE_TTL, Lease, LeaseKey, RenewRequest,
    RenewResponse,
};
use miren_api::resource::{PoolState, Sandbox};
use miren_api::{ApiError, ErrorCode};
use miren_gate::Permit;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

/// When a proxy that waited in vain may ask again, in seconds.
const ASK_AGAIN: u64 = 1;
/// A proxy that waits in vain because of the node is told so after that long: its requests wait on, and know why when their time is
/// over. A fault of the node is tried again each second.
const FAULT_TOLD_AFTER: Duration = Duration::from_secs(1);
/// How often it is looked whether time has freed a share: a proxy has been absent for long enough, or it is another's turn.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// What leases are decided by. Cheap to clone.
#[derive(Clone)]
pub struct Leasing {
    apps: Arc<Apps>,
    desk: Desk,
    routing: Routing,
    executor: Arc<dyn Executor>,
    clock: Clock,
    admission: Admission,
    node: NodeId,
    epoch: u64,
}

impl Leasing {
    pub fn new(world: &World, apps: Arc<Apps>) -> Self {
        Self {
            apps,
            desk: world.desk.clone(),
            routing: world.routing.clone(),
            executor: Arc::clone(&world.executor),
            clock: world.clock.clone(),
            admission: world.admission.clone(),
            node: world.nodes.own(),
            epoch: world.store.epoch(),
        }
    }

    /// What a proxy has to know before it believes a number.
    pub fn identity(&self) -> Identity {
        Identity {
            slot_table: self.executor.slot_table(),
            lineage: self.routing.now().lineage.to_string(),
            epoch: self.epoch,
        }
    }

    /// What a slot's word says now. Nothing is known here of those of other nodes.
    fn is_running(&self, key: LeaseKey) -> bool {
        key.node == self.node && self.executor.is_running(key)
    }

    /// Answers with leases, or with why there are none.
    pub async fn acquire(&self, request: AcquireRequest) -> Result<AcquireResponse, ApiError> {
        let handle = self
            .apps
            .of_version(&request.version)
            .ok_or_else(|| no_such_version(&request))?;
        self.desk.release(&request.proxy, &request.dropped);
        let wait = Duration::from_millis(request.wait_ms).min(ACQUIRE_WAIT_MAX);
        let begun = Instant::now();
        let mut until = begun + wait;
        let mut view = handle.view.clone();
        let mut changes = self.desk.changes();
        let mut gates = self.admission.changes();
        let (mut waited, mut activation) = (false, None);
        loop {
            changes.seen();
            let seen = view.borrow_and_update().clone();
            if self.is_over(&seen, &request.version) {
                return Err(no_such_version(&request));
            }
            let Some(pool) = seen.pool_of(&request.version, &request.service) else {
                open(&handle, &request).await?;
                continue;
            };
            if activation.is_none() && pool.pool.ready == 0 {
                activation = self.activation(pool)?;
            }
            if !waited {
                self.report_demand(&handle, &request, &pool.pool.id);
            }
            let found = self.grant(&seen, pool, &request);
            if found.is_answer() {
                if let Some(permit) = activation {
                    self.admission.hand_over(permit);
                }
                return Ok(AcquireResponse {
                    pool: pool.pool.id.clone(),
                    leases: found.leases,
                    ttl_ms: millis(LEASE_TTL),
                    answer: found.answer,
                    identity: Some(self.identity()),
                    hedge: pool.hedge,
                });
            }
            // One that was only replaced too often is there again within seconds: that is waited for.
            if pool.pool.state == PoolState::Cooldown && pool.pool.crash_count > 0 {
                return Err(self.crashed(pool, waited));
            }
            waited = true;
            if pool.pool.node_fault.is_some() && !found.is_shared_out {
                until = until.min(begun + FAULT_TOLD_AFTER);
            }
            let next = next(&mut view, &mut changes, &mut gates, found.is_shared_out);
            match tokio::time::timeout_at(until, next).await {
                Ok(true) => {}
                Ok(false) => return Err(self.apps.stopping().unwrap_or_else(|| no_such_version(&request))),
                Err(_) => return Err(waited_in_vain(pool, wait, found.is_shared_out)),
            }
        }
    }

    /// Lets in a request for which a sandbox is woken. None: the node drains, and one that is on its way for others may be had as well.
    fn activation(&self, pool: &PoolView) -> Result<Option<Permit<Work>>, ApiError> {
        match self.admission.admit(Work::Activation) {
            Err(draining) if pool.pool.current == 0 => Err(draining),
            admitted => Ok(admitted.ok()),
        }
    }

    /// Whether it was reached under a label whose time is over: from that moment on nothing more is granted (E8).
    fn is_over(&self, view: &AppView, version: &VersionId) -> bool {
        let expired = |preview: &PreviewView| {
            let routed = self.routing.now();
            let route = routed.table.label_of(&view.name, preview.label.as_str());
            route.is_some_and(|route| route.version == *version && self.clock.wall() >= route.expires_at)
        };
        view.previews.get(version).is_some_and(expired)
    }

    fn report_demand(&self, handle: &AppHandle, request: &AcquireRequest, pool: &PoolId) {
        self.desk.demand(&request.proxy, pool, request.demand);
        // A full queue means that a plan is about to be made anyway.
        let _ = handle.commands.try_send(Command::Replan);
    }

    fn grant(&self, view: &AppView, pool: &PoolView, request: &AcquireRequest) -> Found {
        let mut leases: BTreeMap<LeaseKey, Lease> = view
            .running(&pool.pool.id)
            .filter_map(lease)
            .filter(|lease| self.is_running(lease.key))
            .map(|lease| (lease.key, lease))
            .collect();
        let need = each(
            request.demand.in_flight.saturating_add(request.demand.queued),
            leases.len(),
        );
        let asks: Vec<Ask> = leases
            .keys()
            .map(|key| Ask {
                key: *key,
                capacity: pool.capacity,
                // Whoever asks wants one at least.
                need: need.max(1),
            })
            .collect();
        let (answer, granted) = self.desk.grant(&request.proxy, &asks);
        let with_share = |granted: &Granted| {
            let lease = leases.remove(&granted.key)?;
            Some(Lease {
                capacity: granted.share,
                ..lease
            })
        };
        Found {
            has_ended: granted
                .iter()
                .any(|granted| granted.share == 0 && granted.before > Some(0)),
            is_shared_out: !asks.is_empty(),
            leases: granted.iter().filter_map(with_share).collect(),
            answer,
        }
    }

    /// Renews what a proxy holds, and takes in what it needs and how much it uses.
    pub fn renew(&self, request: &RenewRequest) -> RenewResponse {
        let desk = &self.desk;
        let held: Vec<(HeldLease, Option<Leased>)> = request
            .held
            .iter()
            .map(|held| (*held, desk.known(held.key())))
            .collect();
        let mut owners: BTreeMap<&PoolId, (&AppName, usize)> = BTreeMap::new();
        for leased in held.iter().filter_map(|(_, leased)| leased.as_ref()) {
            owners.entry(&leased.pool).or_insert((&leased.app, 0)).1 += 1;
        }
        let mut queued: BTreeMap<&PoolId, u32> = BTreeMap::new();
        for needed in &request.demand {
            desk.demand(&request.proxy, &needed.pool, needed.demand);
            let Some((app, sandboxes)) = owners.get(&needed.pool) else {
                continue;
            };
            queued.insert(&needed.pool, each(needed.demand.queued, *sandboxes));
            if let Ok(handle) = self.apps.get(app.as_str()) {
                // A full queue means that a plan is about to be made anyway.
                let _ = handle.commands.try_send(Command::Replan);
            }
        }
        let capacities: BTreeMap<&PoolId, u32> = owners
            .iter()
            .filter_map(|(pool, (app, _))| Some((*pool, self.capacity(app, pool)?)))
            .collect();
        let ask = |(held, leased): &(HeldLease, Option<Leased>)| {
            let pool = &leased.as_ref()?.pool;
            let ask = Ask {
                key: held.key(),
                capacity: *capacities.get(pool)?,
                need: held.in_flight.saturating_add(queued.get(pool).copied().unwrap_or(0)),
            };
            self.is_running(ask.key).then_some(ask)
        };
        let asks: Vec<(HeldLease, Option<Ask>)> = held.iter().map(|held| (held.0, ask(held))).collect();
        let (renewed, lost) = desk.renew(&request.proxy, &asks);
        RenewResponse {
            renewed,
            closing: desk.closing(&lost),
            lost,
            hears_tunnels: true,
            ttl_ms: millis(LEASE_TTL),
            identity: Some(self.identity()),
        }
    }

    /// Concurrent requests that one sandbox of a pool takes; none when there is no such pool any more.
    fn capacity(&self, app: &AppName, pool: &PoolId) -> Option<u32> {
        let handle = self.apps.get(app.as_str()).ok()?;
        let view = handle.view.borrow();
        view.pools.get(pool).map(|pool| pool.capacity)
    }

    fn crashed(&self, pool: &PoolView, waited: bool) -> ApiError {
        let why = pool.last_failure.as_deref().unwrap_or("it ended too early");
        let now = self.clock.now();
        let left = pool.pool.cooldown_until.map(|until| crate::clock::since(until, now));
        // Between a step of the wall clock and the next picture of the app the two are told by different clocks.
        let seconds = left.unwrap_or_default().min(LONGEST_BACKOFF).as_secs() + 1;
        let (code, what) = match waited {
            true => (ErrorCode::BootFailed, "the sandbox did not start"),
            false => (ErrorCode::Cooldown, "waiting after crashes"),
        };
        ApiError::new(code, format!("{what}: {why}")).retry_after(seconds)
    }
}

/// The first request for a service of a preview has come: its app makes the pool, once for all who ask (E11).
async fn open(handle: &AppHandle, request: &AcquireRequest) -> Result<(), ApiError> {
    let (reply, answer) = oneshot::channel();
    let command = Command::Open {
        version: request.version.clone(),
        service: request.service.clone(),
        reply,
    };
    let gone = || no_such_version(request);
    handle.commands.send(command).await.map_err(|_| gone())?;
    answer.await.map_err(|_| gone())?
}

/// Waits until there may be another answer: the app has changed, the node drains, or, when others have all there is, a share is
/// given back. False when the app is gone.
async fn next(
    view: &mut watch::Receiver<Arc<AppView>>,
    changes: &mut Changes,
    gates: &mut Gates,
    is_shared_out: bool,
) -> bool {
    tokio::select! {
        changed = view.changed() => changed.is_ok(),
        () = changes.next(LOOK_AGAIN), if is_shared_out => true,
        () = gates.next() => true,
    }
}

/// What there is for a proxy now.
struct Found {
    leases: Vec<Lease>,
    /// Number of the answer that has them.
    answer: u64,
    /// One of them was taken away whole: the proxy has to know.
    has_ended: bool,
    /// There are RUNNING sandboxes, and other proxies have all of them.
    is_shared_out: bool,
}

impl Found {
    fn is_answer(&self) -> bool {
        self.has_ended || self.leases.iter().any(|lease| lease.capacity > 0)
    }
}

/// A part of what a proxy has for a pool: it spreads it over the sandboxes evenly.
fn each(of_pool: u32, sandboxes: usize) -> u32 {
    of_pool.div_ceil(u32::try_from(sandboxes).unwrap_or(u32::MAX).max(1))
}

/// A lease on a sandbox, before it is known how much of it.
fn lease(sandbox: &Sandbox) -> Option<Lease> {
    Some(Lease {
        key: LeaseKey {
            node: sandbox.node_id,
            slot: sandbox.slot?,
            generation: sandbox.generation?,
        },
        sandbox: sandbox.id.clone(),
        endpoint: SocketAddr::new(sandbox.ip?, sandbox.port?),
        capacity: 0,
    })
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn no_such_version(request: &AcquireRequest) -> ApiError {
    let message = format!(
        "nothing runs service {:?} of version {}",
        request.service, request.version
    );
    ApiError::new(ErrorCode::NoSuchVersion, message)
}

fn waited_in_vain(pool: &PoolView, wait: Duration, is_shared_out: bool) -> ApiError {
    let (pool, fault) = (&pool.pool.id, &pool.pool.node_fault);
    let (code, message) = match (is_shared_out, fault) {
        (true, _) => (
            ErrorCode::WaitTimeout,
            format!("other proxies had every share of {pool} for {wait:?}"),
        ),
        (false, None) => (
            ErrorCode::WaitTimeout,
            format!("no sandbox of {pool} is RUNNING after {wait:?}"),
        ),
        (false, Some(fault)) => (
            ErrorCode::NodeFault,
            format!("the node cannot start a sandbox of {pool}: {fault}"),
        ),
    };
    ApiError::new(code, message).retry_after(ASK_AGAIN)
}

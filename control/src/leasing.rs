//! Decides what a proxy that asks for leases gets: those of every RUNNING sandbox, a wait for the first one, or a reason.

use crate::app::view::PoolView;
use crate::app::{AppHandle, AppView, Command};
use crate::apps::Apps;
use miren_api::id::{AppName, PoolId};
use miren_api::lease::{
    ACQUIRE_WAIT_MAX, AcquireRequest, AcquireResponse, LEASE_TTL, Lease, LeaseKey, RenewRequest, RenewResponse,
};
use miren_api::resource::{PoolState, Sandbox};
use miren_api::{ApiError, ErrorCode};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::time::Instant;

/// When a proxy that waited in vain may ask again, in seconds.
const ASK_AGAIN: u64 = 1;

/// Answers with leases, or with why there are none.
pub async fn acquire(apps: &Apps, request: AcquireRequest) -> Result<AcquireResponse, ApiError> {
    let handle = apps
        .of_version(&request.version)
        .ok_or_else(|| no_such_version(&request))?;
    apps.world.desk.release(&request.proxy, &request.dropped);
    let wait = Duration::from_millis(request.wait_ms).min(ACQUIRE_WAIT_MAX);
    let until = Instant::now() + wait;
    let mut view = handle.view.clone();
    let mut waited = false;
    loop {
        let seen = view.borrow_and_update().clone();
        let pool = seen
            .pool_of(&request.version, &request.service)
            .ok_or_else(|| no_such_version(&request))?;
        if !waited {
            report_demand(apps, &handle, &request, &pool.pool.id);
        }
        let leases = grant(apps, &seen, pool, &request.proxy);
        if !leases.is_empty() {
            return Ok(AcquireResponse {
                pool: pool.pool.id.clone(),
                leases,
                ttl_ms: millis(LEASE_TTL),
            });
        }
        if pool.pool.state == PoolState::Cooldown {
            return Err(crashed(apps, pool, waited));
        }
        waited = true;
        match tokio::time::timeout_at(until, view.changed()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err(no_such_version(&request)),
            Err(_) => return Err(waited_in_vain(pool, wait)),
        }
    }
}

fn report_demand(apps: &Apps, handle: &AppHandle, request: &AcquireRequest, pool: &PoolId) {
    apps.world.desk.demand(&request.proxy, pool, request.demand);
    // A full queue means that a plan is about to be made anyway.
    let _ = handle.commands.try_send(Command::Replan);
}

fn grant(apps: &Apps, view: &AppView, pool: &PoolView, proxy: &str) -> Vec<Lease> {
    let mut leases: BTreeMap<LeaseKey, Lease> = view
        .running(&pool.pool.id)
        .filter_map(|sandbox| lease(sandbox, pool.capacity))
        .filter(|lease| apps.world.executor.is_running(lease.key))
        .map(|lease| (lease.key, lease))
        .collect();
    let keys: Vec<LeaseKey> = leases.keys().copied().collect();
    let granted = apps.world.desk.grant(proxy, &keys);
    granted.iter().filter_map(|key| leases.remove(key)).collect()
}

fn lease(sandbox: &Sandbox, capacity: u32) -> Option<Lease> {
    Some(Lease {
        key: LeaseKey {
            slot: sandbox.slot?,
            generation: sandbox.generation?,
        },
        sandbox: sandbox.id.clone(),
        endpoint: SocketAddr::new(sandbox.ip?, sandbox.port?),
        capacity,
    })
}

/// Renews what a proxy holds, and takes in what it needs.
pub fn renew(apps: &Apps, request: &RenewRequest) -> RenewResponse {
    let desk = &apps.world.desk;
    let owners: BTreeMap<PoolId, AppName> = request
        .held
        .iter()
        .filter_map(|key| desk.known(*key))
        .map(|leased| (leased.pool, leased.app))
        .collect();
    for needed in &request.demand {
        desk.demand(&request.proxy, &needed.pool, needed.demand);
        if let Some(handle) = owners.get(&needed.pool).and_then(|app| apps.get(app.as_str()).ok()) {
            // A full queue means that a plan is about to be made anyway.
            let _ = handle.commands.try_send(Command::Replan);
        }
    }
    let (renewed, lost) = desk.renew(&request.proxy, &request.held, |key| apps.world.executor.is_running(key));
    RenewResponse {
        renewed,
        lost,
        ttl_ms: millis(LEASE_TTL),
    }
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

fn crashed(apps: &Apps, pool: &PoolView, waited: bool) -> ApiError {
    let why = pool.last_failure.as_deref().unwrap_or("it ended too early");
    let now = apps.world.clock.now();
    let left = pool.pool.cooldown_until.map(|until| crate::clock::since(until, now));
    let seconds = left.unwrap_or_default().as_secs() + 1;
    let (code, what) = match waited {
        true => (ErrorCode::BootFailed, "the sandbox did not start"),
        false => (ErrorCode::Cooldown, "waiting after crashes"),
    };
    ApiError::new(code, format!("{what}: {why}")).retry_after(seconds)
}

fn waited_in_vain(pool: &PoolView, wait: Duration) -> ApiError {
    let message = format!("no sandbox of {} is RUNNING after {wait:?}", pool.pool.id);
    ApiError::new(ErrorCode::WaitTimeout, message).retry_after(ASK_AGAIN)
}

//! Decides what proxies are told and asked: the newest snapshot at once, hints after it, leases on request.

use super::Server;
use super::extract::{Body, Parameters};
use super::refusal::Refusal;
use crate::app::Hint;
use crate::lease::{About, Connected, Tell};
use crate::routing::Routed;
use crate::{apps::Apps, leasing};
use axum::Json;
use axum::extract::State;
use axum::response::Sse;
use axum::response::sse::{Event, KeepAlive};
use futures_util::{Stream, StreamExt, stream};
use miren_api::lease::{AcquireRequest, AcquireResponse, ReleaseRequest, RenewRequest, RenewResponse};
use miren_api::routing::{PoolChanged, ProxyAck, RoutingSnapshot, SandboxHint};
use miren_api::{ApiError, ErrorCode};
use serde::Deserialize;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{broadcast, watch};
use utoipa::IntoParams;

/// How often an idle stream says that it lives.
const KEEP_ALIVE: Duration = Duration::from_secs(2);
/// Longest id of a proxy.
const ID_MAX: usize = 64;

/// Who follows.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Follower {
    /// The proxy's own id, new at each of its starts.
    pub proxy: String,
}

fn check_id(proxy: &str) -> Result<(), ApiError> {
    let plain = proxy.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    if plain && (1..=ID_MAX).contains(&proxy.len()) {
        return Ok(());
    }
    let message = format!("{proxy:?} is no proxy id: 1 to {ID_MAX} letters, digits, '-', '_', '.'");
    Err(ApiError::new(ErrorCode::InvalidValue, message).field("proxy"))
}

/// Follows routing: events `identity` and `snapshot` at once, `delta` at each change, `pool` and `sandbox` as hints between.
#[utoipa::path(get, path = "/v1/proxy/stream", tag = "proxies", params(Follower),
    responses((status = 200, content_type = "text/event-stream", body = RoutingSnapshot)))]
pub async fn stream(
    State(server): State<Server>,
    Parameters(follower): Parameters<Follower>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Refusal> {
    check_id(&follower.proxy)?;
    let world = &server.control.apps.world;
    let connected = world.desk.connect(&follower.proxy).ok_or_else(|| {
        ApiError::new(ErrorCode::Conflict, "too many proxies follow this node").remedy("stop some of them")
    })?;
    // Subscribed before the first snapshot is read: no hint about a later one is missed.
    let feed = Feed {
        hints: world.hints.subscribe(),
        tells: world.desk.tells(),
        routed: world.routing.follow(),
        apps: Arc::clone(&server.control.apps),
        pending: VecDeque::new(),
        sent: None,
        proxy: follower.proxy,
        _connected: connected,
    };
    // First of all: what comes after it is to be believed by those only who read the same table.
    let identity = Event::default().event("identity").json_data(world.identity());
    let events = stream::iter(identity.map(Ok)).chain(stream::unfold(feed, Feed::next));
    let until_end = events.take_until(server.control.ending.clone().cancelled_owned());
    Ok(Sse::new(until_end).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

/// What one proxy still has to be told.
struct Feed {
    routed: watch::Receiver<Routed>,
    hints: broadcast::Receiver<Hint>,
    /// For every proxy.
    tells: broadcast::Receiver<Tell>,
    apps: Arc<Apps>,
    pending: VecDeque<Event>,
    /// What the proxy was told last: however slow it is, the next delta begins there.
    sent: Option<Routed>,
    proxy: String,
    _connected: Connected,
}

impl Feed {
    async fn next(mut self) -> Option<(Result<Event, Infallible>, Self)> {
        if self.sent.is_none() {
            let event = self.routing()?;
            return Some((Ok(event), self));
        }
        if let Some(event) = self.pending.pop_front() {
            return Some((Ok(event), self));
        }
        let event = tokio::select! {
            biased;
            changed = self.routed.changed() => {
                changed.ok()?;
                self.routing()?
            }
            hint = self.hints.recv() => match hint {
                Ok(hint) => event(&hint)?,
                Err(broadcast::error::RecvError::Lagged(_)) => self.everything()?,
                Err(broadcast::error::RecvError::Closed) => return None,
            },
            told = told(&mut self.tells, &self.proxy) => match told? {
                Some(tell) => event(&hint(tell.about))?,
                None => self.everything()?,
            },
        };
        Some((Ok(event), self))
    }

    /// Routing as it is now: whole at first, then as what changed.
    fn routing(&mut self) -> Option<Event> {
        let now = self.routed.borrow_and_update().clone();
        let event = Event::default().id(now.generation.to_string());
        let event = match &self.sent {
            None => event.event("snapshot").json_data(now.snapshot()),
            Some(sent) => event.event("delta").json_data(now.since(sent)),
        };
        self.sent = Some(now);
        event.ok()
    }

    /// Hints were missed: the snapshot again, and every pool.
    fn everything(&mut self) -> Option<Event> {
        let views = self.apps.views();
        let pools = views.iter().flat_map(|view| view.pools.keys().cloned());
        self.pending = pools.filter_map(|pool| event(&Hint::Pool(pool))).collect();
        self.sent = None;
        self.routing()
    }
}

/// The next tell for `proxy`. The inner none: some were missed; the outer one: there will be no more.
async fn told(tells: &mut broadcast::Receiver<Tell>, proxy: &str) -> Option<Option<Tell>> {
    loop {
        match tells.recv().await {
            Ok(tell) if tell.proxy == proxy => return Some(Some(tell)),
            Ok(_) => {}
            Err(broadcast::error::RecvError::Lagged(_)) => return Some(None),
            Err(broadcast::error::RecvError::Closed) => return None,
        }
    }
}

fn hint(about: About) -> Hint {
    match about {
        About::Pool(pool) => Hint::Pool(pool),
        About::Closing(key) => Hint::Sandbox(SandboxHint {
            slot: key.slot,
            generation: key.generation,
            state: miren_loader::State::Draining.name().to_owned(),
        }),
    }
}

fn event(hint: &Hint) -> Option<Event> {
    let event = Event::default();
    match hint {
        Hint::Pool(pool) => event.event("pool").json_data(PoolChanged { pool: pool.clone() }),
        Hint::Sandbox(sandbox) => event.event("sandbox").json_data(sandbox),
    }
    .ok()
}

/// A proxy serves this generation from now on. What it serves of another history is not counted.
#[utoipa::path(post, path = "/v1/proxy/ack", tag = "proxies", request_body = ProxyAck,
    responses((status = 200, body = ProxyAck)))]
pub async fn acknowledge(State(server): State<Server>, Body(ack): Body<ProxyAck>) -> Result<Json<ProxyAck>, Refusal> {
    check_id(&ack.proxy)?;
    let world = &server.control.apps.world;
    let counts = world.routing.has_had(&ack.lineage, ack.generation);
    if !counts {
        tracing::info!(
            proxy = ack.proxy,
            ack.generation,
            "a proxy still serves routing of another history"
        );
    }
    world
        .desk
        .acknowledge(&ack.proxy, if counts { ack.generation } else { 0 });
    Ok(Json(ack))
}

/// Leases on every RUNNING sandbox of a version's service, each with this proxy's share; waits for the first one.
#[utoipa::path(post, path = "/v1/leases/acquire", tag = "proxies", request_body = AcquireRequest,
    responses((status = 200, body = AcquireResponse), (status = 404, body = miren_api::error::ErrorBody),
        (status = 503, body = miren_api::error::ErrorBody)))]
pub async fn acquire(
    State(server): State<Server>,
    Body(request): Body<AcquireRequest>,
) -> Result<Json<AcquireResponse>, Refusal> {
    check_id(&request.proxy)?;
    tokio::select! {
        answer = leasing::acquire(&server.control.apps, request) => Ok(Json(answer?)),
        () = server.control.ending.cancelled() => {
            Err(ApiError::new(ErrorCode::Draining, "control is stopping").retry_after(1).into())
        }
    }
}

/// Renews everything a proxy holds. What does not run any more is lost.
#[utoipa::path(post, path = "/v1/leases/renew", tag = "proxies", request_body = RenewRequest,
    responses((status = 200, body = RenewResponse)))]
pub async fn renew(
    State(server): State<Server>,
    Body(request): Body<RenewRequest>,
) -> Result<Json<RenewResponse>, Refusal> {
    check_id(&request.proxy)?;
    Ok(Json(leasing::renew(&server.control.apps, &request)))
}

/// Gives leases back: nothing of this proxy is in flight to them any more.
#[utoipa::path(post, path = "/v1/leases/release", tag = "proxies", request_body = ReleaseRequest,
    responses((status = 200, body = ReleaseRequest)))]
pub async fn release(
    State(server): State<Server>,
    Body(request): Body<ReleaseRequest>,
) -> Result<Json<ReleaseRequest>, Refusal> {
    check_id(&request.proxy)?;
    server
        .control
        .apps
        .world
        .desk
        .give_back(&request.proxy, &request.leases);
    Ok(Json(request))
}

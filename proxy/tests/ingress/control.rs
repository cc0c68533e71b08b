//! A fake control on a Unix socket: it grants what the test put there and remembers what it was asked.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::{Stream, StreamExt};
use miren_api::error::ErrorBody;
use miren_api::lease::{
    AcquireRequest, AcquireResponse, ClosingLease, HeldLease, Lease, LeaseKey, ReleaseRequest, RenewRequest,
    RenewResponse, RenewedLease,
};
use miren_api::routing::{ProxyAck, RoutingSnapshot};
use miren_api::{ApiError, ErrorCode, Identity, PoolId};
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixListener;
use tokio::runtime::Runtime;
use tokio::sync::watch;

/// How a snapshot is marked that open streams are not told.
const SKIPPED: &str = "skipped";

#[derive(Default)]
pub struct Inner {
    /// By version.
    pub leases: HashMap<String, Vec<Lease>>,
    /// What acquires for a version are answered with instead.
    pub refusals: HashMap<String, ApiError>,
    /// What the next acquire for a version is answered with, once.
    pub one_refusal: HashMap<String, ApiError>,
    pub acquires: Vec<AcquireRequest>,
    /// Acquires that wait for their answer, and the most there ever were at once, by version.
    pub acquiring: HashMap<String, (usize, usize)>,
    pub released: Vec<LeaseKey>,
    pub acknowledged: Vec<u64>,
    /// The same, with the history that each is of.
    pub acks: Vec<(String, u64)>,
    /// What it says of itself.
    pub identity: Option<Identity>,
    /// Of the leases for a version it grants one for each so many requests that it was told of, with an event for each change.
    pub requests_per_lease: Option<u64>,
    /// How many leases that were at most, by version.
    pub needed: HashMap<String, usize>,
    /// Versions whose requests are never asked of two sandboxes.
    pub unhedged: HashSet<String>,
    pub hears_tunnels: bool,
    /// As by a release that does not know the word: a renewal that has it is refused.
    pub refuses_tunnels: bool,
    /// What was asked since somebody last cleared this: acquires, renewals and refused ones, in this order.
    pub asked: Vec<&'static str>,
    pub lost: Vec<LeaseKey>,
    /// How long what is under way to lost ones may go on.
    pub closing: HashMap<LeaseKey, ClosingLease>,
    pub renewals: Vec<RenewRequest>,
    /// Whether renewals wait for their answer.
    pub holds_renewals: bool,
    /// Whether streams say nothing; what there is to say is said afterwards.
    pub is_silent: bool,
    /// What renewals answer as capacity; what the proxy says it has when there is nothing here.
    pub shares: HashMap<LeaseKey, u32>,
}

pub struct Shared {
    pub inner: Mutex<Inner>,
    /// Events of the stream, in order; a new stream gets the last snapshot and everything after it.
    events: Mutex<Vec<(String, String)>>,
    changed: watch::Sender<u64>,
}

/// Serves until it is stopped or dropped.
pub struct Control {
    pub shared: Arc<Shared>,
    /// Its own, so that killing it ends every connection at once.
    runtime: Option<Runtime>,
}

impl Drop for Control {
    fn drop(&mut self) {
        self.shut_down();
    }
}

impl Control {
    pub fn new() -> Self {
        let shared = Shared {
            inner: Mutex::default(),
            events: Mutex::default(),
            changed: watch::Sender::new(0),
        };
        Self {
            shared: Arc::new(shared),
            runtime: None,
        }
    }

    pub fn start(&mut self, socket: &Path) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let within = runtime.enter();
        let listener = UnixListener::bind(socket).unwrap();
        drop(within);
        let routes = Router::new()
            .route("/v1/proxy/stream", get(stream))
            .route("/v1/proxy/ack", post(acknowledge))
            .route("/v1/leases/acquire", post(acquire))
            .route("/v1/leases/renew", post(renew))
            .route("/v1/leases/release", post(release))
            .with_state(Arc::clone(&self.shared));
        runtime.spawn(async move { axum::serve(listener, routes).await.unwrap() });
        self.runtime = Some(runtime);
    }

    /// As `kill -9`: open streams and calls break, and nobody listens any more.
    pub fn kill(&mut self, socket: &Path) {
        self.shut_down();
        std::fs::remove_file(socket).unwrap();
    }

    fn shut_down(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    /// Changes what is granted, and lets waiting acquires look again.
    pub fn change<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        let changed = change(&mut self.shared.inner.lock());
        self.shared.changed.send_modify(|count| *count += 1);
        changed
    }

    /// It writes this slot table from now on.
    pub fn says(&self, slot_table: &str) {
        let identity = Identity {
            slot_table: slot_table.into(),
            lineage: "of its own".into(),
            epoch: 1,
        };
        self.change(|inner| inner.identity = Some(identity));
    }

    /// Forgets what was published, as a control on another store has it.
    pub fn forget(&self) {
        self.shared.events.lock().clear();
    }

    pub fn publish(&self, snapshot: &RoutingSnapshot) {
        self.send("snapshot", serde_json::to_string(snapshot).unwrap());
    }

    /// A snapshot that only streams opened from now on begin with: those open already have missed it.
    pub fn skip(&self, snapshot: &RoutingSnapshot) {
        self.send(SKIPPED, serde_json::to_string(snapshot).unwrap());
    }

    pub fn send(&self, event: &str, data: String) {
        self.shared.events.lock().push((event.to_owned(), data));
        self.shared.changed.send_modify(|count| *count += 1);
    }
}

async fn stream(State(shared): State<Arc<Shared>>) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let begin = shared
        .events
        .lock()
        .iter()
        .rposition(|(name, _)| name == "snapshot" || name == SKIPPED)
        .unwrap_or(0);
    let changed = shared.changed.subscribe();
    let identity = shared.inner.lock().identity.clone();
    let identity = identity.map(|identity| Ok(Event::default().event("identity").json_data(identity).unwrap()));
    let told = futures_util::stream::unfold(
        (shared, changed, begin),
        move |(shared, mut changed, mut at)| async move {
            loop {
                let is_silent = shared.inner.lock().is_silent;
                let next = shared.events.lock().get(at).filter(|_| !is_silent).cloned();
                match next {
                    Some((name, _)) if name == SKIPPED && at > begin => at += 1,
                    Some((name, data)) => {
                        let name = if name == SKIPPED { "snapshot" } else { &name };
                        return Some((Ok(Event::default().event(name).data(data)), (shared, changed, at + 1)));
                    }
                    None => changed.changed().await.ok()?,
                }
            }
        },
    );
    Sse::new(futures_util::stream::iter(identity).chain(told))
}

async fn acknowledge(State(shared): State<Arc<Shared>>, Json(ack): Json<ProxyAck>) -> Json<()> {
    let mut inner = shared.inner.lock();
    inner.acknowledged.push(ack.generation);
    inner.acks.push((ack.lineage, ack.generation));
    Json(())
}

async fn acquire(State(shared): State<Arc<Shared>>, Json(request): Json<AcquireRequest>) -> Response {
    {
        let mut inner = shared.inner.lock();
        inner.acquires.push(request.clone());
        inner.asked.push("acquire");
    }
    let _counted = Acquiring::begin(&shared, request.version.as_str());
    let mut changed = shared.changed.subscribe();
    let granted = async {
        loop {
            if let Some(answer) = decide(&shared, &request) {
                return answer;
            }
            changed.changed().await.unwrap();
        }
    };
    match tokio::time::timeout(Duration::from_millis(request.wait_ms), granted).await {
        Ok(answer) => answer,
        Err(_) => refuse(ApiError::new(ErrorCode::WaitTimeout, "nothing became ready")),
    }
}

/// An acquire that is counted until it is answered, or its caller gone.
struct Acquiring<'s>(&'s Shared, String);

impl<'s> Acquiring<'s> {
    fn begin(shared: &'s Shared, version: &str) -> Self {
        let mut inner = shared.inner.lock();
        let (now, most) = inner.acquiring.entry(version.to_owned()).or_default();
        *now += 1;
        *most = (*most).max(*now);
        Self(shared, version.to_owned())
    }
}

impl Drop for Acquiring<'_> {
    fn drop(&mut self) {
        if let Some((now, _)) = self.0.inner.lock().acquiring.get_mut(&self.1) {
            *now -= 1;
        }
    }
}

fn decide(shared: &Shared, request: &AcquireRequest) -> Option<Response> {
    let mut inner = shared.inner.lock();
    if let Some(refusal) = inner.one_refusal.remove(request.version.as_str()) {
        return Some(refuse(refusal));
    }
    if let Some(refusal) = inner.refusals.get(request.version.as_str()) {
        return Some(refuse(refusal.clone()));
    }
    let leases = inner.leases.get(request.version.as_str()).cloned();
    let mut leases = leases.filter(|leases| !leases.is_empty())?;
    if let Some(requests) = inner.requests_per_lease {
        let needed = inner.needed.entry(request.version.to_string()).or_default();
        let now = usize::try_from(request.demand.total().div_ceil(requests)).unwrap();
        if now > *needed {
            *needed = now;
            let more = format!("{{\"pool\":\"pool-{}\"}}", request.version);
            shared.events.lock().push(("pool".into(), more));
            shared.changed.send_modify(|count| *count += 1);
        }
        leases.truncate((*needed).max(1));
    }
    let pool = PoolId::from_text(format!("pool-{}", request.version));
    Some(
        Json(AcquireResponse {
            pool,
            leases,
            ttl_ms: 30_000,
            answer: 1,
            identity: inner.identity.clone(),
            hedge: !inner.unhedged.contains(request.version.as_str()),
        })
        .into_response(),
    )
}

async fn renew(State(shared): State<Arc<Shared>>, Json(request): Json<RenewRequest>) -> Response {
    let mut changed = shared.changed.subscribe();
    {
        let mut inner = shared.inner.lock();
        if inner.refuses_tunnels && request.held.iter().any(|held| held.tunnels > 0) {
            inner.asked.push("refused");
            return refuse(ApiError::new(ErrorCode::InvalidRequest, "unknown field `tunnels`"));
        }
        inner.asked.push("renewal");
        inner.renewals.push(request.clone());
    }
    while shared.inner.lock().holds_renewals {
        changed.changed().await.unwrap();
    }
    let inner = shared.inner.lock();
    let (lost, renewed): (Vec<HeldLease>, Vec<HeldLease>) = request
        .held
        .into_iter()
        .partition(|held| inner.lost.contains(&held.key()));
    let share = |held: &HeldLease| inner.shares.get(&held.key()).copied().unwrap_or(held.capacity);
    Json(RenewResponse {
        renewed: renewed
            .iter()
            .map(|held| RenewedLease {
                node: held.node,
                slot: held.slot,
                generation: held.generation,
                capacity: share(held),
            })
            .collect(),
        closing: lost
            .iter()
            .filter_map(|held| inner.closing.get(&held.key()).copied())
            .collect(),
        lost: lost.iter().map(HeldLease::key).collect(),
        hears_tunnels: inner.hears_tunnels,
        ttl_ms: 30_000,
        identity: inner.identity.clone(),
    })
    .into_response()
}

async fn release(State(shared): State<Arc<Shared>>, Json(request): Json<ReleaseRequest>) -> Json<()> {
    shared
        .inner
        .lock()
        .released
        .extend(request.leases.iter().map(|lease| lease.key()));
    Json(())
}

fn refuse(error: ApiError) -> Response {
    let status = StatusCode::from_u16(error.code.status()).unwrap();
    (status, Json(ErrorBody { error })).into_response()
}

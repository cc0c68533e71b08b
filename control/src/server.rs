//! Decides which requests control answers, and for whom: the API on its Unix socket.

use crate::app::Hint;
use crate::apps::Apps;
use crate::artifact::Artifacts;
use crate::clock::Clock;
use crate::control::Control;
use crate::drain::Admission;
use crate::executor::Executor;
use crate::images::Fetcher;
use crate::lease::Desk;
use crate::leasing::Leasing;
use crate::output::Outputs;
use crate::policy::Policy;
use crate::reads::Reads;
use crate::routing::Routing;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use axum::routing::{delete, get, post, put};
use miren_api::id::NodeId;
use miren_api::settings::Bytes;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

mod apps;
mod artifacts;
mod deploys;
mod disks;
mod door;
mod exec;
mod extract;
mod fastpath;
mod following;
mod gate;
mod health;
mod logs;
mod metrics;
mod node;
mod openapi;
mod page;
mod pools;
mod previews;
mod proxies;
mod refusal;
mod routes;
mod runs;
mod sandboxes;
mod scrapes;
mod settings;
mod speaking;
mod upload;
mod variables;

pub use door::Door;
pub use gate::Peers;
pub use metrics::serve as serve_metrics;
pub use openapi::document as openapi;

/// How long requests in flight get when the daemon stops.
const LAST_REQUESTS: Duration = Duration::from_secs(5);

/// What every request can use.
#[derive(Clone)]
pub struct Server {
    control: Arc<Control>,
    peers: Peers,
    body_limit: Bytes,
    apps: Arc<Apps>,
    leasing: Leasing,
    reads: Reads,
    artifacts: Artifacts,
    routing: Routing,
    executor: Arc<dyn Executor>,
    desk: Desk,
    clock: Clock,
    images: Arc<Fetcher>,
    outputs: Arc<Outputs>,
    hints: broadcast::Sender<Hint>,
    policy: Policy,
    admission: Admission,
    node: String,
    node_id: NodeId,
    ending: CancellationToken,
}

impl Server {
    /// The API of `control`. `body_limit`: longest body that is JSON.
    pub fn new(control: Arc<Control>, peers: Peers, body_limit: Bytes) -> Self {
        let world = &control.world;
        Self {
            peers,
            body_limit,
            apps: Arc::clone(&control.apps),
            leasing: control.leasing(),
            reads: Reads::new(Arc::clone(&world.store)),
            artifacts: control.artifacts.clone(),
            routing: world.routing.clone(),
            executor: Arc::clone(&world.executor),
            desk: world.desk.clone(),
            clock: world.clock.clone(),
            images: Arc::clone(&world.images),
            outputs: Arc::clone(&world.outputs),
            hints: world.hints.clone(),
            policy: world.policy.clone(),
            admission: world.admission.clone(),
            node: world.node.clone(),
            node_id: world.nodes.own(),
            ending: control.ending.clone(),
            control,
        }
    }

    /// Every endpoint.
    pub fn router(&self) -> Router {
        let body_limit = usize::try_from(self.body_limit.0).unwrap_or(usize::MAX);
        Router::new()
            .route("/healthz", get(health::alive))
            .route("/readyz", get(health::ready))
            .route("/v1/version", get(health::version))
            .route("/v1/openapi.json", get(openapi::serve))
            .merge(resources())
            .merge(for_proxies())
            .layer(DefaultBodyLimit::max(body_limit))
            .route("/v1/artifacts", post(artifacts::upload))
            .route("/v1/images", post(artifacts::upload_image))
            .fallback(refusal::no_such_endpoint)
            .method_not_allowed_fallback(refusal::no_such_method)
            .layer(middleware::from_fn_with_state(self.clone(), gate::admit))
            .layer(middleware::from_fn(refusal::unless_panicked))
            .with_state(self.clone())
    }

    /// Serves until the daemon ends. Streams end at once, other requests within five seconds.
    pub async fn serve(self, door: Door) -> std::io::Result<()> {
        let ending = self.ending.clone();
        let app = self.router().into_make_service_with_connect_info::<gate::Peer>();
        let graceful = axum::serve(door, app).with_graceful_shutdown(ending.clone().cancelled_owned());
        let overdue = async {
            ending.cancelled().await;
            tokio::time::sleep(LAST_REQUESTS).await;
        };
        tokio::select! {
            served = graceful => served,
            () = overdue => Ok(()),
        }
    }
}

fn resources() -> Router<Server> {
    Router::new()
        .route("/v1/apps", get(apps::list))
        .route("/v1/apps/{app}", get(apps::show).delete(apps::delete))
        .route("/v1/apps/{app}/versions", get(apps::versions))
        .route("/v1/apps/{app}/deploys", get(deploys::list).post(deploys::create))
        .route("/v1/apps/{app}/ephemeral", get(previews::list).post(previews::create))
        .route(
            "/v1/apps/{app}/ephemeral/{label}",
            get(previews::show).delete(previews::delete),
        )
        .route("/v1/apps/{app}/ephemeral/{label}/extend", post(previews::extend))
        .route("/v1/progress/{key}", get(previews::progress))
        .route("/v1/apps/{app}/rollback", post(deploys::rollback))
        .route("/v1/apps/{app}/restart", post(deploys::restart))
        .route("/v1/apps/{app}/env", get(variables::list))
        .route("/v1/apps/{app}/runs", get(runs::list).post(runs::create))
        .route("/v1/deploys/{id}", get(deploys::show))
        .route("/v1/deploys/{id}/cancel", post(deploys::cancel))
        .route("/v1/deploys/{id}/events", get(following::events))
        .route("/v1/routes", get(routes::list))
        .route(
            "/v1/routes/{host}",
            get(routes::show).put(routes::set).delete(routes::remove),
        )
        .route(
            "/v1/routes/{host}/maintenance",
            put(settings::take_down).delete(settings::bring_up),
        )
        .route(
            "/v1/routes/{host}/timeout",
            put(settings::set_timeout).delete(settings::clear_timeout),
        )
        .route(
            "/v1/default-route",
            put(routes::set_default).merge(delete(routes::unset_default)),
        )
        .route("/v1/pools", get(pools::list))
        .route("/v1/pools/{id}", get(pools::show))
        .route("/v1/sandboxes", get(sandboxes::list))
        .route("/v1/sandboxes/{id}", get(sandboxes::show))
        .route("/v1/sandboxes/{id}/stop", post(sandboxes::stop))
        .route("/v1/disks", get(disks::list))
        .route("/v1/disks/{app}/{name}", get(disks::show).delete(disks::delete))
        .route("/v1/disks/{app}/{name}/grow", post(disks::grow))
        .route("/v1/disks/{app}/{name}/snapshot", post(disks::snapshot))
        .route("/v1/sandboxes/{id}/exec", post(exec::run))
        .route("/v1/logs", get(logs::stream))
        .route("/v1/node", get(node::show))
        .route("/v1/node/events", get(node::events))
        .route("/v1/node/cordon", post(node::cordon))
        .route("/v1/node/uncordon", post(node::uncordon))
        .route("/v1/node/drain", post(node::drain))
        .route("/v1/node/undrain", post(node::undrain))
        .route("/v1/fastpath", get(fastpath::show))
        .route("/v1/fastpath/events", get(fastpath::events))
}

fn for_proxies() -> Router<Server> {
    Router::new()
        .route("/v1/proxy/stream", get(proxies::stream))
        .route("/v1/proxy/ack", post(proxies::acknowledge))
        .route("/v1/leases/acquire", post(proxies::acquire))
        .route("/v1/leases/renew", post(proxies::renew))
        .route("/v1/leases/release", post(proxies::release))
}

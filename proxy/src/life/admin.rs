//! The admin listener: metrics, and whether the proxy lives and is ready. It has few places of its own, which silent
//! connections give up to new ones.

use crate::life::gate::Gate;
use crate::listen::{Connection, House, Next, Place, Server, listen};
use crate::metrics::Metrics;
use crate::routing::Routing;
use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::watch;

/// Admin connections at once. Those who scrape have one each.
const PLACES: usize = 64;
/// Time for a request's head, for its first byte, and between two requests: longer than the usual minute of a scraper.
const PATIENCE: Duration = Duration::from_secs(90);
/// Largest head, and what is buffered of an answer at once.
const BUFFER: usize = 16 << 10;

/// What the admin pages show.
#[derive(Clone, Debug)]
pub struct Admin {
    pub metrics: Arc<Metrics>,
    pub routing: Arc<Routing>,
    pub gate: Arc<Gate>,
}

impl Admin {
    /// Serves until the task is dropped.
    ///
    /// # Errors
    /// When the listener cannot be used.
    pub async fn serve(self, listener: TcpListener) -> std::io::Result<()> {
        let pages = Arc::new(Pages(self.router()));
        let (_until_dropped, stop) = watch::channel(false);
        listen(vec![listener], House::uncounted(PLACES), pages, stop)?.await?;
        Ok(())
    }

    fn router(self) -> Router {
        let metrics = Arc::clone(&self.metrics);
        Router::new()
            .route(
                "/metrics",
                get(async move || {
                    metrics
                        .text()
                        .map_err(|error| (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
                }),
            )
            .route("/healthz", get(async || "ok\n"))
            .route("/readyz", get(async move || self.ready()))
    }

    fn ready(&self) -> (StatusCode, &'static str) {
        if self.gate.is_closing() {
            (StatusCode::SERVICE_UNAVAILABLE, "stopping\n")
        } else if self.routing.table().is_none() {
            (StatusCode::SERVICE_UNAVAILABLE, "no routing snapshot yet\n")
        } else {
            (StatusCode::OK, "ready\n")
        }
    }
}

struct Pages(Router);

impl Server for Pages {
    fn serve(self: &Arc<Self>, connection: Connection) {
        let router = self.0.clone();
        miren_log::spawn("an admin connection", async move {
            let Connection { stream, place, .. } = connection;
            tokio::select! {
                () = answer(stream, &place, router) => {}
                // A page takes no time: whoever is here long reads slowly or not at all.
                () = place.needed() => {}
            }
        });
    }
}

async fn answer(stream: TcpStream, place: &Place, router: Router) {
    if place.next(&stream, PATIENCE).await != Next::Request {
        return;
    }
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    if let Err(error) = served.await {
        tracing::debug!(%error, "an admin connection broke off");
    }
}

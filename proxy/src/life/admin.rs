//! The admin listener: metrics, and whether the proxy lives and is ready. It has few places of its own, which silent
//! connections give up to new ones.

use crate::life::phase::Phase;
use crate::life::upgrade::Successors;
use crate::listen::{Connection, Door, House, Next, Place, Server, listen};
use crate::metrics::Metrics;
use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::net::{SocketAddr, TcpListener};
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
    pub phase: watch::Receiver<Phase>,
    pub successors: Successors,
}

impl Admin {
    /// Serves until the task is dropped; or until a successor does, at the same address.
    ///
    /// # Errors
    /// When the listener cannot be used.
    pub async fn serve(self, listener: TcpListener) -> std::io::Result<()> {
        let own = listener.local_addr()?;
        let (shut, door) = watch::channel(Door::Open);
        let pages = Arc::new(Pages {
            door: door.clone(),
            router: self.clone().router(),
        });
        let listening = listen(vec![listener], House::uncounted(PLACES), pages, door)?;
        let mut successors = self.successors;
        let is_anothers = |taken: &Option<Vec<SocketAddr>>| matches!(taken, Some(taken) if taken.contains(&own));
        match successors.wait_for(is_anothers).await.map(|taken| taken.clone()) {
            Ok(taken) => shut.send_replace(Door::Left(taken.unwrap_or_default())),
            Err(_) => std::future::pending().await,
        };
        listening.await?;
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
        match *self.phase.borrow() {
            Phase::Boot => (StatusCode::SERVICE_UNAVAILABLE, "no routing snapshot yet\n"),
            Phase::Serving => (StatusCode::OK, "ready\n"),
            Phase::LameDuck => (StatusCode::SERVICE_UNAVAILABLE, "stopping soon\n"),
            Phase::Draining | Phase::Forced | Phase::Exit => (StatusCode::SERVICE_UNAVAILABLE, "stopping\n"),
        }
    }
}

struct Pages {
    router: Router,
    /// Kept connections go with the listener.
    door: watch::Receiver<Door>,
}

impl Server for Pages {
    fn serve(self: &Arc<Self>, connection: Connection) {
        let (router, mut door) = (self.router.clone(), self.door.clone());
        miren_log::spawn("an admin connection", async move {
            let Connection { stream, place, .. } = connection;
            tokio::select! {
                () = answer(stream, &place, router, &mut door) => {}
                // A page takes no time: whoever is here long reads slowly or not at all.
                () = place.needed() => {}
            }
        });
    }
}

async fn answer(stream: TcpStream, place: &Place, router: Router, door: &mut watch::Receiver<Door>) {
    if place.next(&stream, PATIENCE).await != Next::Request {
        return;
    }
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut served = std::pin::pin!(served);
    let shut = async {
        let _ = door.wait_for(|door| *door != Door::Open).await;
    };
    let ended = tokio::select! {
        ended = &mut served => Some(ended),
        () = shut => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        // Whoever scrapes goes on with the successor, on a new connection.
        None => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "an admin connection broke off");
    }
}

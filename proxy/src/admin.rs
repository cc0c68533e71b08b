//! The admin listener: metrics, and whether the proxy lives and is ready.

use crate::gate::Gate;
use crate::metrics::Metrics;
use crate::routing::Routing;
use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use std::net::TcpListener;
use std::sync::Arc;

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
        listener.set_nonblocking(true)?;
        let metrics = Arc::clone(&self.metrics);
        let app = Router::new()
            .route(
                "/metrics",
                get(async move || {
                    metrics
                        .text()
                        .map_err(|error| (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
                }),
            )
            .route("/healthz", get(async || "ok\n"))
            .route("/readyz", get(async move || self.ready()));
        axum::serve(tokio::net::TcpListener::from_std(listener)?, app).await
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

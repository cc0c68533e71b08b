//! Decides what control says about itself.

use super::Server;
use super::refusal::Refusal;
use crate::control::Phase;
use axum::Json;
use axum::extract::State;
use miren_api::resource::ServerVersion;
use miren_api::{ApiError, ErrorCode};

/// The process answers.
#[utoipa::path(get, path = "/healthz", tag = "daemon", responses((status = 200, description = "It answers.")))]
pub async fn alive() -> &'static str {
    "ok\n"
}

/// Changes are taken.
#[utoipa::path(get, path = "/readyz", tag = "daemon",
    responses((status = 200, description = "Changes are taken."), (status = 503, body = miren_api::error::ErrorBody)))]
pub async fn ready(State(server): State<Server>) -> Result<&'static str, Refusal> {
    match *server.control.phase.borrow() {
        Phase::Active => Ok("ready\n"),
        Phase::Starting => Err(ApiError::new(ErrorCode::Starting, "control is still taking over what runs").into()),
        Phase::Quiescing => Err(ApiError::new(ErrorCode::Draining, "control is stopping").into()),
    }
}

/// What runs on the node.
#[utoipa::path(get, path = "/v1/version", tag = "daemon", responses((status = 200, body = ServerVersion)))]
pub async fn version(State(server): State<Server>) -> Json<ServerVersion> {
    Json(ServerVersion {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        node: server.node.clone(),
    })
}

//! Decides what is said about the node, and how it is cordoned and drained.

use super::Server;
use super::extract::Body;
use super::refusal::Refusal;
use axum::Json;
use axum::extract::State;
use axum::response::Sse;
use axum::response::sse::{Event, KeepAlive};
use futures_util::{Stream, StreamExt, stream};
use miren_api::node::{DrainRequest, NodeStatus};
use std::convert::Infallible;
use std::time::Duration;

/// How often numbers are told that change without an event: requests in flight, above all.
const TELL_AGAIN: Duration = Duration::from_secs(1);

/// The node: whether it takes work, and how far its drain is.
#[utoipa::path(get, path = "/v1/node", tag = "node", responses((status = 200, body = NodeStatus)))]
pub async fn show(State(server): State<Server>) -> Json<NodeStatus> {
    Json(server.control.node.status())
}

/// Follows the node: an event `node` at once, at each change while it drains, and each second.
#[utoipa::path(get, path = "/v1/node/events", tag = "node",
    responses((status = 200, content_type = "text/event-stream", body = NodeStatus)))]
pub async fn events(State(server): State<Server>) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let ending = server.ending.clone().cancelled_owned();
    let changes = server.control.node.follow();
    let later = stream::unfold((server.clone(), changes), async |(server, mut changes)| {
        let changed = tokio::time::timeout(TELL_AGAIN, changes.changed()).await;
        // Nobody writes any more: control ends.
        changed.unwrap_or(Ok(())).ok()?;
        Some((server.control.node.status(), (server, changes)))
    });
    let now = stream::iter([server.control.node.status()]);
    let told = now
        .chain(later)
        .filter_map(async |status| Event::default().event("node").json_data(status).ok());
    Sse::new(told.map(Ok).take_until(ending)).keep_alive(KeepAlive::default())
}

/// Takes no new deploys, previews and runs from now on; what runs goes on.
#[utoipa::path(post, path = "/v1/node/cordon", tag = "node", responses((status = 200, body = NodeStatus)))]
pub async fn cordon(State(server): State<Server>) -> Result<Json<NodeStatus>, Refusal> {
    Ok(Json(server.control.node.cordon(true).await?))
}

/// Takes new deploys, previews and runs again.
#[utoipa::path(post, path = "/v1/node/uncordon", tag = "node",
    responses((status = 200, body = NodeStatus), (status = 409, body = miren_api::error::ErrorBody)))]
pub async fn uncordon(State(server): State<Server>) -> Result<Json<NodeStatus>, Refusal> {
    Ok(Json(server.control.node.cordon(false).await?))
}

/// Drains the node; answers when that has begun. Asked again, it may only become shorter, or be forced.
#[utoipa::path(post, path = "/v1/node/drain", tag = "node", request_body = DrainRequest,
    responses((status = 200, body = NodeStatus), (status = 400, body = miren_api::error::ErrorBody)))]
pub async fn drain(
    State(server): State<Server>,
    Body(request): Body<DrainRequest>,
) -> Result<Json<NodeStatus>, Refusal> {
    Ok(Json(server.control.node.drain(request).await?))
}

/// Takes work again. What has begun to end ends, and is replaced.
#[utoipa::path(post, path = "/v1/node/undrain", tag = "node",
    responses((status = 200, body = NodeStatus), (status = 409, body = miren_api::error::ErrorBody)))]
pub async fn undrain(State(server): State<Server>) -> Result<Json<NodeStatus>, Refusal> {
    Ok(Json(server.control.node.undrain().await?))
}

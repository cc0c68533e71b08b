//! Decides how previews are asked for, shown, given more time and ended.

use super::Server;
use super::deploys::{idempotency_key, parse_app, read_folder};
use super::extract::{Body, Parameters};
use super::page::{Paging, page};
use super::refusal::Refusal;
use crate::app::preview::no_such_preview;
use crate::app::{Command, PreviewOrder};
use crate::output::Output;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Sse;
use axum::response::sse::{Event, KeepAlive};
use futures_util::{Stream, stream};
use miren_api::deploy::OutputLine;
use miren_api::ephemeral::{Ephemeral, EphemeralDeployed, EphemeralRequest, ExtendRequest, parse_label, parse_ttl};
use miren_api::id::AppName;
use miren_api::resource::Page;
use miren_api::{ApiError, ErrorCode};
use std::convert::Infallible;
use std::sync::Arc;

/// Makes a version that is reached under a label, and answers when it can be. The active version is not touched; the version
/// that has the label serves on until the new one is ready.
#[utoipa::path(post, path = "/v1/apps/{app}/ephemeral", tag = "ephemeral",
    params(("app" = String, Path), ("idempotency-key" = Option<String>, Header,
        description = "The same key and body mean the same preview. What happens meanwhile is at /v1/progress/{key}.")),
    request_body = EphemeralRequest,
    responses((status = 200, body = EphemeralDeployed), (status = 400, body = miren_api::error::ErrorBody),
        (status = 409, body = miren_api::error::ErrorBody), (status = 503, body = miren_api::error::ErrorBody)))]
pub async fn create(
    State(server): State<Server>,
    Path(app): Path<String>,
    headers: HeaderMap,
    Body(request): Body<EphemeralRequest>,
) -> Result<Json<EphemeralDeployed>, Refusal> {
    let app = parse_app(&app)?;
    let key = idempotency_key(&headers)?;
    let policy = &server.policy.previews;
    let label = parse_label(&request.label)?;
    let ttl = match &request.ttl {
        Some(ttl) => parse_ttl(ttl, policy.longest_ttl)?,
        None => policy.ttl,
    };
    let read = match &request.artifact {
        Some(artifact) => Some(read_folder(&server, artifact, request.image.clone()).await?),
        None => None,
    };
    let order = Box::new(PreviewOrder {
        label,
        ttl,
        request,
        key,
        read,
    });
    let apps = &server.apps;
    let making = apps.ask(&app, |reply| Command::Preview { order, reply });
    tokio::select! {
        made = making => Ok(Json(made?)),
        () = server.ending.cancelled() => {
            Err(ApiError::new(ErrorCode::Draining, "control is stopping").retry_after(1).into())
        }
    }
}

/// The previews of an app that can be reached, by label.
#[utoipa::path(get, path = "/v1/apps/{app}/ephemeral", tag = "ephemeral", params(("app" = String, Path), Paging),
    responses((status = 200, body = Page<Ephemeral>), (status = 404, body = miren_api::error::ErrorBody)))]
pub async fn list(
    State(server): State<Server>,
    Path(app): Path<String>,
    Parameters(paging): Parameters<Paging>,
) -> Result<Json<Page<Ephemeral>>, Refusal> {
    let previews = live(&server, &app)?;
    Ok(Json(page(
        previews,
        |preview: &Ephemeral| preview.label.to_string(),
        &paging,
    )))
}

/// Those whose time is not over.
fn live(server: &Server, app: &str) -> Result<Vec<Ephemeral>, ApiError> {
    let view = server.apps.get(app)?.view.borrow().clone();
    let (table, now) = (server.routing.now().table, server.clock.wall());
    let live = table.labels_of(&view.name).filter(|route| now < route.expires_at);
    Ok(live
        .filter_map(|route| view.ephemeral(route, &table, &server.policy.urls))
        .collect())
}

/// One preview.
#[utoipa::path(get, path = "/v1/apps/{app}/ephemeral/{label}", tag = "ephemeral",
    params(("app" = String, Path), ("label" = String, Path)),
    responses((status = 200, body = Ephemeral), (status = 404, body = miren_api::error::ErrorBody)))]
pub async fn show(
    State(server): State<Server>,
    Path((app, label)): Path<(String, String)>,
) -> Result<Json<Ephemeral>, Refusal> {
    let label = parse_label(&label)?;
    let mut previews = live(&server, &app)?.into_iter();
    let found = previews.find(|preview| preview.label == label);
    Ok(Json(
        found.ok_or_else(|| no_such_preview(&AppName::from_text(app), &label))?,
    ))
}

/// Ends a preview: from now on it is unroutable, and what it runs drains.
#[utoipa::path(delete, path = "/v1/apps/{app}/ephemeral/{label}", tag = "ephemeral",
    params(("app" = String, Path), ("label" = String, Path)),
    responses((status = 200, body = Ephemeral), (status = 404, body = miren_api::error::ErrorBody)))]
pub async fn delete(
    State(server): State<Server>,
    Path((app, label)): Path<(String, String)>,
) -> Result<Json<Ephemeral>, Refusal> {
    let label = parse_label(&label)?;
    let unlabel = |reply| Command::Unlabel { label, reply };
    Ok(Json(server.apps.ask(&AppName::from_text(app), unlabel).await?))
}

/// Gives a preview more time, from now on.
#[utoipa::path(post, path = "/v1/apps/{app}/ephemeral/{label}/extend", tag = "ephemeral",
    params(("app" = String, Path), ("label" = String, Path)), request_body = ExtendRequest,
    responses((status = 200, body = Ephemeral), (status = 400, body = miren_api::error::ErrorBody),
        (status = 404, body = miren_api::error::ErrorBody), (status = 409, body = miren_api::error::ErrorBody)))]
pub async fn extend(
    State(server): State<Server>,
    Path((app, label)): Path<(String, String)>,
    Body(ExtendRequest { ttl }): Body<ExtendRequest>,
) -> Result<Json<Ephemeral>, Refusal> {
    let label = parse_label(&label)?;
    let ttl = parse_ttl(&ttl, server.policy.previews.longest_ttl)?;
    let extend = |reply| Command::Extend { label, ttl, reply };
    Ok(Json(server.apps.ask(&AppName::from_text(app), extend).await?))
}

/// Follows what a request for a preview leads to: events `output` (`OutputLine`), from the first line that is kept to the end
/// of its making. May be asked for before the request is sent.
#[utoipa::path(get, path = "/v1/progress/{key}", tag = "ephemeral",
    params(("key" = String, Path, description = "The Idempotency-Key of the request.")),
    responses((status = 200, content_type = "text/event-stream", body = OutputLine)))]
pub async fn progress(
    State(server): State<Server>,
    Path(key): Path<String>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Refusal> {
    super::deploys::check_key(&key)?;
    let output = server.outputs.open(&key);
    let lines = stream::unfold((output.base, output), next_line);
    let ending = server.ending.clone().cancelled_owned();
    Ok(Sse::new(futures_util::StreamExt::take_until(lines, ending)).keep_alive(KeepAlive::default()))
}

async fn next_line((last, output): (u64, Arc<Output>)) -> Option<(Result<Event, Infallible>, (u64, Arc<Output>))> {
    loop {
        if let Some(line) = output.after(last) {
            let event = Event::default().event("output").json_data(&line).ok()?;
            return Some((Ok(event), (line.number, output)));
        }
        tokio::select! {
            biased;
            () = output.beyond(last) => {}
            () = output.ended() => return None,
        }
    }
}

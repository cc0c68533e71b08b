//! Decides what is said about sandboxes, and how one is stopped.

use super::Server;
use super::extract::Parameters;
use super::page::{Paging, by_prefix, page};
use super::refusal::Refusal;
use crate::app::{AppView, Command};
use axum::Json;
use axum::extract::{Path, State};
use miren_api::resource::{Page, Sandbox, SandboxState};
use miren_api::{ApiError, ErrorCode};
use serde::Deserialize;
use std::sync::Arc;
use utoipa::IntoParams;

/// Which sandboxes.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Filter {
    /// Only those in this state, in either case.
    pub state: Option<String>,
    /// Only this app's.
    pub app: Option<String>,
    /// `next` of the page before.
    pub after: Option<String>,
    /// At most this many items.
    pub limit: Option<usize>,
}

const STATES: [SandboxState; 6] = [
    SandboxState::Pending,
    SandboxState::Running,
    SandboxState::Draining,
    SandboxState::Stopping,
    SandboxState::Stopped,
    SandboxState::Dead,
];

fn parse_state(text: &str) -> Result<SandboxState, ApiError> {
    let found = STATES
        .into_iter()
        .find(|state| state.as_str().eq_ignore_ascii_case(text));
    found.ok_or_else(|| {
        let names: Vec<&str> = STATES.iter().map(|state| state.as_str()).collect();
        ApiError::new(ErrorCode::InvalidValue, format!("{text:?} is no state of a sandbox"))
            .field("state")
            .remedy(format!("use one of {}", names.join(", ")))
    })
}

/// Every sandbox; ended ones for an hour.
#[utoipa::path(get, path = "/v1/sandboxes", tag = "sandboxes", params(Filter),
    responses((status = 200, body = Page<Sandbox>), (status = 400, body = miren_api::error::ErrorBody)))]
pub async fn list(
    State(server): State<Server>,
    Parameters(filter): Parameters<Filter>,
) -> Result<Json<Page<Sandbox>>, Refusal> {
    let state = filter.state.as_deref().map(parse_state).transpose()?;
    let views = server.apps.views();
    let of_app = |view: &&Arc<AppView>| filter.app.as_deref().is_none_or(|app| view.name.as_str() == app);
    let found = views.iter().filter(of_app).flat_map(|view| view.sandboxes.iter());
    let found = found.filter(|sandbox| state.is_none_or(|state| sandbox.state == state));
    let mut sandboxes: Vec<Sandbox> = found.cloned().collect();
    sandboxes.sort_by(|a, b| a.id.cmp(&b.id));
    let paging = Paging {
        after: filter.after,
        limit: filter.limit,
    };
    Ok(Json(page(
        sandboxes,
        |sandbox: &Sandbox| sandbox.id.to_string(),
        &paging,
    )))
}

/// The only sandbox whose id begins like that.
pub fn find(server: &Server, given: &str) -> Result<Sandbox, ApiError> {
    let views = server.apps.views();
    let like = views.iter().flat_map(|view| view.sandboxes.beginning_with(given));
    by_prefix(
        like.cloned().collect(),
        |sandbox: &Sandbox| sandbox.id.as_str(),
        "sandbox",
        given,
    )
}

/// One sandbox, by its id or the beginning of it.
#[utoipa::path(get, path = "/v1/sandboxes/{id}", tag = "sandboxes", params(("id" = String, Path)),
    responses((status = 200, body = Sandbox), (status = 404, body = miren_api::error::ErrorBody),
        (status = 409, body = miren_api::error::ErrorBody)))]
pub async fn show(State(server): State<Server>, Path(id): Path<String>) -> Result<Json<Sandbox>, Refusal> {
    Ok(Json(find(&server, &id)?))
}

/// Drains a sandbox and stops it; its pool starts another one.
#[utoipa::path(post, path = "/v1/sandboxes/{id}/stop", tag = "sandboxes", params(("id" = String, Path)),
    responses((status = 200, body = Sandbox), (status = 404, body = miren_api::error::ErrorBody),
        (status = 409, body = miren_api::error::ErrorBody)))]
pub async fn stop(State(server): State<Server>, Path(id): Path<String>) -> Result<Json<Sandbox>, Refusal> {
    let Sandbox { id, app, .. } = find(&server, &id)?;
    let stop = |reply| Command::StopSandbox { id, reply };
    Ok(Json(server.apps.ask(&app, stop).await?))
}

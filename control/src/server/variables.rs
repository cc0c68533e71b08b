//! Decides what is said about an app's environment variables.

use super::Server;
use super::extract::Parameters;
use super::page::{Paging, page};
use super::refusal::Refusal;
use crate::app::spec;
use crate::app::variables::Variables;
use axum::Json;
use axum::extract::{Path, State};
use miren_api::deploy::Variable;
use miren_api::id::AppName;
use miren_api::resource::Page;
use miren_api::{ApiError, ErrorCode};

/// The variables of an app's active version, by name. Those that the system sets (`PORT`, `MIREN_*`) are not among them.
#[utoipa::path(get, path = "/v1/apps/{app}/env", tag = "deploys", params(("app" = String, Path), Paging),
    responses((status = 200, body = Page<Variable>), (status = 404, body = miren_api::error::ErrorBody)))]
pub async fn list(
    State(server): State<Server>,
    Path(app): Path<String>,
    Parameters(paging): Parameters<Paging>,
) -> Result<Json<Page<Variable>>, Refusal> {
    server.apps.get(&app)?;
    let routed = server.routing.now();
    let Some(active) = routed.active(&AppName::from_text(&app)) else {
        return Ok(Json(page(Vec::new(), place, &paging)));
    };
    let version = server.reads.version(active).await?.ok_or_else(|| {
        ApiError::new(
            ErrorCode::Internal,
            format!("the record of version {active} is missing"),
        )
    })?;
    let own = spec::load(server.artifacts.folder(), &version.content, Variables::default())
        .await?
        .services;
    let mut listed = version.variables.list(&own);
    listed.sort_by_key(place);
    Ok(Json(page(listed, place, &paging)))
}

/// What a list of variables is sorted and continued by.
fn place(variable: &Variable) -> String {
    format!("{}={}", variable.name, variable.service.as_deref().unwrap_or_default())
}

//! Decides what is said about pools.

use super::Server;
use super::extract::Parameters;
use super::page::{Paging, by_prefix, page};
use super::refusal::Refusal;
use axum::Json;
use axum::extract::{Path, State};
use miren_api::resource::{Page, Pool};
use serde::Deserialize;
use utoipa::IntoParams;

/// Which pools.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Filter {
    /// Only this app's.
    pub app: Option<String>,
    /// `next` of the page before.
    pub after: Option<String>,
    /// At most this many items.
    pub limit: Option<usize>,
}

fn all(server: &Server) -> Vec<Pool> {
    let views = server.apps.views();
    let pools = views.iter().flat_map(|view| view.pools.values());
    pools.map(|view| view.pool.clone()).collect()
}

/// Every pool, or one app's.
#[utoipa::path(get, path = "/v1/pools", tag = "pools", params(Filter), responses((status = 200, body = Page<Pool>)))]
pub async fn list(State(server): State<Server>, Parameters(filter): Parameters<Filter>) -> Json<Page<Pool>> {
    let mut pools = all(&server);
    pools.retain(|pool| filter.app.as_deref().is_none_or(|app| pool.app.as_str() == app));
    pools.sort_by(|a, b| a.id.cmp(&b.id));
    let paging = Paging {
        after: filter.after,
        limit: filter.limit,
    };
    Json(page(pools, |pool: &Pool| pool.id.to_string(), &paging))
}

/// One pool, by its id or the beginning of it.
#[utoipa::path(get, path = "/v1/pools/{id}", tag = "pools", params(("id" = String, Path)),
    responses((status = 200, body = Pool), (status = 404, body = miren_api::error::ErrorBody),
        (status = 409, body = miren_api::error::ErrorBody)))]
pub async fn show(State(server): State<Server>, Path(id): Path<String>) -> Result<Json<Pool>, Refusal> {
    Ok(Json(by_prefix(
        all(&server),
        |pool: &Pool| pool.id.as_str(),
        "pool",
        &id,
    )?))
}

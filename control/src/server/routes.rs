//! Decides how hosts are led to apps.

use super::Server;
use super::extract::{Body, Parameters};
use super::page::{Paging, page};
use super::refusal::Refusal;
use crate::app::AppView;
use crate::routing::{Change, DEFAULT_HOST, RoutingError};
use axum::Json;
use axum::extract::{Path, State};
use miren_api::app_file::WEB;
use miren_api::host::parse_route_host;
use miren_api::id::check_label;
use miren_api::resource::{Page, Route, RouteRequest};
use miren_api::{ApiError, ErrorCode};
use std::collections::BTreeSet;

impl From<RoutingError> for ApiError {
    fn from(error: RoutingError) -> Self {
        let code = match error {
            RoutingError::Superseded { .. } => ErrorCode::Superseded,
            RoutingError::NoRoute { .. } => ErrorCode::NotFound,
            RoutingError::Derived { .. } => ErrorCode::Conflict,
            RoutingError::Store(_) | RoutingError::Stopped => ErrorCode::Internal,
        };
        let told = Self::new(code, format!("changing routes: {error}"));
        match error {
            RoutingError::Derived { host, app } => told.field("host").remedy(format!(
                "miren route set {host} {app} makes it a route like any other; to another app it leads there instead"
            )),
            _ => told,
        }
    }
}

fn parse_host(host: &str) -> Result<String, ApiError> {
    parse_route_host(host).map_err(|why| {
        ApiError::new(ErrorCode::InvalidValue, format!("host {host:?} {why}"))
            .field("host")
            .remedy("write it like shop.example.com or *.example.com")
    })
}

/// The host of a route that is there, perhaps: `(default)` is that of the default route.
pub(super) fn named(host: &str) -> Result<String, ApiError> {
    match host {
        DEFAULT_HOST => Ok(DEFAULT_HOST.to_owned()),
        host => parse_host(host),
    }
}

pub(super) fn known(server: &Server, host: &str) -> Result<Route, ApiError> {
    let routed = server.routing.now();
    let found = routed.table.get(host).cloned();
    found.ok_or_else(|| match host {
        DEFAULT_HOST => ApiError::new(ErrorCode::NotFound, "there is no default route"),
        host => super::refusal::not_found("route", host),
    })
}

async fn put_route(server: &Server, host: String, request: RouteRequest) -> Result<Json<Route>, Refusal> {
    let view = server.apps.get(&request.app)?.view.borrow().clone();
    let service = request.service.unwrap_or_else(|| WEB.to_owned());
    check_label(&service)
        .map_err(|why| ApiError::new(ErrorCode::InvalidValue, format!("service {service:?} {why}")).field("service"))?;
    check_service(server, &view, &service)?;
    let route = Route {
        default: host == DEFAULT_HOST,
        wildcard: host.starts_with("*."),
        derived: false,
        timeout_ms: None,
        maintenance: None,
        host: host.clone(),
        app: view.name.clone(),
        service,
    };
    server.routing.submit(Change::SetRoute(route)).await?;
    Ok(Json(known(server, &host)?))
}

/// A route to a service that the active version does not have would lead nowhere.
fn check_service(server: &Server, view: &AppView, service: &str) -> Result<(), ApiError> {
    let routed = server.routing.now();
    let Some(active) = routed.active(&view.name) else {
        return Ok(());
    };
    let pools = view.pools.values().map(|view| &view.pool);
    let of_active = pools.filter(|pool| pool.versions.contains(active));
    let services: BTreeSet<&str> = of_active.map(|pool| pool.service.as_str()).collect();
    if services.is_empty() || services.contains(service) {
        return Ok(());
    }
    let has = services.into_iter().collect::<Vec<_>>().join(", ");
    let message = format!("app {} has no service {service:?}; it has {has}", view.name);
    Err(ApiError::new(ErrorCode::InvalidValue, message).field("service"))
}

async fn take_route(server: &Server, host: String) -> Result<Json<Route>, Refusal> {
    let route = known(server, &host)?;
    if route.derived {
        return Err(ApiError::from(RoutingError::Derived { host, app: route.app }).into());
    }
    server.routing.submit(Change::RemoveRoute(host)).await?;
    Ok(Json(route))
}

/// Every route, the default one included, and the hosts that apps have by their name.
#[utoipa::path(get, path = "/v1/routes", tag = "routes", params(Paging), responses((status = 200, body = Page<Route>)))]
pub async fn list(State(server): State<Server>, Parameters(paging): Parameters<Paging>) -> Json<Page<Route>> {
    let routed = server.routing.now();
    let routes = routed.table.routes().into_iter().cloned().collect();
    Json(page(routes, |route: &Route| route.host.clone(), &paging))
}

/// One route.
#[utoipa::path(get, path = "/v1/routes/{host}", tag = "routes", params(("host" = String, Path)),
    responses((status = 200, body = Route), (status = 404, body = miren_api::error::ErrorBody)))]
pub async fn show(State(server): State<Server>, Path(host): Path<String>) -> Result<Json<Route>, Refusal> {
    Ok(Json(known(&server, &named(&host)?)?))
}

/// Leads a host to an app that exists.
#[utoipa::path(put, path = "/v1/routes/{host}", tag = "routes", params(("host" = String, Path)), request_body = RouteRequest,
    responses((status = 200, body = Route), (status = 400, body = miren_api::error::ErrorBody),
        (status = 404, body = miren_api::error::ErrorBody)))]
pub async fn set(
    State(server): State<Server>,
    Path(host): Path<String>,
    Body(request): Body<RouteRequest>,
) -> Result<Json<Route>, Refusal> {
    put_route(&server, parse_host(&host)?, request).await
}

/// Removes a route that was set; answers what it was.
#[utoipa::path(delete, path = "/v1/routes/{host}", tag = "routes", params(("host" = String, Path)),
    responses((status = 200, body = Route), (status = 404, body = miren_api::error::ErrorBody),
        (status = 409, body = miren_api::error::ErrorBody)))]
pub async fn remove(State(server): State<Server>, Path(host): Path<String>) -> Result<Json<Route>, Refusal> {
    take_route(&server, parse_host(&host)?).await
}

/// Leads every host without a route to an app that exists.
#[utoipa::path(put, path = "/v1/default-route", tag = "routes", request_body = RouteRequest,
    responses((status = 200, body = Route), (status = 404, body = miren_api::error::ErrorBody)))]
pub async fn set_default(
    State(server): State<Server>,
    Body(request): Body<RouteRequest>,
) -> Result<Json<Route>, Refusal> {
    put_route(&server, DEFAULT_HOST.to_owned(), request).await
}

/// Removes the default route; answers what it was.
#[utoipa::path(delete, path = "/v1/default-route", tag = "routes",
    responses((status = 200, body = Route), (status = 404, body = miren_api::error::ErrorBody)))]
pub async fn unset_default(State(server): State<Server>) -> Result<Json<Route>, Refusal> {
    take_route(&server, DEFAULT_HOST.to_owned()).await
}

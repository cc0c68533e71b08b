//! Decides how a route is taken down and up again, and how long its app may take.

use super::Server;
use super::extract::Body;
use super::refusal::Refusal;
use super::routes::{known, named};
use crate::routing::{Change, Setting};
use axum::Json;
use axum::extract::{Path, State};
use miren_api::resource::{Maintenance, Route, RouteTimeout};
use miren_api::settings::parse_duration;
use miren_api::{ApiError, ErrorCode};
use std::time::Duration;

/// Shortest and longest time that an app may be given for the beginning of an answer.
const TIMEOUT: (Duration, Duration) = (Duration::from_millis(1), Duration::from_secs(3600));

async fn settle(server: &Server, host: &str, what: Setting) -> Result<Json<Route>, Refusal> {
    let host = named(host)?;
    let change = Change::Settle {
        host: host.clone(),
        what,
    };
    server.routing.submit(change).await?;
    Ok(Json(known(server, &host)?))
}

/// Turns requests to a route away: 503 with `Retry-After`. Previews below its host are served on.
#[utoipa::path(put, path = "/v1/routes/{host}/maintenance", tag = "routes",
    params(("host" = String, Path, description = "`(default)`: the default route.")), request_body = Maintenance,
    responses((status = 200, body = Route), (status = 400, body = miren_api::error::ErrorBody),
        (status = 404, body = miren_api::error::ErrorBody)))]
pub async fn take_down(
    State(server): State<Server>,
    Path(host): Path<String>,
    Body(maintenance): Body<Maintenance>,
) -> Result<Json<Route>, Refusal> {
    if !(1..=Maintenance::RETRY_MAX).contains(&maintenance.retry_after) {
        let message = format!(
            "retry_after is {}, not 1 to {} seconds",
            maintenance.retry_after,
            Maintenance::RETRY_MAX
        );
        return Err(ApiError::new(ErrorCode::InvalidValue, message)
            .field("retry_after")
            .into());
    }
    settle(&server, &host, Setting::Maintenance(Some(maintenance))).await
}

/// Serves a route again; one that is up stays so.
#[utoipa::path(delete, path = "/v1/routes/{host}/maintenance", tag = "routes", params(("host" = String, Path)),
    responses((status = 200, body = Route), (status = 404, body = miren_api::error::ErrorBody)))]
pub async fn bring_up(State(server): State<Server>, Path(host): Path<String>) -> Result<Json<Route>, Refusal> {
    settle(&server, &host, Setting::Maintenance(None)).await
}

/// Limits how long a route's app may take to begin an answer, in place of the proxy's own limit.
#[utoipa::path(put, path = "/v1/routes/{host}/timeout", tag = "routes", params(("host" = String, Path)),
    request_body = RouteTimeout,
    responses((status = 200, body = Route), (status = 400, body = miren_api::error::ErrorBody),
        (status = 404, body = miren_api::error::ErrorBody)))]
pub async fn set_timeout(
    State(server): State<Server>,
    Path(host): Path<String>,
    Body(RouteTimeout { timeout }): Body<RouteTimeout>,
) -> Result<Json<Route>, Refusal> {
    let refused = |why: String| {
        let error = ApiError::new(ErrorCode::InvalidValue, format!("timeout {why}")).field("timeout");
        error.remedy("write it like \"5s\", from 1ms to 1h")
    };
    let time = parse_duration(&timeout).map_err(refused)?;
    if time < TIMEOUT.0 || time > TIMEOUT.1 {
        return Err(refused(format!("{timeout:?} is not within 1ms and 1h")).into());
    }
    let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    settle(&server, &host, Setting::TimeoutMs(Some(millis))).await
}

/// Lets the proxy's own limit hold again.
#[utoipa::path(delete, path = "/v1/routes/{host}/timeout", tag = "routes", params(("host" = String, Path)),
    responses((status = 200, body = Route), (status = 404, body = miren_api::error::ErrorBody)))]
pub async fn clear_timeout(State(server): State<Server>, Path(host): Path<String>) -> Result<Json<Route>, Refusal> {
    settle(&server, &host, Setting::TimeoutMs(None)).await
}

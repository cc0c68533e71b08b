//! Decides how the API describes itself.

use super::{
    apps, artifacts, deploys, disks, exec, fastpath, following, health, logs, node, pools, previews, proxies, routes,
    runs, sandboxes, settings, variables,
};
use axum::Json;
use utoipa::OpenApi;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "miren-control",
        description = "The control API, on a Unix socket. Errors are `{\"error\": {\"code\", \"message\", \"remedy\", \"field\"}}`."
    ),
    paths(
        health::alive,
        health::ready,
        health::version,
        apps::list,
        apps::show,
        apps::delete,
        apps::versions,
        artifacts::upload,
        artifacts::upload_image,
        deploys::create,
        deploys::list,
        deploys::show,
        following::events,
        deploys::rollback,
        deploys::restart,
        deploys::cancel,
        previews::create,
        previews::list,
        previews::show,
        previews::delete,
        previews::extend,
        previews::progress,
        variables::list,
        routes::list,
        routes::show,
        routes::set,
        routes::remove,
        routes::set_default,
        routes::unset_default,
        settings::take_down,
        settings::bring_up,
        settings::set_timeout,
        settings::clear_timeout,
        pools::list,
        pools::show,
        sandboxes::list,
        sandboxes::show,
        sandboxes::stop,
        runs::create,
        runs::list,
        disks::list,
        disks::show,
        disks::delete,
        disks::grow,
        disks::snapshot,
        exec::run,
        logs::stream,
        node::show,
        node::events,
        node::cordon,
        node::uncordon,
        node::drain,
        node::undrain,
        fastpath::show,
        fastpath::events,
        proxies::stream,
        proxies::acknowledge,
        proxies::acquire,
        proxies::renew,
        proxies::release,
    ),
    components(schemas(
        miren_api::identity::Identity,
        miren_api::routing::RoutingDelta,
        miren_api::routing::PoolChanged,
        miren_api::routing::SandboxHint
    ))
)]
struct Api;

/// The document, as it is committed in `docs/openapi.json`.
pub fn document() -> String {
    let text = Api::openapi()
        .to_pretty_json()
        .unwrap_or_else(|error| format!("{{\"error\": \"{error}\"}}"));
    format!("{text}\n")
}

pub async fn serve() -> Json<utoipa::openapi::OpenApi> {
    Json(Api::openapi())
}

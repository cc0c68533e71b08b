//! Decides what is said about disks, and what may be done to them.

use super::Server;
use super::extract::{Body, Parameters};
use super::page::{Paging, page};
use super::refusal::Refusal;
use axum::Json;
use axum::extract::{Path, State};
use miren_api::app_file::DISK_GB_MAX;
use miren_api::id::AppName;
use miren_api::resource::{DeletedDisk, Disk, GrowRequest, Page, SnapshotRequest};
use miren_api::{ApiError, ErrorCode};
use serde::Deserialize;
use utoipa::IntoParams;

/// Which disks.
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

impl Server {
    fn disks(&self) -> &dyn crate::executor::Disks {
        self.executor.disks()
    }
}

/// Every disk, or one app's; also those of apps that are gone.
#[utoipa::path(get, path = "/v1/disks", tag = "disks", params(Filter), responses((status = 200, body = Page<Disk>)))]
pub async fn list(
    State(server): State<Server>,
    Parameters(filter): Parameters<Filter>,
) -> Result<Json<Page<Disk>>, Refusal> {
    let mut disks = server.disks().list().await?;
    let key = |disk: &Disk| format!("{}.{}", disk.app, disk.name);
    disks.retain(|disk| filter.app.as_deref().is_none_or(|app| disk.app.as_str() == app));
    disks.sort_by_key(key);
    let paging = Paging {
        after: filter.after,
        limit: filter.limit,
    };
    Ok(Json(page(disks, key, &paging)))
}

/// One disk.
#[utoipa::path(get, path = "/v1/disks/{app}/{name}", tag = "disks", params(("app" = String, Path), ("name" = String, Path)),
    responses((status = 200, body = Disk), (status = 404, body = miren_api::error::ErrorBody)))]
pub async fn show(
    State(server): State<Server>,
    Path((app, name)): Path<(String, String)>,
) -> Result<Json<Disk>, Refusal> {
    Ok(Json(server.disks().get(&AppName::from_text(app), &name).await?))
}

/// Deletes a disk with all that is on it. One that a sandbox has is refused.
#[utoipa::path(delete, path = "/v1/disks/{app}/{name}", tag = "disks", params(("app" = String, Path), ("name" = String, Path)),
    responses((status = 200, body = DeletedDisk), (status = 404, body = miren_api::error::ErrorBody),
        (status = 409, body = miren_api::error::ErrorBody)))]
pub async fn delete(
    State(server): State<Server>,
    Path((app, name)): Path<(String, String)>,
) -> Result<Json<DeletedDisk>, Refusal> {
    let app = AppName::from_text(app);
    server.disks().delete(&app, &name).await?;
    Ok(Json(DeletedDisk {
        name,
        app,
        deleted: true,
    }))
}

/// Makes a disk larger, also while a sandbox has it.
#[utoipa::path(post, path = "/v1/disks/{app}/{name}/grow", tag = "disks", params(("app" = String, Path), ("name" = String, Path)),
    request_body = GrowRequest,
    responses((status = 200, body = Disk), (status = 400, body = miren_api::error::ErrorBody),
        (status = 404, body = miren_api::error::ErrorBody), (status = 409, body = miren_api::error::ErrorBody)))]
pub async fn grow(
    State(server): State<Server>,
    Path((app, name)): Path<(String, String)>,
    Body(request): Body<GrowRequest>,
) -> Result<Json<Disk>, Refusal> {
    let size = request.size_gb;
    if !(1..=DISK_GB_MAX).contains(&size) {
        let message = format!("size_gb is {size}, outside 1 to {DISK_GB_MAX}");
        return Err(ApiError::new(ErrorCode::InvalidValue, message).field("size_gb").into());
    }
    Ok(Json(server.disks().grow(&AppName::from_text(app), &name, size).await?))
}

/// Makes a new disk of the same app with what is on this one at one moment, also while a sandbox writes to it.
#[utoipa::path(post, path = "/v1/disks/{app}/{name}/snapshot", tag = "disks",
    params(("app" = String, Path), ("name" = String, Path)), request_body = SnapshotRequest,
    responses((status = 200, body = Disk), (status = 400, body = miren_api::error::ErrorBody),
        (status = 404, body = miren_api::error::ErrorBody), (status = 409, body = miren_api::error::ErrorBody)))]
pub async fn snapshot(
    State(server): State<Server>,
    Path((app, name)): Path<(String, String)>,
    Body(request): Body<SnapshotRequest>,
) -> Result<Json<Disk>, Refusal> {
    let app = AppName::from_text(app);
    Ok(Json(server.disks().snapshot(&app, &name, &request.name).await?))
}

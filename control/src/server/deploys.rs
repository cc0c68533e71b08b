//! Decides how deploys are asked for and followed.

use super::Server;
use super::extract::{Body, Parameters};
use super::page::{Paging, by_prefix, page};
use super::refusal::Refusal;
use crate::app::{Command, DeployOrder, spec};
use crate::artifact;
use crate::record::{Asked, DeployRecord, Settings};
use crate::routing::Routed;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use miren_api::deploy::{Deploy, DeployRequest, DeployStatus, RollbackRequest};
use miren_api::id::{AppName, VersionId};
use miren_api::resource::Page;
use miren_api::{ApiError, ErrorCode};
use std::collections::BTreeSet;

/// Longest `Idempotency-Key`.
const KEY_MAX: usize = 128;

/// Asks for a deploy; it goes on whether or not anybody watches.
#[utoipa::path(post, path = "/v1/apps/{app}/deploys", tag = "deploys",
    params(("app" = String, Path), ("idempotency-key" = Option<String>, Header, description = "The same key and body mean the same deploy.")),
    request_body = DeployRequest,
    responses((status = 200, body = Deploy), (status = 400, body = miren_api::error::ErrorBody),
        (status = 409, body = miren_api::error::ErrorBody)))]
pub async fn create(
    State(server): State<Server>,
    Path(app): Path<String>,
    headers: HeaderMap,
    Body(request): Body<DeployRequest>,
) -> Result<Json<Deploy>, Refusal> {
    let app = parse_app(&app)?;
    let key = idempotency_key(&headers)?.map(|key| Asked::deploy(key, &request));
    if let Some(earlier) = earlier(&server, &app, key.as_ref()).await? {
        return Ok(Json(earlier));
    }
    let read = match &request.artifact {
        Some(artifact) => Some(read_folder(&server, artifact, request.image.clone()).await?),
        None => None,
    };
    let order = DeployOrder {
        request,
        read,
        restart: false,
    };
    let deploy = |reply| Command::Deploy { order, key, reply };
    Ok(Json(server.apps.ask(&app, deploy).await?))
}

/// The deploy that the same key asked for before, whatever has become of what it named.
async fn earlier(server: &Server, app: &AppName, asked: Option<&Asked>) -> Result<Option<Deploy>, ApiError> {
    let Some(asked) = asked.cloned() else {
        return Ok(None);
    };
    let earlier = |reply| Command::Earlier { asked, reply };
    match server.apps.ask(app, earlier).await {
        Err(error) if error.code == ErrorCode::NotFound => Ok(None),
        answer => answer,
    }
}

/// Lets an earlier version serve again; a deploy like any other.
#[utoipa::path(post, path = "/v1/apps/{app}/rollback", tag = "deploys",
    params(("app" = String, Path), ("idempotency-key" = Option<String>, Header, description = "The same key and body mean the same deploy.")),
    request_body = RollbackRequest,
    responses((status = 200, body = Deploy), (status = 404, body = miren_api::error::ErrorBody),
        (status = 409, body = miren_api::error::ErrorBody)))]
pub async fn rollback(
    State(server): State<Server>,
    Path(app): Path<String>,
    headers: HeaderMap,
    Body(RollbackRequest { to }): Body<RollbackRequest>,
) -> Result<Json<Deploy>, Refusal> {
    let key = idempotency_key(&headers)?.map(|key| Asked::rollback(key, &to));
    server.apps.get(&app)?;
    let app = AppName::from_text(&app);
    if let Some(earlier) = earlier(&server, &app, key.as_ref()).await? {
        return Ok(Json(earlier));
    }
    let routed = server.routing.now();
    let version = match to {
        Some(version) if Some(&version) == routed.active(&app) => {
            let message = format!("version {version} is the one that serves {app}");
            return Err(ApiError::new(ErrorCode::Conflict, message).field("to").into());
        }
        Some(version) => version,
        None => before(&server, &app, &routed).await?,
    };
    let request = DeployRequest {
        version: Some(version),
        ..DeployRequest::default()
    };
    let order = request.into();
    let deploy = |reply| Command::Deploy { order, key, reply };
    Ok(Json(server.apps.ask(&app, deploy).await?))
}

/// Replaces every sandbox of what serves by a new one; a deploy like any other.
#[utoipa::path(post, path = "/v1/apps/{app}/restart", tag = "deploys",
    params(("app" = String, Path), ("idempotency-key" = Option<String>, Header, description = "The same key means the same restart.")),
    responses((status = 200, body = Deploy), (status = 404, body = miren_api::error::ErrorBody),
        (status = 409, body = miren_api::error::ErrorBody)))]
pub async fn restart(
    State(server): State<Server>,
    Path(app): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Deploy>, Refusal> {
    let key = idempotency_key(&headers)?.map(Asked::restart);
    server.apps.get(&app)?;
    let restart = |reply| Command::Restart { key, reply };
    Ok(Json(server.apps.ask(&AppName::from_text(app), restart).await?))
}

/// The version that served before the active one.
async fn before(server: &Server, app: &AppName, routed: &Routed) -> Result<VersionId, ApiError> {
    let deploys = server.reads.deploys(app).await?;
    let versions = server.reads.versions(app).await?;
    let kept: BTreeSet<VersionId> = versions.into_iter().map(|version| version.id).collect();
    let (installed, active) = (routed.installed(app), routed.active(app));
    let served = deploys
        .into_iter()
        .map(|record| record.deploy)
        .filter(|deploy| deploy.status == DeployStatus::Succeeded && deploy.seq < installed)
        .filter(|deploy| deploy.version.as_ref() != active)
        .filter(|deploy| deploy.version.as_ref().is_some_and(|version| kept.contains(version)));
    let last = served.max_by_key(|deploy| deploy.seq).and_then(|deploy| deploy.version);
    last.ok_or_else(|| {
        let message = format!("no version of {app} served before the active one");
        ApiError::new(ErrorCode::NotFound, message).remedy(format!("miren app versions -a {app}"))
    })
}

/// Calls a deploy off that has not switched traffic.
#[utoipa::path(post, path = "/v1/deploys/{id}/cancel", tag = "deploys", params(("id" = String, Path)),
    responses((status = 200, body = Deploy), (status = 404, body = miren_api::error::ErrorBody),
        (status = 409, body = miren_api::error::ErrorBody)))]
pub async fn cancel(State(server): State<Server>, Path(id): Path<String>) -> Result<Json<Deploy>, Refusal> {
    let Deploy { id, app, .. } = find(&server, &id).await?;
    let cancel = |reply| Command::Cancel { id, reply };
    Ok(Json(server.apps.ask(&app, cancel).await?))
}

pub(super) fn parse_app(app: &str) -> Result<AppName, ApiError> {
    AppName::parse(app)
        .map_err(|why| ApiError::new(ErrorCode::InvalidValue, format!("app name {app:?} {why}")).field("app"))
}

pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let Some(value) = headers.get("idempotency-key") else {
        return Ok(None);
    };
    let key = value.to_str().unwrap_or_default();
    check_key(key).map(|()| Some(key.to_owned()))
}

pub(super) fn check_key(key: &str) -> Result<(), ApiError> {
    if (1..=KEY_MAX).contains(&key.len()) {
        return Ok(());
    }
    let message = format!("Idempotency-Key must have 1 to {KEY_MAX} visible characters");
    Err(ApiError::new(ErrorCode::InvalidValue, message).field("idempotency-key"))
}

/// B1: everything that can be wrong with a folder is said before anything is made, the app included.
pub(super) async fn read_folder(
    server: &Server,
    artifact: &str,
    image: Option<String>,
) -> Result<Box<Settings>, ApiError> {
    let artifacts = server.artifacts.clone();
    let digest = artifact.to_owned();
    let reading = tokio::task::spawn_blocking(move || {
        if !artifacts.has(&digest) {
            let message = format!("there is no artifact {digest:?}");
            return Err(ApiError::new(ErrorCode::NotFound, message)
                .field("artifact")
                .remedy("upload the folder with POST /v1/artifacts and use the digest it answers"));
        }
        let folder = artifact::folder(artifacts.folder(), &digest);
        spec::read(Some(&folder), image.as_deref()).map(Box::new)
    });
    let failed = |error| ApiError::new(ErrorCode::Internal, format!("reading the folder: {error}"));
    reading.await.map_err(failed)?
}

/// Every deploy of an app, ended ones included, by number.
#[utoipa::path(get, path = "/v1/apps/{app}/deploys", tag = "deploys", params(("app" = String, Path), Paging),
    responses((status = 200, body = Page<Deploy>), (status = 404, body = miren_api::error::ErrorBody)))]
pub async fn list(
    State(server): State<Server>,
    Path(app): Path<String>,
    Parameters(paging): Parameters<Paging>,
) -> Result<Json<Page<Deploy>>, Refusal> {
    server.apps.get(&app)?;
    let records = server.reads.deploys(&AppName::from_text(app)).await?;
    let mut deploys: Vec<Deploy> = records.into_iter().map(|record| shown(&server, record)).collect();
    deploys.sort_by_key(|deploy| deploy.seq);
    Ok(Json(page(
        deploys,
        |deploy: &Deploy| format!("{:020}", deploy.seq),
        &paging,
    )))
}

/// With what it said last, while that is news.
fn shown(server: &Server, record: DeployRecord) -> Deploy {
    let mut deploy = record.deploy;
    if matches!(deploy.status, DeployStatus::Accepted | DeployStatus::Staging) {
        deploy.progress = server.outputs.last(&deploy.id);
    }
    deploy
}

pub(super) async fn find(server: &Server, given: &str) -> Result<Deploy, ApiError> {
    let found = server.reads.deploys_like(given).await?;
    let deploys = found.into_iter().map(|record| shown(server, record)).collect();
    by_prefix(deploys, |deploy: &Deploy| deploy.id.as_str(), "deploy", given)
}

/// One deploy, by its id or the beginning of it.
#[utoipa::path(get, path = "/v1/deploys/{id}", tag = "deploys", params(("id" = String, Path)),
    responses((status = 200, body = Deploy), (status = 404, body = miren_api::error::ErrorBody),
        (status = 409, body = miren_api::error::ErrorBody)))]
pub async fn show(State(server): State<Server>, Path(id): Path<String>) -> Result<Json<Deploy>, Refusal> {
    Ok(Json(find(&server, &id).await?))
}

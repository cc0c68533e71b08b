//! Decides how a command is run once in a sandbox of its own, how its client speaks with it, and what is told of it afterwards.

use super::Server;
use super::deploys::parse_app;
use super::extract::{Body, Parameters};
use super::page::{Paging, page};
use super::refusal::Refusal;
use super::speaking::{Status, kept, switching};
use crate::app::{AppView, Begun, CLIENT_GONE, Command};
use axum::Json;
use axum::extract::{FromRequest, Path, Request, State};
use axum::http::HeaderValue;
use axum::response::{IntoResponse, Response};
use hyper::upgrade::OnUpgrade;
use miren_api::id::SandboxId;
use miren_api::resource::Page;
use miren_api::run::{RUN_HEADER, Run, RunRequest, RunStatus};
use miren_api::{ApiError, ErrorCode};
use miren_sandbox::Streams;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot, watch};

/// Runs a command once, in a sandbox of its own of the active version. With `detach` the answer is the run, which goes on. Otherwise the
/// header `miren-run` names it, the connection becomes one of `miren-exec`, as for a command in a sandbox, and the run ends with it.
#[utoipa::path(post, path = "/v1/apps/{app}/runs", tag = "runs", params(("app" = String, Path)),
    request_body = RunRequest,
    responses((status = 101, description = "It runs"), (status = 200, body = Run),
        (status = 400, body = miren_api::error::ErrorBody), (status = 404, body = miren_api::error::ErrorBody),
        (status = 503, body = miren_api::error::ErrorBody)))]
pub async fn create(
    State(server): State<Server>,
    Path(app): Path<String>,
    mut request: Request,
) -> Result<Response, Refusal> {
    let app = parse_app(&app)?;
    let upgrade = request.extensions_mut().remove::<OnUpgrade>();
    let Body(request) = Body::<RunRequest>::from_request(request, &()).await?;
    let upgrade = match request.detach {
        true => None,
        false => Some(kept(upgrade)?),
    };
    let Begun { run, streams } = server.apps.ask(&app, |reply| Command::Run { request, reply }).await?;
    match upgrade.zip(streams) {
        None => Ok(Json(run).into_response()),
        Some((upgrade, streams)) => attach(&server, run, streams, upgrade).await,
    }
}

/// Waits until it is there, and lets its client speak with it.
async fn attach(
    server: &Server,
    Run { id, app, .. }: Run,
    streams: oneshot::Receiver<Streams>,
    upgrade: OnUpgrade,
) -> Result<Response, Refusal> {
    let handle = server.apps.get(app.as_str())?;
    let ends = Ends(Some((handle.commands.clone(), id.clone())));
    let mut view = handle.view.clone();
    let Ok(streams) = streams.await else {
        let run = until(&mut view, &id, |run| run.status.is_final()).await?;
        let why = run.reason.unwrap_or_else(|| "nobody can tell why".to_owned());
        return Err(ApiError::new(ErrorCode::BootFailed, format!("run {id} did not begin: {why}")).into());
    };
    let ended = status(view, id.clone());
    server.converse(upgrade, streams, ended, async move { drop(ends) });
    let mut response = switching();
    let name =
        HeaderValue::from_str(id.as_str()).map_err(|error| ApiError::new(ErrorCode::Internal, error.to_string()))?;
    response.headers_mut().insert(RUN_HEADER, name);
    Ok(response)
}

/// Ends a run when this is dropped: by whom it was asked for has gone, or has heard how it ended.
struct Ends(Option<(mpsc::Sender<Command>, SandboxId)>);

impl Drop for Ends {
    fn drop(&mut self) {
        let Some((commands, id)) = self.0.take() else { return };
        miren_log::spawn("the end of a run", async move {
            let why = CLIENT_GONE;
            // A task that is gone has no runs any more.
            let _ = commands.send(Command::EndRun { id, why }).await;
        });
    }
}

/// Waits until a run is as it is wanted.
async fn until(
    view: &mut watch::Receiver<Arc<AppView>>,
    id: &SandboxId,
    is_wanted: impl Fn(&Run) -> bool,
) -> Result<Run, ApiError> {
    let of = |view: &AppView| view.runs.iter().find(|run| run.id == *id).cloned();
    let found = view.wait_for(|view| of(view).is_none_or(|run| is_wanted(&run))).await;
    let found = found.ok().and_then(|view| of(&view));
    found.ok_or_else(|| ApiError::new(ErrorCode::NotFound, format!("there is no run {id} any more")))
}

async fn status(mut view: watch::Receiver<Arc<AppView>>, id: SandboxId) -> Status {
    let run = until(&mut view, &id, |run| run.status.is_final()).await;
    let run = run.map_err(|error| error.message)?;
    match (run.status, run.exit_code) {
        (RunStatus::Succeeded | RunStatus::Failed, Some(code)) => Ok(code),
        _ => Err(run.reason.unwrap_or_else(|| "nobody can tell how it ended".to_owned())),
    }
}

/// The runs of an app, those that have ended included: the newest fifty, for a week.
#[utoipa::path(get, path = "/v1/apps/{app}/runs", tag = "runs", params(("app" = String, Path), Paging),
    responses((status = 200, body = Page<Run>), (status = 404, body = miren_api::error::ErrorBody)))]
pub async fn list(
    State(server): State<Server>,
    Path(app): Path<String>,
    Parameters(paging): Parameters<Paging>,
) -> Result<Json<Page<Run>>, Refusal> {
    let runs = server.apps.get(&app)?.view.borrow().runs.clone();
    Ok(Json(page(runs, |run: &Run| run.id.to_string(), &paging)))
}

//! Decides what is said about apps and their versions, and how one is deleted.

use super::Server;
use super::extract::Parameters;
use super::page::{Paging, page};
use super::refusal::Refusal;
use crate::app::{AppView, Command};
use crate::record::VersionRecord;
use axum::Json;
use axum::extract::{Path, State};
use miren_api::id::AppName;
use miren_api::resource::{App, Page, Route, Version, VersionStatus};
use serde::Deserialize;
use utoipa::IntoParams;

impl Server {
    /// An app as its task and routing see it.
    pub(super) fn app(&self, view: &AppView) -> App {
        let routed = self.routing.now();
        let hosts = routed.table.hosts_of(&view.name);
        let set = hosts.filter_map(|host| routed.table.settled(host));
        let routes: Vec<&Route> = set.chain(routed.table.derived_of(&view.name)).collect();
        let urls = self.policy.urls.of_app(&routed.table, &view.name);
        view.app(routed.active(&view.name), &routes, urls)
    }
}

/// Every app.
#[utoipa::path(get, path = "/v1/apps", tag = "apps", params(Paging), responses((status = 200, body = Page<App>)))]
pub async fn list(State(server): State<Server>, Parameters(paging): Parameters<Paging>) -> Json<Page<App>> {
    let apps = server.apps.views().iter().map(|view| server.app(view)).collect();
    Json(page(apps, |app: &App| app.name.to_string(), &paging))
}

/// One app.
#[utoipa::path(get, path = "/v1/apps/{app}", tag = "apps", params(("app" = String, Path)),
    responses((status = 200, body = App), (status = 404, body = miren_api::error::ErrorBody)))]
pub async fn show(State(server): State<Server>, Path(app): Path<String>) -> Result<Json<App>, Refusal> {
    let view = server.apps.get(&app)?.view.borrow().clone();
    Ok(Json(server.app(&view)))
}

/// What goes with an app.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Deletion {
    /// Its disks stay; an app of the same name has them again.
    #[serde(default)]
    pub keep_disks: bool,
}

/// Deletes an app: its routes go, its sandboxes drain, then its disks and its records are removed. Answers once they drain.
#[utoipa::path(delete, path = "/v1/apps/{app}", tag = "apps", params(("app" = String, Path), Deletion),
    responses((status = 200, body = App), (status = 404, body = miren_api::error::ErrorBody)))]
pub async fn delete(
    State(server): State<Server>,
    Path(app): Path<String>,
    Parameters(Deletion { keep_disks }): Parameters<Deletion>,
) -> Result<Json<App>, Refusal> {
    let app = AppName::from_text(app);
    let delete = |reply| Command::Delete { keep_disks, reply };
    Ok(Json(server.apps.ask(&app, delete).await?))
}

/// Every version of an app.
#[utoipa::path(get, path = "/v1/apps/{app}/versions", tag = "apps", params(("app" = String, Path), Paging),
    responses((status = 200, body = Page<Version>), (status = 404, body = miren_api::error::ErrorBody)))]
pub async fn versions(
    State(server): State<Server>,
    Path(app): Path<String>,
    Parameters(paging): Parameters<Paging>,
) -> Result<Json<Page<Version>>, Refusal> {
    let view = server.apps.get(&app)?.view.borrow().clone();
    let name = view.name.clone();
    let (routed, now) = (server.routing.now(), server.clock.wall());
    let records = server.reads.versions(&name).await?;
    let version = |record: VersionRecord| {
        let pool = view.main_pool(&record);
        let label = record.preview.map(|preview| preview.label);
        let route = label
            .as_ref()
            .and_then(|label| routed.table.label_of(&name, label.as_str()));
        let live = route.filter(|route| route.version == record.id && now < route.expires_at);
        Version {
            status: match live {
                Some(_) => VersionStatus::Ephemeral,
                None if Some(&record.id) == routed.active(&name) => VersionStatus::Active,
                None => VersionStatus::Replaced,
            },
            pool,
            version: record.id,
            app: record.app,
            label: label.map(|label| label.to_string()),
            expires_at: live.map(|route| route.expires_at),
            created_at: record.created_at,
        }
    };
    let versions = records.into_iter().map(version).collect();
    Ok(Json(page(
        versions,
        |version: &Version| version.version.to_string(),
        &paging,
    )))
}

//! `miren app`: what is deployed or could be, how it is doing, and its end.

use crate::args::AppOptions;
use crate::failure::{Doing, Failure};
use crate::table::{Cell, Table, Tone, or_dash};
use crate::{Context, ago, app_folder, paths, prompt};
use clap::Subcommand;
use miren_api::resource::{App, Health, Pool, Version, VersionStatus};
use miren_api::{AppName, app_file, reference};
use serde::Serialize;

mod validate;

#[derive(Debug, Subcommand)]
pub enum AppVerb {
    /// All apps
    List,
    /// The versions of an app, newest first
    Versions(AppOptions),
    /// How an app is doing
    Status(AppOptions),
    /// Check the settings in an app's folder, and show what would run; no server is asked
    Validate(validate::ValidateOptions),
    /// Print every key of app.toml, for the generated documentation
    #[command(hide = true)]
    Reference,
    /// Delete an app with its routes, versions, sandboxes and disks
    Delete {
        name: String,
        /// Keep its disks; an app of the same name has them again
        #[arg(long)]
        keep_disks: bool,
        /// Do not ask
        #[arg(short, long)]
        force: bool,
    },
}

#[derive(Serialize)]
struct Status {
    #[serde(flatten)]
    app: App,
    pools: Vec<Pool>,
}

#[derive(Serialize)]
struct Deleted {
    name: AppName,
    deleted: bool,
}

impl AppVerb {
    /// Whether it asks the server for anything.
    pub fn asks(&self) -> bool {
        !matches!(self, Self::Validate(_) | Self::Reference)
    }
}

pub async fn run(verb: AppVerb, context: &mut Context<'_>) -> Result<(), Failure> {
    match verb {
        AppVerb::List => {
            let apps: Vec<App> = context
                .client()?
                .list(paths::APPS)
                .await
                .doing(|| "listing apps".into())?;
            context.console.list(&apps, "apps", table(&apps))
        }
        AppVerb::Versions(options) => {
            let name = app_folder::resolve(&options)?;
            let path = paths::of_app(name.as_str(), "versions");
            let mut versions: Vec<Version> = context
                .client()?
                .list(&path)
                .await
                .doing(|| format!("listing versions of {name}"))?;
            versions.sort_by_key(|version| std::cmp::Reverse(version.created_at));
            context.console.list(&versions, "versions", versions_table(&versions))
        }
        AppVerb::Status(options) => status(&app_folder::resolve(&options)?, context).await,
        AppVerb::Validate(options) => validate::run(&options, context.console),
        AppVerb::Reference => context
            .console
            .line(reference::settings(&app_file::reference()).trim_end()),
        AppVerb::Delete {
            name,
            keep_disks,
            force,
        } => delete(&app_folder::parse_name(&name)?, keep_disks, force, context).await,
    }
}

async fn status(name: &AppName, context: &mut Context<'_>) -> Result<(), Failure> {
    let client = context.client()?;
    let what = || format!("showing app {name}");
    let app: App = client.get(&paths::of(paths::APPS, name.as_str())).await.doing(what)?;
    let pools: Vec<Pool> = client.list(paths::POOLS).await.doing(what)?;
    let status = Status {
        app,
        pools: pools.into_iter().filter(|pool| pool.app == *name).collect(),
    };
    context.console.thing(&status, &fields(&status))
}

async fn delete(name: &AppName, keep_disks: bool, force: bool, context: &mut Context<'_>) -> Result<(), Failure> {
    if !force && !confirmed(name, keep_disks).await? {
        return Err(Failure::failed(format!("app {name} was not deleted")).code("not_confirmed"));
    }
    let kept = keep_disks.then(|| "true".to_owned());
    let path = paths::with_query(&paths::of(paths::APPS, name.as_str()), &[("keep_disks", kept)]);
    let _app: serde_json::Value = context
        .client()?
        .delete(&path)
        .await
        .doing(|| format!("deleting app {name}"))?;
    context.console.done(
        &Deleted {
            name: name.clone(),
            deleted: true,
        },
        &format!("Deleted app {name}"),
    )
}

/// Without a terminal there is nobody to ask, so `-f` is needed.
async fn confirmed(name: &AppName, keep_disks: bool) -> Result<bool, Failure> {
    let remedy = format!("miren app delete {name} -f");
    prompt::attended(&format!("deleting app {name} needs a yes"), &remedy)?;
    let what = if keep_disks {
        "versions and sandboxes"
    } else {
        "versions, sandboxes and disks"
    };
    prompt::yes(&format!("Delete app {name} with its routes, {what}?")).await
}

fn table(apps: &[App]) -> Table {
    let mut table = Table::new(&["name", "version", "status", "route"]);
    for app in apps {
        let routes = if app.routes.is_empty() {
            "-".to_owned()
        } else {
            app.routes.join(", ")
        };
        table.row(vec![
            app.name.as_str().into(),
            or_dash(app.version.as_ref()).into(),
            health(app),
            routes.into(),
        ]);
    }
    table
}

fn health(app: &App) -> Cell {
    let numbers = format!("{}/{}", app.ready, app.desired);
    match app.health {
        Health::Unknown => Cell::from("-"),
        Health::Idle => Cell::from("idle"),
        Health::Healthy => Cell::toned(format!("healthy {numbers}"), Tone::Good),
        Health::Starting => Cell::toned(format!("starting {numbers}"), Tone::Waiting),
        Health::Degraded => Cell::toned(format!("degraded {numbers}"), Tone::Waiting),
        Health::Crashed => Cell::toned("crashed", Tone::Bad),
    }
}

fn versions_table(versions: &[Version]) -> Table {
    let mut table = Table::new(&["version", "status", "label", "created", "expires", "pool"]);
    for version in versions {
        let status = match version.status {
            VersionStatus::Active => Cell::toned("active", Tone::Good),
            VersionStatus::Ephemeral => Cell::toned("ephemeral", Tone::Waiting),
            VersionStatus::Replaced => Cell::from("replaced"),
        };
        table.row(vec![
            version.version.as_str().into(),
            status,
            or_dash(version.label.as_ref()).into(),
            ago::since(Some(version.created_at)).into(),
            or_dash(version.expires_at.as_ref()).into(),
            or_dash(version.pool.as_ref()).into(),
        ]);
    }
    table
}

fn fields(status: &Status) -> Vec<(&'static str, String)> {
    let app = &status.app;
    let health = serde_json::to_value(app.health)
        .ok()
        .and_then(|word| word.as_str().map(str::to_owned));
    let mut fields = vec![
        ("App", app.name.to_string()),
        ("Version", or_dash(app.version.as_ref())),
        ("Health", or_dash(health.as_ref())),
        ("Sandboxes", format!("{} ready, {} desired", app.ready, app.desired)),
        (
            "Routes",
            if app.routes.is_empty() {
                "-".to_owned()
            } else {
                app.routes.join(", ")
            },
        ),
    ];
    for pool in &status.pools {
        let crashes = if pool.crash_count > 0 {
            format!(", {} crashes", pool.crash_count)
        } else {
            String::new()
        };
        fields.push((
            "Pool",
            format!(
                "{} ({}): {} ready, {} desired{crashes}",
                pool.id, pool.service, pool.ready, pool.desired
            ),
        ));
        if let Some(why) = &pool.last_crash {
            fields.push(("Last crash", why.clone()));
        }
    }
    fields
}

//! `miren app`: what is deployed or could be, how it is doing, and its end.

use crate::failure::{Doing, Exit, Failure};
use crate::options::AppOptions;
use crate::table::{Cell, Table, Tone, or_dash};
use crate::{Context, ago, app_folder, paths, prompt};
use clap::{Args, Subcommand};
use miren_api::resource::{App, Health, Version, VersionStatus};
use miren_api::{AppName, app_file, reference};
use serde::Serialize;

mod restart;
mod run;
mod status;
#[cfg(test)]
mod tests;
mod validate;

#[derive(Debug, Subcommand)]
pub enum AppVerb {
    /// All apps
    List,
    /// The versions of an app, newest first
    Versions(VersionsOptions),
    /// How an app is doing: its health, where it is reached, what runs, what was deployed last
    Status(AppOptions),
    /// Replace every sandbox of what serves by a new one, as a deploy does; previews are left alone
    Restart(restart::RestartOptions),
    /// Run a command once, in a sandbox of its own of the active version, and end as it ends
    Run(run::RunOptions),
    /// Commands that were run once, and how they ended; newest first
    Runs(AppOptions),
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

#[derive(Debug, Args)]
pub struct VersionsOptions {
    #[command(flatten)]
    app: AppOptions,
    /// Only those that are reached under a label until they expire
    #[arg(long)]
    ephemeral: bool,
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

pub async fn run(verb: AppVerb, context: &mut Context<'_>) -> Result<Exit, Failure> {
    match verb {
        AppVerb::Restart(options) => return restart::run(options, context).await,
        AppVerb::Run(options) => return run::run(options, context).await,
        AppVerb::Runs(options) => run::list(&options, context).await?,
        AppVerb::List => {
            let apps: Vec<App> = context
                .client()?
                .list(paths::APPS)
                .await
                .doing(|| "listing apps".into())?;
            context.console.list(&apps, "apps", table(&apps))?;
        }
        AppVerb::Versions(options) => versions(&options, context).await?,
        AppVerb::Status(options) => status::run(&app_folder::resolve(&options)?, context).await?,
        AppVerb::Validate(options) => validate::run(&options, context.console)?,
        AppVerb::Reference => context
            .console
            .line(reference::settings(&app_file::reference()).trim_end())?,
        AppVerb::Delete {
            name,
            keep_disks,
            force,
        } => delete(&app_folder::parse_name(&name)?, keep_disks, force, context).await?,
    }
    Ok(Exit::Done)
}

async fn versions(options: &VersionsOptions, context: &mut Context<'_>) -> Result<(), Failure> {
    let name = app_folder::resolve(&options.app)?;
    let path = paths::of_app(name.as_str(), "versions");
    let answer = context.client()?.list(&path).await;
    let mut versions: Vec<Version> = answer.doing(|| format!("listing versions of {name}"))?;
    versions.sort_by_key(|version| std::cmp::Reverse(version.created_at));
    let mut things = "versions";
    if options.ephemeral {
        versions.retain(|version| version.status == VersionStatus::Ephemeral);
        things = "ephemeral versions";
    }
    context.console.list(&versions, things, versions_table(&versions))
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
    let mut table = Table::new(&["name", "version", "status", "route"])
        .cut(&["route"])
        .lists(&["route"])
        .leave(&["version", "route"]);
    for app in apps {
        table.row(vec![
            app.name.as_str().into(),
            or_dash(app.version.as_ref()).into(),
            health(app),
            status::joined(&app.routes, ", ").into(),
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
    let mut table = Table::new(&["version", "status", "label", "created", "expires", "pool"])
        .leave(&["pool", "created", "expires", "label", "status"]);
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
            ago::left(version.expires_at).into(),
            or_dash(version.pool.as_ref()).into(),
        ]);
    }
    table
}

//! `miren env`: the environment variables of an app. Any number of changes is one new version, deployed as any other.

use super::deploy::outcome::{self, Watch};
use crate::asking::Change;
use crate::failure::{Doing, Exit, Failure};
use crate::options::AppOptions;
use crate::table::Table;
use crate::{Context, app_folder, paths, prompt, variable};
use assignment::Assignment;
use clap::{Args, Subcommand};
use known::Known;
use miren_api::deploy::{DeployRequest, Variable, VariableSource};
use miren_api::{AppName, Client, app_file};
use serde::Serialize;
use std::collections::BTreeMap;

mod assignment;
mod known;
mod mask;

#[derive(Debug, Subcommand)]
pub enum EnvVerb {
    /// Set variables: one new version for all of them
    Set(SetOptions),
    /// Print the value of one variable
    Get(GetOptions),
    /// The variables of an app, those of its app.toml included
    List(ListOptions),
    /// Take variables away: one new version for all of them
    Delete(DeleteOptions),
}

/// Which app, and whether all of it.
#[derive(Debug, Args)]
struct Scope {
    #[command(flatten)]
    app: AppOptions,
    /// Only this service; otherwise every service
    #[arg(short = 'S', long, value_name = "NAME", value_parser = variable::service)]
    service: Option<String>,
}

#[derive(Debug, Args)]
pub struct SetOptions {
    #[command(flatten)]
    scope: Scope,
    /// KEY=@FILE takes a file's content, KEY=@@TEXT is @TEXT itself, KEY alone asks for the value
    #[arg(value_name = "KEY=VALUE", required_unless_present = "env", value_parser = assignment::parse)]
    variables: Vec<Assignment>,
    /// The same, as with miren deploy
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = assignment::parse)]
    env: Vec<Assignment>,
}

#[derive(Debug, Args)]
pub struct GetOptions {
    #[command(flatten)]
    scope: Scope,
    #[arg(value_parser = app_file::check_variable)]
    key: String,
}

#[derive(Debug, Args)]
pub struct ListOptions {
    #[command(flatten)]
    app: AppOptions,
    /// Show whole what looks like a secret
    #[arg(long)]
    unmask: bool,
}

#[derive(Debug, Args)]
pub struct DeleteOptions {
    #[command(flatten)]
    scope: Scope,
    #[arg(value_name = "KEY", required = true, value_parser = app_file::check_variable)]
    keys: Vec<String>,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
}

/// Values by name, for the services of a [`Scope`]; none takes a variable away.
type Values = BTreeMap<String, Option<String>>;

#[derive(Serialize)]
struct Unchanged {
    app: AppName,
    changed: bool,
}

pub async fn run(verb: EnvVerb, context: &mut Context<'_>) -> Result<Exit, Failure> {
    match verb {
        EnvVerb::Set(options) => set(options, context).await,
        EnvVerb::Get(options) => get(options, context).await.map(|()| Exit::Done),
        EnvVerb::List(options) => list(options, context).await.map(|()| Exit::Done),
        EnvVerb::Delete(options) => delete(options, context).await,
    }
}

async fn set(options: SetOptions, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let app = app_folder::resolve(&options.scope.app)?;
    let service = options.scope.service;
    let given = options.variables.into_iter().chain(options.env).collect();
    let values = assignment::values(given).await?;
    let client = context.client()?;
    let known = known(&client, &app).await?;
    if values
        .iter()
        .all(|(name, value)| known.manual(name, service.as_deref()) == Some(value))
    {
        let unchanged = Unchanged { app, changed: false };
        context.console.done(&unchanged, "nothing to change")?;
        return Ok(Exit::Done);
    }
    let line = format!("Setting {} of {app}", names(values.keys()));
    context.console.begin(&line);
    context.console.step(&line, &line);
    let values = values.into_iter().map(|(name, value)| (name, Some(value))).collect();
    change(&app, request(values, service), &client, context).await
}

async fn get(options: GetOptions, context: &mut Context<'_>) -> Result<(), Failure> {
    let app = app_folder::resolve(&options.scope.app)?;
    let known = known(&context.client()?, &app).await?;
    let found = known.effective(&options.key, options.scope.service.as_deref())?;
    if context.console.is_json() {
        context.console.document(found)
    } else {
        context.console.verbatim(&found.value)
    }
}

async fn list(options: ListOptions, context: &mut Context<'_>) -> Result<(), Failure> {
    let app = app_folder::resolve(&options.app)?;
    let known = known(&context.client()?, &app).await?;
    let table = table(known.all(), options.unmask);
    context.console.list(known.all(), "variables", table)
}

async fn delete(options: DeleteOptions, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let app = app_folder::resolve(&options.scope.app)?;
    let service = options.scope.service;
    let values: Values = options.keys.into_iter().map(|key| (key, None)).collect();
    let names = names(values.keys());
    if !options.force {
        let remedy = "the same command with -f";
        prompt::attended(&format!("deleting {names} of {app} needs a yes"), remedy)?;
    }
    let client = context.client()?;
    let known = known(&client, &app).await?;
    known
        .check_deletable(values.keys(), service.as_deref())
        .doing(|| format!("deleting variables of {app}"))?;
    if !options.force && !prompt::yes(&format!("Delete {names} of {app}?")).await? {
        return Err(Failure::failed(format!("variables of {app} were not deleted")).code("not_confirmed"));
    }
    let line = format!("Deleting {names} of {app}");
    context.console.begin(&line);
    context.console.step(&line, &line);
    change(&app, request(values, service), &client, context).await
}

async fn known(client: &Client, app: &AppName) -> Result<Known, Failure> {
    let listed: Vec<Variable> = client
        .list(&paths::of_app(app.as_str(), "env"))
        .await
        .doing(|| format!("listing variables of {app}"))?;
    Ok(Known::new(app.clone(), listed))
}

fn request(values: Values, service: Option<String>) -> DeployRequest {
    match service {
        Some(service) => DeployRequest {
            service_env: BTreeMap::from([(service, values)]),
            ..DeployRequest::default()
        },
        None => DeployRequest {
            env: values,
            ..DeployRequest::default()
        },
    }
}

async fn change(
    app: &AppName,
    request: DeployRequest,
    client: &Client,
    context: &mut Context<'_>,
) -> Result<Exit, Failure> {
    let watch = Watch::from_now(false);
    let key = outcome::idempotency_key();
    let change = Change {
        doing: &format!("changing variables of {app}"),
        look: &format!("miren app versions -a {app}"),
    };
    let accepted = change
        .asked(|| client.deploy(app.as_str(), &request, &key), context.console)
        .await?;
    outcome::of(accepted, watch, client, context).await
}

fn names<'n>(names: impl Iterator<Item = &'n String>) -> String {
    names.map(String::as_str).collect::<Vec<_>>().join(", ")
}

fn table(variables: &[Variable], unmask: bool) -> Table {
    let mut table = Table::new(&["name", "value", "service", "source"])
        .cut(&["value"])
        .leave(&["source", "service"]);
    for variable in variables {
        let source = match variable.source {
            VariableSource::Config => "config",
            VariableSource::Manual => "manual",
        };
        table.row(vec![
            variable.name.as_str().into(),
            mask::shown(&variable.name, &variable.value, unmask).into(),
            variable.service.as_deref().unwrap_or("(all)").into(),
            source.into(),
        ]);
    }
    table
}

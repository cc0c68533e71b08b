//! `miren app status`: how an app is doing and why, where it is reached, and what was deployed last.

use super::super::deploy::history;
use super::super::{ephemeral, pool};
use crate::failure::{Doing, Failure};
use crate::table::or_dash;
use crate::{Context, ago, paths};
use miren_api::AppName;
use miren_api::deploy::Deploy;
use miren_api::ephemeral::Ephemeral;
use miren_api::resource::{App, Health, Pool};
use serde::Serialize;

#[cfg(test)]
mod tests;

/// As many deploys as tell what is going on.
const RECENT: usize = 5;

#[derive(Serialize)]
struct Status {
    #[serde(flatten)]
    app: App,
    pools: Vec<Pool>,
    /// The last few, newest first.
    deploys: Vec<Deploy>,
    ephemeral: Vec<Ephemeral>,
}

pub async fn run(name: &AppName, context: &mut Context<'_>) -> Result<(), Failure> {
    let status = ask(name, context).await?;
    context.console.thing(&status, &fields(&status))?;
    context.console.section("Pools", pool::table(&status.pools))?;
    let previews = ephemeral::table(&status.ephemeral);
    context.console.section("Previews", previews)?;
    let deploys = history::recent(&status.deploys);
    context.console.section("Deploys", deploys)
}

async fn ask(name: &AppName, context: &Context<'_>) -> Result<Status, Failure> {
    let client = context.client()?;
    let what = || format!("showing app {name}");
    let app: App = client.get(&paths::of(paths::APPS, name.as_str())).await.doing(what)?;
    let mut pools: Vec<Pool> = client.list(paths::POOLS).await.doing(what)?;
    pools.retain(|pool| pool.app == *name);
    let path = paths::of_app(name.as_str(), "deploys");
    let mut deploys: Vec<Deploy> = client.list(&path).await.doing(what)?;
    deploys.sort_by_key(|deploy| std::cmp::Reverse(deploy.seq));
    deploys.truncate(RECENT);
    let path = paths::of_app(name.as_str(), "ephemeral");
    let mut ephemeral: Vec<Ephemeral> = client.list(&path).await.doing(what)?;
    ephemeral.sort_by_key(|preview| preview.expires_at);
    Ok(Status {
        app,
        pools,
        deploys,
        ephemeral,
    })
}

fn fields(status: &Status) -> Vec<(&'static str, String)> {
    let app = &status.app;
    let mut fields = vec![
        ("App", app.name.to_string()),
        ("Version", or_dash(app.version.as_ref())),
        ("Health", health(status)),
    ];
    if let Some(why) = serving(status).find_map(|pool| pool.last_crash.as_ref()) {
        fields.push(("Last crash", why.clone()));
    }
    if let Some(why) = serving(status).find_map(|pool| pool.node_fault.as_ref()) {
        fields.push(("Node fault", why.clone()));
    }
    fields.extend([
        ("Sandboxes", format!("{} ready, {} desired", app.ready, app.desired)),
        ("URLs", joined(&app.urls, "\n")),
        ("Routes", joined(&routes(app), ", ")),
    ]);
    fields
}

/// Those that turn requests away say so.
fn routes(app: &App) -> Vec<String> {
    let told = |host: &String| match app.routes_down.contains(host) {
        true => format!("{host} (down)"),
        false => host.clone(),
    };
    app.routes.iter().map(told).collect()
}

/// In one word, and until when nothing is tried where that is so.
fn health(status: &Status) -> String {
    let word = match status.app.health {
        Health::Unknown => "unknown: no version is active",
        Health::Starting => "starting",
        Health::Healthy => "healthy",
        Health::Degraded => "degraded",
        Health::Idle => "idle: starts with the next request",
        Health::Crashed => "crashed",
    };
    let waiting = serving(status).find(|pool| pool.cooldown_until.is_some());
    match waiting {
        Some(pool) => format!(
            "{word}: {} {}, next attempt {} ({})",
            pool.service,
            pool::why_it_waits(pool),
            ago::left(pool.cooldown_until),
            pool::until(pool)
        ),
        None => word.to_owned(),
    }
}

/// The pools of the active version; a preview that crashes says nothing of the app.
fn serving(status: &Status) -> impl Iterator<Item = &Pool> {
    let version = status.app.version.as_ref();
    let pools = status.pools.iter();
    pools.filter(move |pool| version.is_some_and(|version| pool.versions.contains(version)))
}

/// `-` when there is none.
pub fn joined(texts: &[String], between: &str) -> String {
    or_dash((!texts.is_empty()).then(|| texts.join(between)).as_ref())
}

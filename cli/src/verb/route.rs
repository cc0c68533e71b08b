//! `miren route`: which host leads to which app, and what its requests may expect meanwhile.

use crate::failure::{Doing, Failure};
use crate::table::{Cell, Table, Tone};
use crate::{Context, app_folder, paths};
use clap::Subcommand;
use limit::{TimeoutVerb, state_of, timeout_of};
use miren_api::resource::{Maintenance, Route, RouteRequest};
use miren_api::{ClientError, ErrorCode};
use target::Target;

mod limit;
mod target;
#[cfg(test)]
mod tests;

#[derive(Debug, Subcommand)]
pub enum RouteVerb {
    /// All routes, and the hosts that apps have by their name
    List,
    /// Lead a host to an app
    Set {
        /// `shop.example.com`, or `*.example.com` for every host below
        host: String,
        app: String,
        /// Which of the app's services; web unless given
        #[arg(long, value_name = "NAME")]
        service: Option<String>,
    },
    /// Remove a host's route
    Remove { host: String },
    /// One route
    Show(Target),
    /// Turn a route's requests away, with 503, until it is up again; previews below its host are not
    Down {
        #[command(flatten)]
        target: Target,
        /// When clients are told to come back; 1m unless given
        #[arg(long, value_name = "DURATION", value_parser = limit::a_retry)]
        retry_after: Option<Maintenance>,
        /// Do not ask before the default route goes down
        #[arg(short, long)]
        force: bool,
    },
    /// Let a route's requests through again
    Up(Target),
    /// How long a route's app may take to begin an answer: set, show, clear
    #[command(subcommand)]
    Timeout(TimeoutVerb),
    /// Lead every host without a route of its own to an app
    SetDefault { app: String },
    /// Remove the default route
    UnsetDefault,
}

pub async fn run(verb: RouteVerb, context: &mut Context<'_>) -> Result<(), Failure> {
    match verb {
        RouteVerb::List => {
            let routes: Vec<Route> = context
                .client()?
                .list(paths::ROUTES)
                .await
                .doing(|| "listing routes".into())?;
            context.console.list(&routes, "routes", table(&routes))
        }
        RouteVerb::Set { host, app, service } => {
            let path = target::path_of(&host)?;
            let route = put(&path, &app, service, context)
                .await
                .doing(|| format!("setting route {host}"))?;
            context
                .console
                .done(&route, &format!("Route set: {} → {}", route.host, destination(&route)))
        }
        RouteVerb::Remove { host } => {
            let path = target::path_of(&host)?;
            let route: Route = context
                .client()?
                .delete(&path)
                .await
                .doing(|| format!("removing route {host}"))?;
            context.console.done(&route, &format!("Route removed: {}", route.host))
        }
        RouteVerb::Show(target) => {
            let path = target.path()?;
            let answer = context.client()?.get(&path).await;
            let route: Route = answer.doing(|| format!("showing route {}", target.host()))?;
            context.console.thing(&route, &fields(&route))
        }
        RouteVerb::Down {
            target,
            retry_after,
            force,
        } => limit::down(&target, retry_after.unwrap_or_default(), force, context).await,
        RouteVerb::Up(target) => limit::up(&target, context).await,
        RouteVerb::Timeout(verb) => limit::run(verb, context).await,
        RouteVerb::SetDefault { app } => {
            let route = put(paths::DEFAULT_ROUTE, &app, None, context).await;
            let route = route.doing(|| "setting the default route".into())?;
            context
                .console
                .done(&route, &format!("Set default route to: {}", route.app))
        }
        RouteVerb::UnsetDefault => unset_default(context).await,
    }
}

async fn put(path: &str, app: &str, service: Option<String>, context: &Context<'_>) -> Result<Route, Failure> {
    let request = RouteRequest {
        app: app_folder::parse_name(app)?.to_string(),
        service,
    };
    Ok(context.client()?.put(path, &request).await?)
}

/// Without a default route there is nothing to do, which is not a failure.
async fn unset_default(context: &mut Context<'_>) -> Result<(), Failure> {
    match context.client()?.delete::<Route>(paths::DEFAULT_ROUTE).await {
        Ok(route) => {
            let sentence = format!("Removed default route from app: {}", route.app);
            context.console.done(&route, &sentence)
        }
        Err(ClientError::Refused(refusal)) if refusal.code == ErrorCode::NotFound => {
            context.console.done(&None::<Route>, "No default route was set")
        }
        Err(error) => Err(error).doing(|| "removing the default route".into()),
    }
}

fn destination(route: &Route) -> String {
    if route.service == miren_api::app_file::WEB {
        route.app.to_string()
    } else {
        format!("{} ({})", route.app, route.service)
    }
}

fn table(routes: &[Route]) -> Table {
    let columns = [
        "host", "app", "service", "default", "wildcard", "by name", "timeout", "state",
    ];
    let mut table = Table::new(&columns)
        .cut(&["state"])
        .leave(&["by name", "wildcard", "default", "timeout", "service", "app"]);
    let mark = |yes: bool| if yes { "✓" } else { "" };
    for route in routes {
        let tone = if route.maintenance.is_some() {
            Tone::Waiting
        } else {
            Tone::Good
        };
        table.row(vec![
            route.host.as_str().into(),
            route.app.as_str().into(),
            route.service.as_str().into(),
            mark(route.default).into(),
            mark(route.wildcard).into(),
            mark(route.derived).into(),
            timeout_of(route).into(),
            Cell::toned(state_of(route), tone),
        ]);
    }
    table
}

fn fields(route: &Route) -> Vec<(&'static str, String)> {
    let yes_or_no = |yes: bool| if yes { "yes" } else { "no" }.to_owned();
    vec![
        ("Host", route.host.clone()),
        ("App", route.app.to_string()),
        ("Service", route.service.clone()),
        ("Default", yes_or_no(route.default)),
        ("Wildcard", yes_or_no(route.wildcard)),
        ("By name", yes_or_no(route.derived)),
        ("Timeout", timeout_of(route)),
        ("State", state_of(route)),
    ]
}

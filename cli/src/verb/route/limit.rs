//! What a route does with its requests while it leads somewhere: turns them away, or gives the app only so long.

use super::fields;
use super::target::Target;
use crate::failure::{Doing, Failure};
use crate::{Context, prompt};
use clap::Subcommand;
use miren_api::resource::{Maintenance, Route, RouteTimeout};
use miren_api::settings::{parse_duration, show_duration};
use std::time::Duration;

#[derive(Debug, Subcommand)]
pub enum TimeoutVerb {
    /// Answer in the app's place when it has not begun to within this time
    #[command(allow_missing_positional = true)]
    Set {
        #[command(flatten)]
        target: Target,
        /// As 5s or 2m, at most 1h
        #[arg(value_name = "DURATION", required = true, value_parser = a_duration)]
        timeout: String,
    },
    /// How long a route's app may take
    Show(Target),
    /// Let the proxy's own limit hold again
    Clear(Target),
}

pub async fn run(verb: TimeoutVerb, context: &mut Context<'_>) -> Result<(), Failure> {
    let client = context.client()?;
    match verb {
        TimeoutVerb::Set { target, timeout } => {
            let path = format!("{}/timeout", target.path()?);
            let route: Route = client
                .put(&path, &RouteTimeout { timeout })
                .await
                .doing(|| format!("setting the timeout of route {}", target.host()))?;
            let sentence = format!(
                "Route {}: {} has {} to begin an answer",
                route.host,
                route.app,
                timeout_of(&route)
            );
            context.console.done(&route, &sentence)
        }
        TimeoutVerb::Show(target) => {
            let route: Route = client
                .get(&target.path()?)
                .await
                .doing(|| format!("showing the timeout of route {}", target.host()))?;
            let fields: Vec<_> = fields(&route)
                .into_iter()
                .filter(|(name, _)| ["Host", "App", "Timeout"].contains(name))
                .collect();
            context.console.thing(&route, &fields)
        }
        TimeoutVerb::Clear(target) => {
            let path = format!("{}/timeout", target.path()?);
            let route: Route = client
                .delete(&path)
                .await
                .doing(|| format!("clearing the timeout of route {}", target.host()))?;
            let sentence = format!("Route {}: the proxy's own limit holds for {}", route.host, route.app);
            context.console.done(&route, &sentence)
        }
    }
}

/// Turns a route's requests away. Where that is every host without a route of its own, somebody has to mean it.
pub async fn down(
    target: &Target,
    maintenance: Maintenance,
    force: bool,
    context: &mut Context<'_>,
) -> Result<(), Failure> {
    let path = format!("{}/maintenance", target.path()?);
    if target.is_default() && !force && !confirmed().await? {
        return Err(Failure::failed("the default route was not taken down").code("not_confirmed"));
    }
    let route: Route = context
        .client()?
        .put(&path, &maintenance)
        .await
        .doing(|| format!("taking route {} down", target.host()))?;
    let again = route.maintenance.unwrap_or(maintenance);
    let sentence = format!(
        "Route {} is down: requests are told to come back after {}",
        route.host,
        retry(again)
    );
    context.console.done(&route, &sentence)
}

/// Lets a route's requests through, whether or not they were turned away before.
pub async fn up(target: &Target, context: &mut Context<'_>) -> Result<(), Failure> {
    let path = format!("{}/maintenance", target.path()?);
    let route: Route = context
        .client()?
        .delete(&path)
        .await
        .doing(|| format!("taking route {} up", target.host()))?;
    let sentence = format!("Route {} is up: {} answers", route.host, route.app);
    context.console.done(&route, &sentence)
}

/// Without a terminal there is nobody to ask, so `-f` is needed.
async fn confirmed() -> Result<bool, Failure> {
    prompt::attended(
        "turning away every host without a route of its own needs a yes",
        "miren route down --default -f",
    )?;
    prompt::yes("Turn away the requests of every host without a route of its own?").await
}

/// `5s`; `-` where only the proxy's own limit holds.
pub fn timeout_of(route: &Route) -> String {
    let limit = route.timeout_ms.map(Duration::from_millis);
    limit.map_or_else(|| "-".to_owned(), show_duration)
}

/// `up`, or `down, retry after 2m`.
pub fn state_of(route: &Route) -> String {
    route
        .maintenance
        .map_or_else(|| "up".to_owned(), |down| format!("down, retry after {}", retry(down)))
}

fn retry(maintenance: Maintenance) -> String {
    show_duration(Duration::from_secs(maintenance.retry_after))
}

/// Reads after which time clients are told to come back: they are told whole seconds.
pub fn a_retry(text: &str) -> Result<Maintenance, String> {
    let after = parse_duration(text)?;
    let seconds = after.as_secs();
    if after.subsec_nanos() > 0 || !(1..=Maintenance::RETRY_MAX).contains(&seconds) {
        return Err(format!(
            "{text:?} is not a whole number of seconds from 1s to {}",
            show_duration(Duration::from_secs(Maintenance::RETRY_MAX))
        ));
    }
    Ok(Maintenance { retry_after: seconds })
}

/// Passed on as it was typed; which durations are allowed is for the server to say.
fn a_duration(text: &str) -> Result<String, String> {
    parse_duration(text).map(|_| text.to_owned())
}

//! Whether the variables that an app requires are set, found out before anything is sent where that is known here.

use crate::failure::{Exit, Failure};
use crate::paths;
use miren_api::app_file::{self, Service};
use miren_api::deploy::{Deploy, Variable, VariableSource};
use miren_api::{AppName, Client};
use std::collections::BTreeMap;

/// Refuses a deploy of these services with `given` on top, unless all that they require has a value.
///
/// The server is asked only when something is missing here, and decides in the end: what it does not tell, or what a deploy under
/// way may change, is no reason to refuse.
pub async fn check(
    app: &AppName,
    services: &BTreeMap<String, Service>,
    given: &[(String, String)],
    client: &Client,
) -> Result<(), Failure> {
    let mut services = services.clone();
    set(&mut services, None, given.iter().map(|(name, value)| (name, value)));
    if app_file::missing(&services).is_none() {
        return Ok(());
    }
    let Some(kept) = kept(app, client).await else {
        return Ok(());
    };
    for variable in kept.iter().filter(|one| one.source == VariableSource::Manual) {
        let pair = (&variable.name, &variable.value);
        let own = variable.service.as_deref();
        if own.is_some() || !given.iter().any(|(name, _)| *name == variable.name) {
            set(&mut services, own, [pair]);
        }
    }
    match app_file::missing(&services) {
        None => Ok(()),
        Some(missing) => Err(Failure::failed(missing.to_string())
            .code("invalid_value")
            .field("env")
            .doing(&format!("deploying {app}"))
            .remedy(missing.remedy(app))),
    }
}

fn set<'v>(
    services: &mut BTreeMap<String, Service>,
    only: Option<&str>,
    variables: impl IntoIterator<Item = (&'v String, &'v String)>,
) {
    for (name, value) in variables {
        let meant = services
            .iter_mut()
            .filter(|(of, _)| only.is_none_or(|only| only == *of));
        for (_, service) in meant {
            service.env.insert(name.clone(), value.clone());
        }
    }
}

/// What is kept for the next deploy of the app; nothing when that is not known.
async fn kept(app: &AppName, client: &Client) -> Option<Vec<Variable>> {
    let deploys = known(client.list::<Deploy>(&paths::of_app(app.as_str(), "deploys")).await)?;
    if deploys.iter().any(|deploy| !deploy.status.is_final()) {
        return None;
    }
    known(client.list::<Variable>(&paths::of_app(app.as_str(), "env")).await)
}

/// An app that is not there has none.
fn known<T>(answer: Result<Vec<T>, miren_api::ClientError>) -> Option<Vec<T>> {
    match answer.map_err(Failure::from) {
        Ok(listed) => Some(listed),
        Err(failure) if failure.exit == Exit::NotFound => Some(Vec::new()),
        Err(_) => None,
    }
}

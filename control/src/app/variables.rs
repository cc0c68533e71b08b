//! Decides which environment variables people set, and how they lie over those of an app's own settings.

use miren_api::app_file::{self, Service, check_value, check_variable};
use miren_api::deploy::{DeployRequest, Variable, VariableSource};
use miren_api::{ApiError, AppName, ErrorCode};
use std::collections::BTreeMap;

pub use crate::record::Variables;

#[cfg(test)]
mod tests;

impl Variables {
    /// Lays them over the variables of one service.
    pub fn apply(&self, service: &str, env: &mut BTreeMap<String, String>) {
        env.extend(self.all.clone());
        env.extend(self.services.get(service).cloned().unwrap_or_default());
    }

    /// What was set, each for whom it was set, and what of the services' own is not hidden by that. `own` are the services
    /// as their folder says.
    pub fn list(&self, own: &BTreeMap<String, Service>) -> Vec<Variable> {
        let variable = |name: &str, value: &str, service: Option<&String>, source| Variable {
            name: name.to_owned(),
            value: value.to_owned(),
            service: service.cloned(),
            source,
        };
        let set = |service: Option<&String>, env: &BTreeMap<String, String>| -> Vec<Variable> {
            let manual = |(name, value): (&String, &String)| variable(name, value, service, VariableSource::Manual);
            env.iter().map(manual).collect()
        };
        let mut listed = set(None, &self.all);
        listed.extend(self.services.iter().flat_map(|(service, env)| set(Some(service), env)));
        let mut shown: BTreeMap<(&String, &String), Vec<&String>> = BTreeMap::new();
        for (service, settings) in own {
            for entry in settings.env.iter().filter(|(name, _)| !self.sets(service, name)) {
                shown.entry(entry).or_default().push(service);
            }
        }
        for ((name, value), services) in shown {
            let of: Vec<Option<&String>> = match services.len() == own.len() {
                true => vec![None],
                false => services.into_iter().map(Some).collect(),
            };
            let config = |service| variable(name, value, service, VariableSource::Config);
            listed.extend(of.into_iter().map(config));
        }
        listed
    }

    /// Whether it decides what `name` is for `service`.
    fn sets(&self, service: &str, name: &str) -> bool {
        let of_service = self.services.get(service).is_some_and(|env| env.contains_key(name));
        of_service || self.all.contains_key(name)
    }
}

/// Refuses what would run without a variable that its settings require. `services` have all that is set.
pub fn check_required(app: &AppName, services: &BTreeMap<String, Service>) -> Result<(), ApiError> {
    let Some(missing) = app_file::missing(services) else {
        return Ok(());
    };
    let error = ApiError::new(ErrorCode::InvalidValue, missing.to_string()).field("env");
    Err(error.remedy(missing.remedy(app)))
}

/// Refuses names that cannot be set, and services that the app does not have.
pub fn check(request: &DeployRequest, services: &BTreeMap<String, Service>) -> Result<(), ApiError> {
    let refused = |field: String, why: String, remedy: &str| {
        let error = ApiError::new(ErrorCode::InvalidValue, why).field(field);
        Err(error.remedy(remedy))
    };
    let fields = request
        .service_env
        .iter()
        .map(|(service, changes)| (Some(service), changes));
    for (service, changes) in std::iter::once((None, &request.env)).chain(fields) {
        let field = service.map_or("env".to_owned(), |service| format!("service_env.{service}"));
        if let Some(service) = service.filter(|service| !services.contains_key(*service)) {
            let names: Vec<&str> = services.keys().map(String::as_str).collect();
            let why = format!("the app has no service {service:?}; it has {}", names.join(", "));
            return refused(field, why, "name one of them, or leave the service out");
        }
        for (name, value) in changes {
            if let Err(why) = check_variable(name) {
                return refused(field, why, "leave it out or choose another name");
            }
            if let Some(Err(why)) = value.as_deref().map(check_value) {
                return refused(field, format!("the value of {name} {why}"), "leave it out");
            }
        }
    }
    Ok(())
}

//! What an app's variables are now: which value counts, and which of them can be taken away.

use crate::failure::Failure;
use miren_api::AppName;
use miren_api::deploy::{Variable, VariableSource};

#[cfg(test)]
mod tests;

/// The variables of an app as the server listed them, by name.
pub struct Known {
    app: AppName,
    variables: Vec<Variable>,
}

impl Known {
    pub fn new(app: AppName, mut variables: Vec<Variable>) -> Self {
        variables.sort_by(|a, b| (&a.name, &a.service, a.source).cmp(&(&b.name, &b.service, b.source)));
        Self { app, variables }
    }

    pub fn all(&self) -> &[Variable] {
        &self.variables
    }

    fn named<'k>(&'k self, name: &str) -> impl Iterator<Item = &'k Variable> {
        self.variables.iter().filter(move |variable| variable.name == name)
    }

    /// What was set by hand for exactly this service, or for all of them.
    pub fn manual(&self, name: &str, service: Option<&str>) -> Option<&String> {
        self.named(name)
            .find(|variable| variable.source == VariableSource::Manual && variable.service.as_deref() == service)
            .map(|variable| &variable.value)
    }

    /// What a sandbox of `service` gets; without one, what every service gets that has none of its own.
    ///
    /// Set by hand wins over `app.toml`, and within each, the service's own over that of all services.
    pub fn effective(&self, name: &str, service: Option<&str>) -> Result<&Variable, Failure> {
        let own = |variable: &Variable| variable.service.is_some();
        self.named(name)
            .filter(|variable| !own(variable) || variable.service.as_deref() == service)
            .max_by_key(|variable| (variable.source, own(variable)))
            .ok_or_else(|| self.absent(name))
    }

    fn absent(&self, name: &str) -> Failure {
        let services = self.services(self.named(name));
        match services.first() {
            None => Failure::not_found(format!("there is no variable {name}"))
                .remedy(format!("miren env list -a {}", self.app)),
            Some(one) => Failure::not_found(format!("{name} is set for {} only", services.join(", ")))
                .remedy(format!("-S {one}")),
        }
    }

    fn services<'k>(&self, variables: impl Iterator<Item = &'k Variable>) -> Vec<&'k str> {
        let mut services: Vec<&str> = variables.filter_map(|variable| variable.service.as_deref()).collect();
        services.dedup();
        services
    }

    /// Refuses all of it when one of them was not set by hand for this service, or for all of them.
    pub fn check_deletable<'n>(
        &self,
        names: impl Iterator<Item = &'n String>,
        service: Option<&str>,
    ) -> Result<(), Failure> {
        let problems: Vec<String> = names
            .filter(|name| self.manual(name, service).is_none())
            .map(|name| self.why_kept(name, service))
            .collect();
        if problems.is_empty() {
            return Ok(());
        }
        Err(Failure::not_found(problems.join("\n")).remedy(format!("miren env list -a {}", self.app)))
    }

    fn why_kept(&self, name: &str, service: Option<&str>) -> String {
        let manual = |variable: &&Variable| variable.source == VariableSource::Manual;
        let services = self.services(self.named(name).filter(manual)).join(", ");
        match service {
            Some(one) if self.manual(name, None).is_some() => {
                format!("{name} is set for every service, not for {one} alone")
            }
            _ if !services.is_empty() => format!("{name} is set for {services} only"),
            _ if self.named(name).next().is_some() => {
                format!("{name} is defined in app.toml; take it away there, and deploy")
            }
            _ => format!("{name} is not set"),
        }
    }
}

//! Decides what is kept of the variables that people set, and what a deploy makes of them.

use miren_api::deploy::DeployRequest;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A change of variables: null takes one away.
type Changes = BTreeMap<String, Option<String>>;

/// Variables that were set with the deploys of a version, and are kept by later ones.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Variables {
    /// For every service.
    pub all: BTreeMap<String, String>,
    /// For single services, over those for every one.
    pub services: BTreeMap<String, BTreeMap<String, String>>,
}

impl Variables {
    /// These with what a deploy changes.
    pub fn with(&self, request: &DeployRequest) -> Self {
        let mut changed = self.clone();
        change(&mut changed.all, &request.env);
        for (service, changes) in &request.service_env {
            let of_service = changed.services.entry(service.clone()).or_default();
            change(of_service, changes);
            if of_service.is_empty() {
                changed.services.remove(service);
            }
        }
        changed
    }
}

fn change(variables: &mut BTreeMap<String, String>, changes: &Changes) {
    for (name, value) in changes {
        match value {
            Some(value) => variables.insert(name.clone(), value.clone()),
            None => variables.remove(name),
        };
    }
}

//! Variables that an app requires: which of them have no value, and what is said of that.

use super::{APP_FILE, Service};
use crate::id::AppName;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Required variables without a value; there is one at least.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Of which services each is; all of them if none is named.
    variables: BTreeMap<String, BTreeSet<String>>,
}

/// What of the required variables of these services has no value. Nothing when all have one.
pub fn missing(services: &BTreeMap<String, Service>) -> Option<Missing> {
    let mut variables: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (service, settings) in services {
        for name in settings.missing() {
            variables.entry(name.to_owned()).or_default().insert(service.clone());
        }
    }
    for of in variables.values_mut().filter(|of| of.len() == services.len()) {
        of.clear();
    }
    (!variables.is_empty()).then_some(Missing { variables })
}

impl Missing {
    /// The commands that set what is missing.
    pub fn remedy(&self, app: &AppName) -> String {
        let set = |pairs: &[String], service: &str| format!("miren env set -a {app} {service}{}", pairs.join(" "));
        let pair = |name: &String| format!("{name}=VALUE");
        let everywhere = self.variables.iter().filter(|(_, of)| of.is_empty());
        let everywhere: Vec<String> = everywhere.map(|(name, _)| pair(name)).collect();
        let mut commands: Vec<String> = Vec::new();
        if !everywhere.is_empty() {
            commands.push(set(&everywhere, ""));
        }
        let services: BTreeSet<&String> = self.variables.values().flatten().collect();
        for service in services {
            let own = self.variables.iter().filter(|(_, of)| of.contains(service));
            let own: Vec<String> = own.map(|(name, _)| pair(name)).collect();
            commands.push(set(&own, &format!("-S {service} ")));
        }
        let all: Vec<String> = self.variables.keys().map(|name| format!("-e {name}=VALUE")).collect();
        format!(
            "{}; or with the deploy itself, as the first one has to: {}",
            commands.join("; "),
            all.join(" ")
        )
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let one = |(name, of): (&String, &BTreeSet<String>)| match of.is_empty() {
            true => name.clone(),
            false => {
                let services: Vec<&str> = of.iter().map(String::as_str).collect();
                format!("{name} (of {})", services.join(", "))
            }
        };
        let names: Vec<String> = self.variables.iter().map(one).collect();
        write!(out, "{APP_FILE} requires what is not set: {}", names.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app_file;

    fn services(text: &str) -> BTreeMap<String, Service> {
        let services = "[services.web]\ncommand = \"w\"\n[services.worker]\ncommand = \"x\"\n";
        app_file::parse(Some(&format!("{services}{text}")), None)
            .unwrap()
            .services
    }

    #[test]
    fn g18_what_is_required_is_told_with_whose_it_is_and_the_commands_that_set_it() {
        let services = services(
            "[[env]]\nkey = \"URL\"\nrequired = true\n[[services.worker.env]]\nkey = \"SMTP\"\nrequired = true\n\
             [[services.worker.env]]\nkey = \"B\"\nvalue = \"\"\nrequired = true\n",
        );
        let missing = missing(&services).unwrap();
        let told = ".miren/app.toml requires what is not set: B (of worker), SMTP (of worker), URL";
        assert_eq!(missing.to_string(), told);
        let remedy = missing.remedy(&AppName::parse("shop").unwrap());
        assert_eq!(
            remedy,
            "miren env set -a shop URL=VALUE; miren env set -a shop -S worker B=VALUE SMTP=VALUE; \
             or with the deploy itself, as the first one has to: -e B=VALUE -e SMTP=VALUE -e URL=VALUE"
        );
    }

    #[test]
    fn g18_a_value_of_the_file_is_one_and_a_service_may_have_its_own() {
        assert_eq!(
            missing(&services("[[env]]\nkey = \"A\"\nvalue = \"1\"\nrequired = true\n")),
            None
        );
        let text = "[[env]]\nkey = \"A\"\nrequired = true\n[[services.web.env]]\nkey = \"A\"\nvalue = \"1\"\n";
        let told = missing(&services(text)).unwrap().to_string();
        assert!(told.ends_with(": A (of worker)"), "{told}");
        assert_eq!(missing(&services("[[env]]\nkey = \"A\"\n")), None);
    }
}

//! `app.toml` and `Procfile`: what an app runs, read the same way by the CLI and by the server.

use crate::id::AppName;
use crate::settings::{self, Bytes, Problem, Problems, Table};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

mod service;
#[cfg(test)]
mod tests;

pub use service::{Concurrency, Resources, Service, command_line};

/// Where an app's settings are, seen from its folder.
pub const APP_FILE: &str = ".miren/app.toml";
/// One process type a line: `web: command`.
pub const PROCFILE: &str = "Procfile";
/// The service that routes lead to unless they name another.
pub const WEB: &str = "web";
/// Port of a `web` service that names none.
pub const WEB_PORT: u16 = 3000;

/// Where the files a sandbox sees outside `/app` come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Base {
    /// The host's `/usr`, `/bin`, `/sbin`, `/lib*` and needed parts of `/etc`, read-only.
    #[default]
    Host,
}

/// Everything an app's folder says about how it runs.
#[derive(Clone, Debug, PartialEq)]
pub struct AppFile {
    pub name: Option<AppName>,
    pub base: Base,
    /// Patterns of files taken along although `.gitignore` excludes them.
    pub include: Vec<String>,
    /// At least one, each with a command.
    pub services: BTreeMap<String, Service>,
}

/// Reads the two files; `None` for one that the folder lacks. All problems of both are reported at once.
pub fn parse(app_file: Option<&str>, procfile: Option<&str>) -> Result<AppFile, Problems> {
    let processes = parse_procfile(procfile.unwrap_or_default());
    let (processes, mut problems) = match processes {
        Ok(processes) => (processes, Vec::new()),
        Err(Problems(problems)) => (BTreeMap::new(), problems),
    };
    match settings::read(Path::new(APP_FILE), app_file.unwrap_or_default(), |root| {
        declare(root, &processes)
    }) {
        Ok(parsed) if problems.is_empty() => Ok(parsed),
        Ok(_) => Err(Problems(problems)),
        Err(Problems(more)) => {
            problems.extend(more);
            Err(Problems(problems))
        }
    }
}

/// Every key of `app.toml`, for the generated reference.
pub fn reference() -> Vec<settings::KeyDoc> {
    settings::describe(|root| declare(root, &BTreeMap::new()))
}

fn declare(root: &mut Table<'_, '_, '_>, processes: &BTreeMap<String, String>) -> AppFile {
    let name = root.optional("name", "Name of the app: a DNS label.", |text| {
        AppName::parse(text).map_err(|why| format!("{text:?} {why}"))
    });
    let include = root.list(
        "include",
        &[],
        "Files to deploy although `.gitignore` excludes them.",
        |text| Ok::<_, String>(text.to_owned()),
    );
    let base = root.table("build", |build| {
        build.choice(
            "base",
            "host",
            "What a sandbox sees besides `/app`: `host` is the host's system folders, read-only.",
            &[("host", Base::Host)],
        )
    });
    let common = environment(root);
    let mut services: BTreeMap<String, Service> = root
        .named_tables("services", "<service>", |name, table| {
            let service = service::declare(name, table, processes.get(name).map(String::as_str), &common);
            (name.to_owned(), service)
        })
        .into_iter()
        .filter_map(|(name, (_, service))| Some((name, service?)))
        .collect();
    for (name, command) in processes {
        if !root.has_in("services", name) {
            services.insert(name.clone(), Service::of_procfile(name, command, &common));
        }
    }
    for name in services
        .keys()
        .filter(|name| crate::id::check_label(name).is_err())
        .cloned()
        .collect::<Vec<_>>()
    {
        root.refuse("services", format!("service name {name:?} is not a DNS label"));
    }
    if services.is_empty() && !root.has("services") {
        root.refuse(
            "services",
            format!("the app has no command: add [services.web] with command = \"…\" to {APP_FILE}, or a {PROCFILE} with \"web: …\""),
        );
    }
    AppFile {
        name,
        base,
        include,
        services,
    }
}

/// Reads `[[env]]` tables of `key` and `value`. Keys that the system sets are refused.
fn environment(table: &mut Table<'_, '_, '_>) -> BTreeMap<String, String> {
    let pairs = table.tables("env", |entry| {
        let key = entry.parsed("key", "KEY", "Name of the variable.", check_variable);
        let value = entry.string("value", "", "Its value.");
        if !entry.has("key") && entry.is_present() {
            entry.refuse("key", "is missing");
        }
        (key, value)
    });
    pairs.into_iter().collect()
}

/// Checks the name of an environment variable that a user may set.
pub fn check_variable(name: &str) -> Result<String, String> {
    let valid = !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !valid {
        return Err(format!("{name:?} is not a name of an environment variable"));
    }
    if name == "PORT" || name.starts_with("MIREN_") {
        return Err(format!("{name} is set by the system; choose another name"));
    }
    Ok(name.to_owned())
}

fn parse_procfile(text: &str) -> Result<BTreeMap<String, String>, Problems> {
    let mut processes = BTreeMap::new();
    let mut problems = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match line.split_once(':') {
            Some((name, command)) if crate::id::check_label(name.trim()).is_ok() && !command.trim().is_empty() => {
                processes.insert(name.trim().to_owned(), command.trim().to_owned());
            }
            _ => problems.push(Problem {
                file: PROCFILE.into(),
                line: index + 1,
                key: String::new(),
                message: format!("{line:?} is not \"name: command\""),
            }),
        }
    }
    if problems.is_empty() {
        Ok(processes)
    } else {
        Err(Problems(problems))
    }
}

/// A size as serde keeps it in records: bytes.
mod bytes_serde {
    use super::Bytes;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(size: &Option<Bytes>, out: S) -> Result<S::Ok, S::Error> {
        size.map(|Bytes(count)| count).serialize(out)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Option<Bytes>, D::Error> {
        Ok(Option::<u64>::deserialize(input)?.map(Bytes))
    }
}

/// Longest time a user may set for anything that holds a resource: a day.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

//! Decides what an app.toml looks like that somebody reads for the first time: few keys, each with what it does.

use super::proposal::{Command, Proposal, Proposed};
use miren_api::AppName;
use miren_api::app_file::WEB;
use std::fmt::Write;

/// Fails with what is missing: a deploy shows that.
const MISSING: &str = "echo 'set services.web.command in .miren/app.toml to what starts this app' >&2; exit 1";

/// Lines that begin with `#` and a key are settings to take the `#` off.
pub fn of(name: &AppName, proposal: &Proposal) -> String {
    let mut text = format!(
        "# What runs of this folder, and how. `miren app validate` checks it, `miren deploy` deploys it.\n\n\
         name = {}\n",
        quoted(name.as_str())
    );
    if !proposal.include.is_empty() {
        let patterns: Vec<String> = proposal.include.iter().map(|pattern| quoted(pattern)).collect();
        let _ = write!(
            text,
            "# Deployed although .gitignore excludes them: a deploy installs nothing and builds nothing without a Dockerfile.\n\
             include = [{}]\n",
            patterns.join(", ")
        );
    }
    if let Some(found) = proposal.found.first() {
        let _ = write!(text, "\n# Found: {}\n", one_line(found));
    }
    let mut services: Vec<&Proposed> = proposal.services.iter().collect();
    // What people reach comes first.
    services.sort_by_key(|service| service.name != WEB);
    for service in &services {
        text.push_str(&declared(service));
    }
    if let Some(first) = services.first() {
        text.push_str(&more(&first.name));
    }
    text
}

fn declared(service: &Proposed) -> String {
    let is_web = service.name == WEB;
    let mut text = format!("\n[services.{}]\n", service.name);
    match &service.command {
        Command::Runs(command) => {
            if is_web {
                text.push_str("# Has to listen on 0.0.0.0, at $PORT.\n");
            }
            let _ = writeln!(text, "command = {}", quoted(command));
        }
        Command::InProcfile(command) => {
            let _ = writeln!(text, "# Its command is in the Procfile: {}", one_line(command));
        }
        Command::OfImage { port: Some(port) } => {
            let _ = writeln!(
                text,
                "# Its command is the image's, and its port the {port} that the image exposes; $PORT says the same."
            );
        }
        Command::OfImage { port: None } => {
            text.push_str("# Its command is the image's. The Dockerfile exposes no port: it has to listen at $PORT.\n");
        }
        Command::Missing => {
            text.push_str("# What starts the app. It has to listen on 0.0.0.0, at $PORT.\n");
            let _ = writeln!(text, "command = {}", quoted(MISSING));
        }
    }
    if is_web {
        let port = match service.command {
            Command::OfImage { port: Some(port) } => port,
            _ => miren_api::app_file::WEB_PORT,
        };
        let _ = write!(
            text,
            "#port = {port}\n#port_timeout = \"15s\"   # from its start until it listens\n"
        );
    }
    text
}

/// What people change first, of a service.
fn more(service: &str) -> String {
    let usual = match service {
        WEB => "Without these as many as the load needs, from none on: the first request starts one.",
        _ => "Without these it is one; mode = \"auto\" follows the load.",
    };
    format!(
        "\n# A path that has to answer before requests come: then a deploy that cannot answer changes nothing.\n\
         #[services.{service}.health]\n\
         #path = \"/\"\n\
         \n\
         # How many run. {usual}\n\
         #[services.{service}.concurrency]\n\
         #mode = \"fixed\"\n\
         #num_instances = 1\n\
         \n\
         # What one sandbox may use.\n\
         #[services.{service}.resources]\n\
         #memory = \"512MiB\"\n\
         #cpu = 1.0\n\
         \n\
         # Variables of every service. Secrets are set with `miren env set` instead, and are in no file.\n\
         #[[env]]\n\
         #key = \"LOG_LEVEL\"\n\
         #value = \"info\"\n"
    )
}

fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

/// A comment ends with its line.
fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}

//! `miren app validate`: what the settings in a folder would run, or everything that is wrong with them.

use crate::app_folder::AppFolder;
use crate::archive;
use crate::console::Console;
use crate::failure::Failure;
use crate::table::{Table, or_dash};
use clap::Args;
use miren_api::AppName;
use miren_api::app_file::{Base, Concurrency, Resources, Service};
use miren_api::settings::show_duration;
use serde::Serialize;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub struct ValidateOptions {
    /// The app's folder
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
}

#[derive(Serialize)]
struct Valid<'f> {
    valid: bool,
    app: Option<&'f AppName>,
    /// Built of the folder, in place of `base`.
    dockerfile: Option<&'f str>,
    base: Base,
    include: &'f [String],
    /// What is run before each switch to a new version.
    #[serde(skip_serializing_if = "Option::is_none")]
    release: Option<&'f str>,
    services: Vec<Runs<'f>>,
}

/// A service with the names of its settings; durations as one writes them, and of the variables no values.
#[derive(Serialize)]
struct Runs<'f> {
    name: &'f str,
    command: &'f str,
    port: Option<u16>,
    port_timeout: String,
    shutdown_timeout: String,
    drain_timeout: String,
    tunnel_timeout: String,
    health_path: Option<&'f str>,
    read_only_root: bool,
    init: bool,
    hedge: bool,
    concurrency: Sizes,
    resources: Limits,
    env: Vec<&'f str>,
    disks: Vec<&'f str>,
}

#[derive(Serialize)]
#[serde(tag = "mode", rename_all = "lowercase")]
enum Sizes {
    Auto {
        requests_per_instance: u32,
        scale_down_delay: String,
        min_instances: u32,
        max_instances: u32,
    },
    Fixed {
        num_instances: u32,
    },
}

#[derive(Serialize)]
struct Limits {
    memory: Option<String>,
    cpu: Option<f64>,
    pids: Option<u32>,
}

/// Reads the folder as a deploy does, and prints one row for each service.
///
/// # Errors
/// Those of [`AppFolder::open`], and a pattern of `include` that is none.
pub fn run(options: &ValidateOptions, console: &mut Console) -> Result<(), Failure> {
    let AppFolder { root, file } = AppFolder::open(&options.dir)?;
    archive::check_patterns(&file.include).map_err(|error| {
        Failure::failed(format!("reading the app in {}: {error}", root.display())).code("invalid_config")
    })?;
    if console.is_json() {
        return console.document(&Valid {
            valid: true,
            app: file.name.as_ref(),
            dockerfile: file.build.dockerfile.as_deref(),
            base: file.base,
            include: &file.include,
            release: file.release.as_ref().map(|release| release.command.as_str()),
            services: file
                .services
                .iter()
                .map(|(name, service)| runs(name, service))
                .collect(),
        });
    }
    console.note(&match &file.name {
        Some(name) => format!("The settings of app {name} in {} are valid", root.display()),
        None => format!("The settings in {} are valid; they name no app", root.display()),
    });
    if let Some(release) = &file.release {
        let command = release.command.replace(char::is_control, " ");
        console.note(&format!("Before each switch to a new version: {command}"));
    }
    let services: Vec<_> = file.services.iter().collect();
    console.list(&services, "services", table(&services))
}

fn runs<'f>(name: &'f str, service: &'f Service) -> Runs<'f> {
    Runs {
        name,
        command: &service.command,
        port: service.port,
        port_timeout: show_duration(service.port_timeout),
        shutdown_timeout: show_duration(service.shutdown_timeout),
        drain_timeout: show_duration(service.drain_timeout),
        tunnel_timeout: show_duration(service.tunnel_timeout),
        health_path: service.health_path.as_deref(),
        read_only_root: service.read_only_root,
        init: service.init,
        hedge: service.hedge,
        concurrency: sizes(service.concurrency),
        resources: limits(&service.resources),
        env: service.env.keys().map(String::as_str).collect(),
        disks: service.disks.iter().map(|disk| disk.name.as_str()).collect(),
    }
}

fn sizes(concurrency: Concurrency) -> Sizes {
    match concurrency {
        Concurrency::Auto {
            requests_per_instance,
            scale_down_delay,
            min,
            max,
        } => Sizes::Auto {
            requests_per_instance,
            scale_down_delay: show_duration(scale_down_delay),
            min_instances: min,
            max_instances: max,
        },
        Concurrency::Fixed { count } => Sizes::Fixed { num_instances: count },
    }
}

fn limits(resources: &Resources) -> Limits {
    Limits {
        memory: resources.memory.map(|size| size.to_string()),
        cpu: resources.cpu,
        pids: resources.pids,
    }
}

fn table(services: &[(&String, &Service)]) -> Table {
    let mut table = Table::new(&[
        "service",
        "command",
        "port",
        "instances",
        "health",
        "resources",
        "variables",
        "disks",
    ])
    .cut(&["command", "health", "resources", "instances"])
    .leave(&["disks", "variables", "resources", "health", "instances", "port"]);
    for (name, service) in services {
        table.row(vec![
            name.into(),
            // A command may have several lines; a row has one.
            service.command.replace(char::is_control, " ").into(),
            or_dash(service.port.as_ref()).into(),
            instances(service.concurrency).into(),
            or_dash(service.health_path.as_ref()).into(),
            in_words(&service.resources).into(),
            service.env.len().into(),
            service.disks.len().into(),
        ]);
    }
    table
}

fn instances(concurrency: Concurrency) -> String {
    match concurrency {
        Concurrency::Auto {
            requests_per_instance,
            min,
            max,
            ..
        } => format!("{min} to {max}, {requests_per_instance} requests each"),
        Concurrency::Fixed { count } => count.to_string(),
    }
}

fn in_words(resources: &Resources) -> String {
    let limits = [
        resources.memory.map(|size| size.to_string()),
        resources.cpu.map(|cores| format!("{cores} cpu")),
        resources.pids.map(|count| format!("{count} pids")),
    ];
    let limits: Vec<String> = limits.into_iter().flatten().collect();
    match limits.as_slice() {
        [] => "-".to_owned(),
        limits => limits.join(", "),
    }
}

//! Apps made up at random, and their `app.toml` in each form that TOML has for it.

use miren_api::app_file::{
    AppFile, Base, Build, Concurrency, DiskKept, DiskMount, Filesystem, MOST_SANDBOXES, Previews, Resources, Service,
};
use miren_api::id::AppName;
use miren_api::settings::{Bytes, show_duration};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::time::Duration;
use toml::{Table, Value};

type Env = BTreeMap<String, String>;

/// How tables are written.
#[derive(Clone, Copy, Debug)]
pub enum Form {
    /// `[services.web]`
    Headers,
    /// `services = { web = { … } }`
    Inline,
    /// `services.web.port = 1`
    Dotted,
}

pub fn form() -> impl Strategy<Value = Form> {
    prop_oneof![Just(Form::Headers), Just(Form::Inline), Just(Form::Dotted)]
}

/// An app whose services have only variables of their own, and the variables for all of them.
pub fn app() -> impl Strategy<Value = (AppFile, Env)> {
    let name = option::of(label().prop_map(|name| AppName::parse(&name).unwrap()));
    let services = btree_map(prop_oneof![Just("web".to_owned()), label()], service(), 1..4).prop_map(|mut services| {
        if let Some(web) = services.get_mut("web") {
            web.port = web.port.or(Some(3000));
        }
        services
    });
    let previews = (1..=MOST_SANDBOXES, duration(0)).prop_map(|(max_instances, scale_down_delay)| Previews {
        max_instances,
        scale_down_delay,
    });
    let include = vec("[!-~][ -~é]{0,9}", 0..3);
    (name, include, services, env(), previews).prop_map(|(name, include, services, common, previews)| {
        let base = Base::Host;
        let app = AppFile {
            name,
            image: None,
            build: Build::default(),
            base,
            previews,
            include,
            release: None,
            services,
        };
        (app, common)
    })
}

fn label() -> impl Strategy<Value = String> {
    "[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?"
}

fn env() -> impl Strategy<Value = Env> {
    btree_map("[A-LQ-Za-z_][A-Za-z0-9_]{0,8}", "(?s)[^\0]{0,12}", 0..4)
}

fn duration(least: u64) -> impl Strategy<Value = Duration> {
    (least..=24 * 3_600_000).prop_map(Duration::from_millis)
}

fn service() -> impl Strategy<Value = Service> {
    let command = "(?s)[^\0]{1,20}"
        .prop_map(|command: String| command.trim().to_owned())
        .prop_filter("a command says something", |command| !command.is_empty());
    let times = (duration(1), duration(0), duration(0), duration(0));
    let health_path = option::of("/[!-~]{0,12}");
    let port = option::of(1..=u16::MAX);
    let flags = (any::<bool>(), any::<bool>(), any::<bool>());
    let rest = (flags, concurrency(), resources());
    (command, port, times, health_path, rest, disks(), env()).prop_map(
        |(command, port, times, health_path, rest, disks, env)| {
            let (port_timeout, shutdown_timeout, drain_timeout, tunnel_timeout) = times;
            let ((read_only_root, init, hedge), concurrency, resources) = rest;
            Service {
                required: Default::default(),
                command,
                image: None,
                base: Base::Host,
                port,
                port_timeout,
                shutdown_timeout,
                drain_timeout,
                tunnel_timeout,
                health_path,
                read_only_root,
                init,
                hedge,
                concurrency,
                resources,
                env,
                disks,
            }
        },
    )
}

/// Read-only, so that any number of sandboxes and services can have them.
fn disks() -> impl Strategy<Value = Vec<DiskMount>> {
    use Filesystem::{Btrfs, Ext4, Xfs};
    let filesystem = option::of(prop_oneof![Just(Ext4), Just(Xfs), Just(Btrfs)]);
    let image = (option::of(1..=16_384_u32), filesystem)
        .prop_map(|(size_gb, filesystem)| DiskKept::Loop { size_gb, filesystem });
    let kept = prop_oneof![image, Just(DiskKept::Directory)];
    let disks = btree_map(label(), (label(), duration(0), kept), 0..3);
    disks.prop_map(|disks| {
        let disk =
            |(at, (name, (folder, lease_timeout, kept))): (usize, (String, (String, Duration, DiskKept)))| DiskMount {
                name,
                mount_path: format!("/{at}/{folder}").into(),
                read_only: true,
                lease_timeout,
                kept,
            };
        disks.into_iter().enumerate().map(disk).collect()
    })
}

fn concurrency() -> impl Strategy<Value = Concurrency> {
    let auto = (1..=10_000_u32, duration(0), 0..=1_000_u32, 0..=1_000_u32).prop_map(
        |(requests_per_instance, scale_down_delay, min, more)| Concurrency::Auto {
            requests_per_instance,
            scale_down_delay,
            min,
            max: (min + more).clamp(1, 1_000),
        },
    );
    prop_oneof![auto, (1..=1_000_u32).prop_map(|count| Concurrency::Fixed { count })]
}

fn resources() -> impl Strategy<Value = Resources> {
    let memory = option::of((4_u64 << 20..=16 << 40).prop_map(Bytes));
    let cpu = option::of(0.01..=1024.0);
    (memory, cpu, option::of(4..=1_000_000_u32)).prop_map(|(memory, cpu, pids)| Resources { memory, cpu, pids })
}

/// What reading [`table`] must give.
pub fn expected((app, common): &(AppFile, Env)) -> AppFile {
    let mut app = app.clone();
    for service in app.services.values_mut() {
        let own = std::mem::replace(&mut service.env, common.clone());
        service.env.extend(own);
    }
    app
}

/// The app as `app.toml` has it.
pub fn table((app, common): &(AppFile, Env)) -> Table {
    let mut root = Table::new();
    set(&mut root, "name", app.name.as_ref().map(AppName::as_str));
    set(&mut root, "include", Some(app.include.clone()));
    root.insert(
        "build".into(),
        Value::Table(Table::from_iter([
            ("base".into(), "host".into()),
            ("builder".into(), "auto".into()),
        ])),
    );
    let most = Value::Integer(app.previews.max_instances.into());
    let delay = show_duration(app.previews.scale_down_delay).into();
    root.insert(
        "ephemeral".into(),
        Value::Table(Table::from_iter([
            ("max_instances".into(), most),
            ("scale_down_delay".into(), delay),
        ])),
    );
    set(&mut root, "env", Some(pairs(common)));
    let services = app.services.iter();
    let services: Table = services
        .map(|(name, service)| (name.clone(), Value::Table(of_service(service))))
        .collect();
    root.insert("services".into(), Value::Table(services));
    root
}

fn set(table: &mut Table, key: &str, value: Option<impl Into<Value>>) {
    table.extend(value.map(|value| (key.to_owned(), value.into())));
}

fn pairs(env: &Env) -> Vec<Value> {
    let pair = |(key, value): (&String, &String)| {
        let entries = [("key", key), ("value", value)];
        Value::Table(
            entries
                .map(|(name, text)| (name.into(), text.as_str().into()))
                .into_iter()
                .collect(),
        )
    };
    env.iter().map(pair).collect()
}

fn of_service(service: &Service) -> Table {
    let mut table = Table::new();
    set(&mut table, "command", Some(service.command.as_str()));
    set(&mut table, "port", service.port.map(i64::from));
    set(&mut table, "port_timeout", Some(show_duration(service.port_timeout)));
    set(
        &mut table,
        "shutdown_timeout",
        Some(show_duration(service.shutdown_timeout)),
    );
    set(&mut table, "drain_timeout", Some(show_duration(service.drain_timeout)));
    set(
        &mut table,
        "tunnel_timeout",
        Some(show_duration(service.tunnel_timeout)),
    );
    let mut health = Table::new();
    set(&mut health, "path", service.health_path.as_deref());
    set(&mut table, "health", Some(health));
    set(&mut table, "read_only_root", Some(service.read_only_root));
    set(&mut table, "init", Some(service.init));
    set(&mut table, "hedge", Some(service.hedge));
    let mut sizes = Table::new();
    match service.concurrency {
        Concurrency::Fixed { count } => {
            set(&mut sizes, "mode", Some("fixed"));
            set(&mut sizes, "num_instances", Some(count));
        }
        Concurrency::Auto {
            requests_per_instance,
            scale_down_delay,
            min,
            max,
        } => {
            set(&mut sizes, "mode", Some("auto"));
            set(&mut sizes, "requests_per_instance", Some(requests_per_instance));
            set(&mut sizes, "scale_down_delay", Some(show_duration(scale_down_delay)));
            set(&mut sizes, "min_instances", Some(min));
            set(&mut sizes, "max_instances", Some(max));
        }
    }
    set(&mut table, "concurrency", Some(sizes));
    let mut limits = Table::new();
    set(
        &mut limits,
        "memory",
        service.resources.memory.map(|size| size.to_string()),
    );
    set(&mut limits, "cpu", service.resources.cpu);
    set(&mut limits, "pids", service.resources.pids);
    set(&mut table, "resources", Some(limits));
    set(&mut table, "env", Some(pairs(&service.env)));
    let disks = service.disks.iter().map(|disk| Value::Table(of_disk(disk)));
    set(&mut table, "disks", Some(disks.collect::<Vec<_>>()));
    table
}

fn of_disk(disk: &DiskMount) -> Table {
    let mut table = Table::new();
    set(&mut table, "name", Some(disk.name.as_str()));
    set(&mut table, "mount_path", disk.mount_path.to_str());
    set(&mut table, "read_only", Some(disk.read_only));
    set(&mut table, "lease_timeout", Some(show_duration(disk.lease_timeout)));
    match disk.kept {
        DiskKept::Loop { size_gb, filesystem } => {
            set(&mut table, "size_gb", size_gb);
            set(&mut table, "filesystem", filesystem.map(Filesystem::as_str));
        }
        DiskKept::Directory => set(&mut table, "provider", Some("directory")),
    }
    table
}

pub fn print(table: &Table, form: Form) -> String {
    match form {
        Form::Headers => table.to_string(),
        Form::Inline => table
            .iter()
            .map(|(key, value)| format!("{} = {value}\n", quoted(key)))
            .collect(),
        Form::Dotted => dotted("", table),
    }
}

fn dotted(path: &str, table: &Table) -> String {
    let line = |(key, value): (&String, &Value)| match value {
        Value::Table(inner) if !inner.is_empty() => dotted(&format!("{path}{}.", quoted(key)), inner),
        value => format!("{path}{} = {value}\n", quoted(key)),
    };
    table.iter().map(line).collect()
}

/// A key as a basic string on one line: that of a value may have several, which no key may.
fn quoted(key: &str) -> String {
    let escaped = key.chars().map(|c| match c {
        '"' | '\\' => format!("\\{c}"),
        c if c.is_control() => format!("\\u{:04x}", u32::from(c)),
        c => c.to_string(),
    });
    format!("\"{}\"", escaped.collect::<String>())
}

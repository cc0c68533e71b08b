//! One service of an app: its command and everything that decides how its sandboxes run.

use super::{Base, DiskMount, Environment, WEB, WEB_PORT, bytes_serde, disks, environment, limits};
use crate::id::check_label;
use crate::settings::{Bytes, Table, parse_bytes};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// One process type of an app.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Service {
    /// As the user wrote it; see [`command_line`](super::command_line). Empty: what its image runs by itself.
    pub command: String,
    /// An image that it runs as it is, without the app's folder; see [`dockerfile_of`](super::dockerfile_of).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// What it sees besides the app's folder, unless it has an image.
    #[serde(default, skip_serializing_if = "Base::is_host")]
    pub base: Base,
    /// Where it listens inside its sandbox, and `PORT` in its environment. None: it serves no requests, unless it is `web`
    /// and its image says where it listens.
    pub port: Option<u16>,
    /// How long it may take from its start until it listens.
    pub port_timeout: Duration,
    /// From SIGTERM, or what its image names as STOPSIGNAL, to SIGKILL.
    pub shutdown_timeout: Duration,
    /// How long its requests may go on once it is being retired.
    pub drain_timeout: Duration,
    /// How long its WebSockets may go on then, from the same moment. Left out where it is the usual: the spec hash stays.
    #[serde(default = "usual_tunnel_timeout", skip_serializing_if = "is_usual_tunnel_timeout")]
    pub tunnel_timeout: Duration,
    /// Path that must answer 2xx or 3xx before it counts as ready; none: listening is enough.
    pub health_path: Option<String>,
    /// Nothing but `/tmp` and its disks can be written to. Left out where it is not asked for: the spec hash stays.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only_root: bool,
    /// A process of ours is the first one of its sandboxes, passes signals on and reaps; else what it runs is, as for an image that
    /// brings an init of its own. Left out where it is: the spec hash stays.
    #[serde(default = "with_init", skip_serializing_if = "is_with_init")]
    pub init: bool,
    /// A request that only reads is asked of another sandbox when its own is silent for long. Left out where it is: the spec hash
    /// stays.
    #[serde(default = "hedged", skip_serializing_if = "is_hedged")]
    pub hedge: bool,
    pub concurrency: Concurrency,
    pub resources: Resources,
    pub env: BTreeMap<String, String>,
    /// Variables without which nothing is deployed. Left out where there are none.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub required: BTreeSet<String>,
    /// Absent in records of releases without disks, and left out where there are none: their spec hash stays.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disks: Vec<DiskMount>,
}

fn usual_tunnel_timeout() -> Duration {
    Duration::from_secs(30)
}

fn is_usual_tunnel_timeout(timeout: &Duration) -> bool {
    *timeout == usual_tunnel_timeout()
}

fn with_init() -> bool {
    true
}

fn is_with_init(init: &bool) -> bool {
    *init
}

/// What a service has that says nothing.
pub(crate) fn hedged() -> bool {
    true
}

pub(crate) fn is_hedged(hedge: &bool) -> bool {
    *hedge
}

/// How many sandboxes a service gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "lowercase")]
pub enum Concurrency {
    /// As many as the requests in flight need.
    Auto {
        requests_per_instance: u32,
        scale_down_delay: Duration,
        min: u32,
        max: u32,
    },
    /// Always this many.
    Fixed { count: u32 },
}

/// Concurrent requests to one sandbox of a `fixed` service, which sets no limit of its own.
pub const FIXED_CAPACITY: u32 = 1024;

/// Limits of each sandbox; none means the node's default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Resources {
    #[serde(with = "bytes_serde", default)]
    pub memory: Option<Bytes>,
    /// Processor cores; 0.5 is half of one.
    #[serde(default)]
    pub cpu: Option<f64>,
    /// Processes and threads.
    #[serde(default)]
    pub pids: Option<u32>,
}

/// What all services of an app have unless they say otherwise.
pub(super) struct Common {
    pub(super) variables: Environment,
    pub(super) image: Option<String>,
    pub(super) base: Base,
}

impl Common {
    /// Whether a service needs no command of its own.
    pub(super) fn has_image(&self) -> bool {
        self.image.is_some() || matches!(self.base, Base::Image(_))
    }
}

impl Service {
    /// The image that its sandboxes are made from, or on.
    pub fn any_image(&self) -> Option<&str> {
        match (&self.image, &self.base) {
            (Some(image), _) | (None, Base::Image(image)) => Some(image),
            (None, Base::Host | Base::Scratch) => None,
        }
    }

    /// A service that only a Procfile names, or nothing but an image: upstream's defaults for absent settings.
    pub(super) fn undeclared(name: &str, command: Option<&str>, common: &Common) -> Self {
        Self {
            command: command.unwrap_or_default().to_owned(),
            image: common.image.clone(),
            base: base_under(&common.image, &common.base),
            port: default_port(name, command.is_some()),
            port_timeout: Duration::from_secs(15),
            shutdown_timeout: Duration::from_secs(10),
            drain_timeout: Duration::from_secs(30),
            tunnel_timeout: usual_tunnel_timeout(),
            health_path: None,
            read_only_root: false,
            init: with_init(),
            hedge: hedged(),
            concurrency: default_concurrency(name),
            resources: Resources::default(),
            env: common.variables.set.clone(),
            required: common.variables.required.clone(),
            disks: Vec::new(),
        }
    }

    /// Variables that are required and have no value.
    pub fn missing(&self) -> impl Iterator<Item = &str> {
        let is_set = |name: &&String| self.env.get(*name).is_some_and(|value| !value.is_empty());
        self.required
            .iter()
            .filter(move |name| !is_set(name))
            .map(String::as_str)
    }

    /// Names of the disks its sandboxes write: such a service has one sandbox at a time.
    pub fn written_disks(&self) -> impl Iterator<Item = &str> {
        let written = self.disks.iter().filter(|disk| !disk.read_only);
        written.map(|disk| disk.name.as_str())
    }
}

/// What runs an image as it is has nothing under it.
fn base_under(image: &Option<String>, base: &Base) -> Base {
    match image {
        Some(_) => Base::Host,
        None => base.clone(),
    }
}

/// An image that runs its own command knows better where that listens.
fn default_port(name: &str, has_command: bool) -> Option<u16> {
    (name == WEB && has_command).then_some(WEB_PORT)
}

fn default_concurrency(name: &str) -> Concurrency {
    if name == WEB {
        let scale_down_delay = Duration::from_secs(15 * 60);
        Concurrency::Auto {
            requests_per_instance: 10,
            scale_down_delay,
            min: 0,
            max: 20,
        }
    } else {
        Concurrency::Fixed { count: 1 }
    }
}

/// Reads `[services.<name>]`; nothing when it has no command, which is reported.
pub(super) fn declare(
    name: &str,
    table: &mut Table<'_, '_, '_>,
    procfile: Option<&str>,
    common: &Common,
) -> Option<Service> {
    if let (true, Err(why)) = (table.is_present(), check_label(name)) {
        table.refuse_table(format!("{name:?} is no name of a service: it {why}"));
    }
    let command = command(table).or_else(|| procfile.map(str::to_owned));
    let doc = "Image that it runs as it is, in place of the app's.";
    let image = table
        .optional("image", doc, limits::image)
        .or_else(|| common.image.clone());
    let port = port(table).or(default_port(name, command.is_some()));
    let own = environment(table);
    let mut variables = common.variables.clone();
    variables.set.extend(own.set);
    variables.required.extend(own.required);
    let port_timeout = table.parsed(
        "port_timeout",
        "15s",
        "From its start until it listens; at most a day, as all times here.",
        limits::some_time,
    );
    let (drain_timeout, tunnel_timeout, shutdown_timeout) = retirement(table);
    let health_path = table.table("health", |health| {
        let doc = "Path that must answer 2xx or 3xx before it is ready.";
        health.optional("path", doc, limits::http_path)
    });
    let read_only_root = read_only_root(table);
    let init = init(table);
    let hedge = hedge(table);
    let disks = disks::declare(table);
    let is_single = disks.iter().any(|disk| !disk.read_only);
    let concurrency = table.table("concurrency", |table| concurrency(name, is_single, table));
    let resources = table.table("resources", resources);
    let needs_command = image.is_none() && !matches!(common.base, Base::Image(_));
    if needs_command && command.is_none() && table.is_present() && !table.has("command") {
        table.refuse(
            "command",
            "the service has no command: add command = \"…\", or a line in the Procfile",
        );
    }
    if command.is_none() && (needs_command || table.has("command")) {
        return None;
    }
    Some(Service {
        command: command.unwrap_or_default(),
        base: base_under(&image, &common.base),
        image,
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
        env: variables.set,
        required: variables.required,
        disks,
    })
}

fn command(table: &mut Table<'_, '_, '_>) -> Option<String> {
    let doc = "What to run; overrides the Procfile and what its image runs by itself.";
    table.optional("command", doc, limits::command)
}

/// What a retired sandbox gets, one after the other: for its requests, for its WebSockets, and from SIGTERM on.
fn retirement(table: &mut Table<'_, '_, '_>) -> (Duration, Duration, Duration) {
    let doc = "From SIGTERM, or the STOPSIGNAL of its image, to SIGKILL.";
    let shutdown = table.parsed("shutdown_timeout", "10s", doc, limits::bounded);
    let doc = "How long requests may go on while it is retired.";
    let drain = table.parsed("drain_timeout", "30s", doc, limits::bounded);
    let doc = "How long WebSockets may go on while it is retired; then their clients are told to connect anew (1012).";
    let tunnel = table.parsed("tunnel_timeout", "30s", doc, limits::bounded);
    (drain, tunnel, shutdown)
}

fn read_only_root(table: &mut Table<'_, '_, '_>) -> bool {
    let doc = "Nothing but `/tmp`, which is kept in memory, and its disks can be written to; not `/app` either.";
    table.boolean("read_only_root", false, doc)
}

fn init(table: &mut Table<'_, '_, '_>) -> bool {
    let doc = "A small init is the first process of its sandboxes: it reaps orphans and passes signals on. `false` for what brings its own.";
    table.boolean("init", with_init(), doc)
}

fn hedge(table: &mut Table<'_, '_, '_>) -> bool {
    let doc = "A GET, HEAD or OPTIONS is asked of another sandbox when its own answers nobody for far longer than the service ever takes; \
               `false` where even asking twice does harm.";
    table.boolean("hedge", hedged(), doc)
}

fn port(table: &mut Table<'_, '_, '_>) -> Option<u16> {
    table.optional("port_name", "For whoever reads the file.", limits::path);
    table.choice("port_type", "http", "What it speaks there.", &[("http", ())]);
    let doc = "Port it listens on inside its sandbox; `web` defaults to 3000, or to what an image exposes that runs its own command.";
    let port = table.optional_integer("port", 1..=65535, doc);
    port.map(|port| u16::try_from(port).unwrap_or(u16::MAX))
}

/// `is_single`: it writes a disk, and so has one sandbox at most.
fn concurrency(name: &str, is_single: bool, table: &mut Table<'_, '_, '_>) -> Concurrency {
    let fixed_by_default = is_single || matches!(default_concurrency(name), Concurrency::Fixed { .. });
    let default = if fixed_by_default { "fixed" } else { "auto" };
    let fixed = table.choice(
        "mode",
        default,
        "`auto` follows the load, `fixed` keeps `num_instances`.",
        &[("auto", false), ("fixed", true)],
    );
    let requests = table.integer(
        "requests_per_instance",
        10,
        1..=10_000,
        "Concurrent requests one sandbox takes (`auto`).",
    );
    let scale_down_delay = table.parsed(
        "scale_down_delay",
        "15m",
        "How long one must be idle before it is retired (`auto`).",
        limits::bounded,
    );
    let min = table.integer("min_instances", 0, 0..=1_000, "Never fewer (`auto`).");
    let most = if is_single { 1 } else { 20 };
    let max = table.integer("max_instances", most, 1..=1_000, "Never more (`auto`).");
    let count = table.integer("num_instances", 1, 1..=1_000, "How many (`fixed`).");
    if table.is_sound() {
        refuse_contradictions(table, fixed, min, max);
        for (key, number) in [("max_instances", max), ("num_instances", count)] {
            if is_single && number > 1 {
                let message = format!("is {number}, but the service writes a disk, which one sandbox has at a time");
                table.refuse(key, message);
            }
        }
    }
    if fixed {
        return Concurrency::Fixed { count: small(count) };
    }
    Concurrency::Auto {
        requests_per_instance: small(requests),
        scale_down_delay,
        min: small(min),
        max: small(max),
    }
}

/// Keys of the other mode, and bounds the wrong way round.
fn refuse_contradictions(table: &mut Table<'_, '_, '_>, fixed: bool, min: i64, max: i64) {
    for key in [
        "requests_per_instance",
        "scale_down_delay",
        "min_instances",
        "max_instances",
    ] {
        if fixed && table.has(key) {
            table.refuse(key, "does not go with mode = \"fixed\"");
        }
    }
    if !fixed && table.has("num_instances") {
        table.refuse(
            "num_instances",
            "does not go with mode = \"auto\"; set mode = \"fixed\", or min_instances",
        );
    }
    if min > max {
        table.refuse("min_instances", format!("is {min}, more than max_instances = {max}"));
    }
}

fn small(number: i64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn resources(table: &mut Table<'_, '_, '_>) -> Resources {
    let memory = table.optional("memory", "Memory of one sandbox, like \"256MiB\".", |text| {
        limits::memory(parse_bytes(text)?)
    });
    let doc = "Processor cores of one sandbox; 0.5 is half of one.";
    let cpu = table.optional_number("cpu", 0.01..=1024.0, doc);
    let pids = table.optional_integer("pids", 4..=1_000_000, "Processes and threads of one sandbox.");
    Resources {
        memory,
        cpu,
        pids: pids.map(small),
    }
}

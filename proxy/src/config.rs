//! The settings of `proxy.toml`: every key, its default, and what is wrong with a file.

use miren_api::Server;
use miren_api::settings::{self, Bytes, KeyDoc, Problem, Problems, Table};
use miren_loader::SlotSource;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

mod network;
#[cfg(test)]
mod tests;

pub use network::Network;

/// Where the packages put the file.
pub const DEFAULT_PATH: &str = "/etc/miren/proxy.toml";
/// Where control's packages put the table: with the kernel, and without.
const AUTO_SLOTS: &str = "pinned:/sys/fs/bpf/miren,file:/run/miren/slots";

/// What those get who are still there when their time is over: enough to say an error or a goodbye to each.
pub const FORCED: Duration = Duration::from_secs(2);
/// What a stop has to leave of the supervisor's patience: to give leases back, and to end.
const SUPERVISOR_SLACK: Duration = Duration::from_secs(5);

/// Everything an operator can set.
#[derive(Clone, Debug)]
pub struct Config {
    pub control: Server,
    pub data_dir: PathBuf,
    /// Whom the proxy becomes after it has opened what only root may open.
    pub user: String,
    /// Where the slot table may be: the first place that has one.
    pub slots: Vec<SlotSource>,
    /// Threads that serve requests.
    pub threads: usize,
    pub http: Vec<SocketAddr>,
    pub admin: SocketAddr,
    pub timeouts: Timeouts,
    pub limits: Limits,
    /// Peers whose `X-Forwarded-*` and `X-Request-Id` headers are believed.
    pub trusted: Vec<Network>,
    pub drain: Drain,
}

/// How long what is under way may take once the proxy was told to stop.
#[derive(Clone, Copy, Debug)]
pub struct Drain {
    /// Requests are still taken so long, before that.
    pub lame_duck: Duration,
    pub request_timeout: Duration,
    pub tunnel_timeout: Duration,
    /// Of tunnels where a successor took over.
    pub upgrade_tunnel_timeout: Duration,
}

impl Drain {
    /// The most that a stop takes.
    fn longest(&self) -> Duration {
        self.lame_duck + self.request_timeout.max(self.tunnel_timeout) + FORCED
    }
}

/// How long each step of a request may take.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// From the first byte of a request to the end of its head.
    pub header: Duration,
    /// A client connection between requests; also a client that neither sends nor takes a byte of a request.
    pub idle: Duration,
    /// All of a request's body, as far as the client is waited for.
    pub body: Duration,
    pub upstream_connect: Duration,
    /// From the last byte of the request to the head of the answer.
    pub upstream_first_byte: Duration,
    /// A kept connection to a sandbox between requests.
    pub upstream_idle: Duration,
    pub wait_for_capacity: Duration,
}

/// How much of each thing there may be.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// A request's head: request line and headers.
    pub header_bytes: Bytes,
    /// Least bytes a second of a body, of a request or an answer, on average after the first seconds; 0 is no limit.
    pub body_rate: Bytes,
    /// Requests that wait for room, per version and service.
    pub waiting_requests: usize,
    /// What the heads of those may take together, with the beginnings of their bodies.
    pub waiting_bytes: Bytes,
    /// What requests may hold before they have a sandbox, all together.
    pub request_bytes: Bytes,
    /// Open client connections, all together; 0 until the limit of descriptors is known.
    pub connections: usize,
    /// Open connections of one client address; 0 is a part of all.
    pub connections_per_ip: u32,
    /// Idle connections kept to sandboxes, all together.
    pub upstream_idle: usize,
}

impl Config {
    /// Reads a file; all problems are reported at once.
    pub fn read(path: &Path) -> Result<Self, Problems> {
        let text = std::fs::read_to_string(path).map_err(|error| unreadable(path, &error))?;
        Self::parse(path, &text)
    }

    /// Reads settings from text; `path` only names them in messages.
    pub fn parse(path: &Path, text: &str) -> Result<Self, Problems> {
        settings::read(path, text, declare)
    }
}

/// Every key of `proxy.toml`, for the generated reference.
pub fn reference() -> Vec<KeyDoc> {
    settings::describe(declare)
}

/// The same as a JSON Schema.
pub fn schema() -> serde_json::Value {
    settings::schema("proxy.toml", declare)
}

fn unreadable(path: &Path, error: &std::io::Error) -> Problems {
    let message = format!("cannot be read: {error}; create it, or name another with --config");
    Problems(vec![Problem::of_file(path, message)])
}

fn declare(root: &mut Table<'_, '_, '_>) -> Config {
    let control = root.parsed(
        "control",
        "unix:/run/miren/control.sock",
        "Where miren-control listens.",
        Server::parse,
    );
    let data_dir = root.path(
        "data_dir",
        "/var/lib/miren-proxy",
        "Folder for the copies of the routing snapshot.",
    );
    let user = root.string(
        "user",
        "miren-proxy",
        "User the proxy becomes once it listens. Ignored unless started as root.",
    );
    let slots = slots(root);
    let threads = root.integer("threads", 0, 0..=1024, "Threads that serve requests; 0 is one per CPU.");
    let listen = root.table("listen", |table| {
        table.list(
            "http",
            &["0.0.0.0:80"],
            "Addresses for plain HTTP, unless sockets named `http` are inherited.",
            address,
        )
    });
    let admin = root.table("admin", |table| {
        table.address(
            "listen",
            "127.0.0.1:9465",
            "Address for /metrics, /healthz and /readyz.",
        )
    });
    Config {
        control,
        data_dir,
        user,
        slots,
        threads: worker_threads(threads),
        http: listen,
        admin,
        timeouts: root.table("timeouts", timeouts),
        limits: root.table("limits", limits),
        trusted: root.table("trust", |table| {
            let doc = "Addresses or networks whose X-Forwarded-* and X-Request-Id headers are believed.";
            table.list("proxies", &[], doc, Network::parse)
        }),
        drain: root.table("drain", drain),
    }
}

fn drain(table: &mut Table<'_, '_, '_>) -> Drain {
    let supervisor = table.duration(
        "supervisor_timeout",
        "90s",
        "Time after which the supervisor kills a proxy that it told to stop (`TimeoutStopSec`); 0 is never. Settings under which a stop may \
         come closer to it than 5 s are refused.",
    );
    let drain = drain_times(table);
    let needed = drain.longest() + SUPERVISOR_SLACK;
    if !supervisor.is_zero() && needed > supervisor {
        let message = format!(
            "is {}, and lame_duck, the longer of request_timeout and tunnel_timeout, and 7s take {}: a proxy that stops would be killed; \
             raise it together with TimeoutStopSec of its unit, or lower the others",
            settings::show_duration(supervisor),
            settings::show_duration(needed),
        );
        table.refuse("supervisor_timeout", message);
    }
    drain
}

fn drain_times(table: &mut Table<'_, '_, '_>) -> Drain {
    Drain {
        lame_duck: table.duration(
            "lame_duck",
            "0s",
            "Time for which a proxy that was told to stop is not ready and serves on: what a load balancer in front of it takes to notice.",
        ),
        request_timeout: table.duration(
            "request_timeout",
            "30s",
            "Time for requests in flight once no new connection is taken; then 504, or a cut.",
        ),
        tunnel_timeout: table.duration(
            "tunnel_timeout",
            "30s",
            "Time for WebSockets and other tunnels once no new connection is taken.",
        ),
        upgrade_tunnel_timeout: table.duration(
            "upgrade_tunnel_timeout",
            "1h",
            "The same where a successor has taken over by `miren-proxy upgrade`: nobody waits for the end of the old process.",
        ),
    }
}

fn slots(root: &mut Table<'_, '_, '_>) -> Vec<SlotSource> {
    root.parsed(
        "slots",
        "auto",
        "The slot table: `pinned:FOLDER` on a bpffs, `file:PATH` where control runs with fast_path.mode = \"off\", or several \
         of these with commas between: the first place that has one. `auto` is pinned:/sys/fs/bpf/miren,file:/run/miren/slots.",
        parse_slots,
    )
}

fn timeouts(table: &mut Table<'_, '_, '_>) -> Timeouts {
    Timeouts {
        header: table.duration("header", "10s", "Time for a client to send a whole request head."),
        idle: table.duration("idle", "60s", "Time a client connection may stay open between requests, or stall in one."),
        body: table.duration(
            "body",
            "1h",
            "Time for a client to send a whole request body; what an app takes to read it does not count.",
        ),
        upstream_connect: table.duration("upstream_connect", "1s", "Time to connect to a sandbox."),
        upstream_first_byte: table.duration(
            "upstream_first_byte",
            "60s",
            "Time for a sandbox to begin its answer once it has the request; WebSockets and streams that began are not limited.",
        ),
        upstream_idle: table.duration(
            "upstream_idle",
            "4s",
            "Time an unused connection to a sandbox is kept; less than the keep-alive time of the app (5s in Node).",
        ),
        wait_for_capacity: table.duration("wait_for_capacity", "60s", "Time a request waits for a sandbox with room."),
    }
}

fn limits(table: &mut Table<'_, '_, '_>) -> Limits {
    Limits {
        header_bytes: table.bytes(
            "header_bytes",
            "64KiB",
            "Largest request head; more is answered with 431.",
        ),
        body_rate: table.bytes(
            "body_rate",
            "1KiB",
            "Least bytes a second of a body, of a request or an answer, on average after 10 seconds of waiting for its client; a slower one is answered \
             with 408, or its answer is cut. 0 is no limit.",
        ),
        waiting_requests: count(table.integer(
            "waiting_requests",
            1000,
            0..=1_000_000,
            "Requests waiting for a sandbox, per version and service.",
        )),
        waiting_bytes: table.bytes(
            "waiting_bytes",
            "64MiB",
            "Memory of the heads of those requests, and of the beginnings of their bodies.",
        ),
        request_bytes: table.bytes(
            "request_bytes",
            "256MiB",
            "Memory of large heads and of the beginnings of bodies before they have a sandbox, all together; more is answered with 503.",
        ),
        connections: count(table.integer(
            "connections",
            0,
            // More than a process can have descriptors.
            0..=2_000_000_000,
            "Open client connections, all together. When there are as many, those longest without a request are closed for new \
             ones; where all serve requests, new ones are closed at once. 0 is what the limit of descriptors (`LimitNOFILE`) \
             leaves beside 256 of the proxy's own and `upstream_idle`, at most 100000.",
        )),
        connections_per_ip: u32::try_from(table.integer(
            "connections_per_ip",
            0,
            0..=1_000_000,
            "Open connections of one client address, or of one /64 of IPv6; more are closed at once. Addresses of \
             `trust.proxies` are not counted. 0 is three quarters of `connections`, and those longest without a request are \
             closed for new ones of the same address.",
        ))
        .unwrap_or(0),
        upstream_idle: count(table.integer(
            "upstream_idle",
            4096,
            0..=1_000_000,
            "Unused connections kept to sandboxes, all together; as many as requests at once.",
        )),
    }
}

/// The setting was checked to be in a range that fits.
fn count(setting: i64) -> usize {
    usize::try_from(setting).unwrap_or(usize::MAX)
}

fn worker_threads(setting: i64) -> usize {
    match count(setting) {
        0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        threads => threads,
    }
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("{text:?} is not ADDRESS:PORT"))
}

fn parse_slots(text: &str) -> Result<Vec<SlotSource>, String> {
    let text = if text == "auto" { AUTO_SLOTS } else { text };
    // A comma in a path is part of it, unless it is followed by another place.
    let marked = text.replace(",pinned:/", "\npinned:/").replace(",file:/", "\nfile:/");
    marked.split('\n').map(parse_place).collect()
}

fn parse_place(text: &str) -> Result<SlotSource, String> {
    match text.split_once(':') {
        Some(("pinned", path)) if path.starts_with('/') => Ok(SlotSource::Pinned(path.into())),
        Some(("file", path)) if path.starts_with('/') => Ok(SlotSource::File(path.into())),
        _ => Err(format!(
            "{text:?} is not \"auto\", \"pinned:/FOLDER\" or \"file:/PATH\""
        )),
    }
}

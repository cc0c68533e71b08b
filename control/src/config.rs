//! Decides what an operator can set in `control.toml`, and what holds when nothing is set.

use crate::policy::{DrainPolicy, Policy};
use miren_api::id::check_label;
use miren_api::settings::{self, Bytes, KeyDoc, Problems, Table};
use miren_image::{Limits, Registries};
use miren_loader::Mode;
use miren_sandbox::RuntimeConfig;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

mod drain;
mod network;
mod policy;
#[cfg(test)]
mod tests;

pub use drain::{Drain, Ending, OnStopDrain};
pub use network::Network;

/// Where the file is when nobody says otherwise.
pub const PATH: &str = "/etc/miren/control.toml";

/// What happens to the sandboxes when the daemon is told to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnStop {
    /// They run on; the next daemon adopts them.
    Keep,
    /// They drain and stop, and everything made for them is removed.
    Remove,
}

/// Who may use the endpoints for proxies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProxyUser {
    Name(String),
    Uid(u32),
}

/// Where records are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreKind {
    Sqlite,
}

/// The API's limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Api {
    pub proxy_user: ProxyUser,
    /// Largest JSON body.
    pub body_limit: Bytes,
    /// Largest unpacked folder.
    pub artifact_limit: Bytes,
}

/// The slot table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FastPathSettings {
    pub mode: Mode,
    pub pin_dir: PathBuf,
}

/// Where images come from.
#[derive(Clone, Debug)]
pub struct ImageSettings {
    /// In the form of docker's `config.json`; one that is not there holds nothing.
    pub auth_file: PathBuf,
    /// Images fetched at a time.
    pub at_once: usize,
    pub limits: Limits,
    pub build: BuildSettings,
}

/// How Dockerfiles are built.
#[derive(Clone, Debug)]
pub struct BuildSettings {
    /// Longest build.
    pub limit: Duration,
    /// Of all processes of a build together.
    pub memory: Bytes,
    /// Most processes and threads of a build.
    pub processes: u64,
    /// The host's user and group that is root in builds.
    pub first_user: u32,
    /// Layers of earlier builds.
    pub cache: Bytes,
    /// Where builders are looked for first.
    pub programs: Option<PathBuf>,
}

/// Everything in `control.toml`.
#[derive(Clone, Debug)]
pub struct Config {
    pub name: String,
    pub data_dir: PathBuf,
    pub run_dir: PathBuf,
    pub on_stop: OnStop,
    pub api: Api,
    pub store: StoreKind,
    pub fast_path: FastPathSettings,
    pub network: Network,
    pub runtime: RuntimeConfig,
    pub images: ImageSettings,
    pub drain: Drain,
    pub policy: Policy,
    pub metrics: SocketAddr,
}

impl Config {
    /// Reads the text of the file at `path`; every problem is reported at once.
    pub fn parse(path: &Path, text: &str) -> Result<Self, Problems> {
        settings::read(path, text, declare)
    }

    /// Reads the file. A missing file at the default place means the defaults.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        match std::fs::read_to_string(path) {
            Ok(text) => Ok(Self::parse(path, &text)?),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && path == Path::new(PATH) => {
                Ok(Self::parse(path, "")?)
            }
            Err(error) => Err(anyhow::anyhow!("reading {}: {error}", path.display())),
        }
    }

    /// Where the proxy of this machine listens.
    pub fn ingress(&self) -> Vec<SocketAddr> {
        if !self.network.ingress.is_empty() {
            return self.network.ingress.clone();
        }
        let urls = &self.policy.urls;
        let usual: &[u16] = if urls.scheme == "https" { &[80, 443] } else { &[80] };
        let ports = urls.port.as_ref().map_or(usual, std::slice::from_ref);
        ports.iter().map(|port| (Ipv4Addr::UNSPECIFIED, *port).into()).collect()
    }

    pub fn socket(&self) -> PathBuf {
        self.run_dir.join("control.sock")
    }

    pub fn store_file(&self) -> PathBuf {
        self.data_dir.join("control.db")
    }

    pub fn artifact_dir(&self) -> PathBuf {
        self.data_dir.join("artifacts")
    }

    pub fn image_dir(&self) -> PathBuf {
        self.data_dir.join("images")
    }

    pub fn disk_dir(&self) -> PathBuf {
        self.data_dir.join("disks")
    }

    pub fn log_dir(&self) -> PathBuf {
        self.data_dir.join("logs")
    }
}

/// Every key, for the generated reference.
pub fn reference() -> Vec<KeyDoc> {
    settings::describe(declare)
}

/// The same as a JSON Schema.
pub fn schema() -> serde_json::Value {
    settings::schema("control.toml", declare)
}

fn declare(root: &mut Table<'_, '_, '_>) -> Config {
    let on_stop = root.choice(
        "on_stop",
        "keep",
        "On SIGTERM: `keep` leaves sandboxes running, `remove` drains and stops them.",
        &[("keep", OnStop::Keep), ("remove", OnStop::Remove)],
    );
    let mut config = Config {
        name: root.parsed("name", "miren", "Name of this node: a DNS label.", |text| {
            check_label(text)
                .map(|()| text.to_owned())
                .map_err(|why| format!("{text:?} {why}"))
        }),
        data_dir: root.parsed("data_dir", "/var/lib/miren", "What must survive a reboot.", whole_path),
        run_dir: root.parsed(
            "run_dir",
            "/run/miren",
            "Sockets, locks: what a reboot may take.",
            whole_path,
        ),
        on_stop,
        api: root.table("api", api),
        store: root.table("store", |store| {
            store.choice(
                "kind",
                "sqlite",
                "Where records are kept.",
                &[("sqlite", StoreKind::Sqlite)],
            )
        }),
        fast_path: root.table("fast_path", fast_path),
        network: root.table("network", network::declare),
        runtime: root.table("runtime", runtime),
        images: root.table("images", images),
        drain: root.table("drain", |table| drain::declare(table, on_stop)),
        policy: policy::declare(root),
        metrics: root.table("metrics", |metrics| {
            metrics.address("listen", "127.0.0.1:9464", "Where /metrics is served.")
        }),
    };
    config.policy.drain = DrainPolicy {
        at_most: config.drain.at_most(),
        node_timeout: config.drain.node_timeout,
    };
    config
}

fn runtime(table: &mut Table<'_, '_, '_>) -> RuntimeConfig {
    let kind = table.choice(
        "kind",
        "embedded",
        "What makes sandboxes: `embedded` needs no other daemon, `containerd` uses the one at `socket`.",
        &[("embedded", false), ("containerd", true)],
    );
    let socket = table.parsed(
        "socket",
        "/run/containerd/containerd.sock",
        "Where containerd listens; only for `kind = \"containerd\"`.",
        whole_path,
    );
    match kind {
        true => RuntimeConfig::Containerd { socket },
        false => RuntimeConfig::Embedded,
    }
}

fn images(images: &mut Table<'_, '_, '_>) -> ImageSettings {
    let auth_file = images.parsed(
        "auth_file",
        "/root/.docker/config.json",
        "Credentials for registries, as `docker login` writes them; read at every pull.",
        whole_path,
    );
    let at_once = images.integer("at_once", 3, 1..=64, "Images pulled at a time; the others wait.");
    let whole = images.duration("pull_timeout", "30m", "Longest pull of one image.");
    let doc = "Registries, as host or host:port, that are spoken to without TLS, besides those on loopback.";
    let plain_http = images.list("plain_http", &[], doc, |name| Ok::<_, String>(name.to_owned()));
    let doc = "Registries of this machine and its network that deploys and Dockerfiles may name, as host or host:port, besides those \
               in `plain_http`; also where such a registry sends for tokens and blobs. A host without a port stands for all its \
               ports.";
    let registries = images.list("registries", &[], doc, |name| Ok::<_, String>(name.to_owned()));
    let registries = Registries::new([registries, plain_http.clone()].concat());
    ImageSettings {
        auth_file,
        at_once: usize::try_from(at_once).unwrap_or(1),
        limits: Limits {
            whole,
            plain_http,
            registries,
            ..Limits::default()
        },
        build: build(images),
    }
}

fn build(images: &mut Table<'_, '_, '_>) -> BuildSettings {
    BuildSettings {
        limit: images.duration("build_timeout", "30m", "Longest build of one Dockerfile, from its turn on."),
        memory: images.bytes(
            "build_memory",
            "2GiB",
            "Memory of a build: of all its processes together.",
        ),
        processes: images
            .integer("build_processes", 4096, 16..=1 << 22, "Most processes and threads of a build.")
            .unsigned_abs(),
        first_user: first_user(images),
        cache: images.bytes(
            "build_cache",
            "10GiB",
            "Size up to which buildah's layers are kept for the next build; buildkit and docker have limits of their own.",
        ),
        programs: images.optional(
            "build_programs",
            "Folder where builders are looked for before the usual places.",
            whole_path,
        ),
    }
}

/// Builds have users of their own: as many as images use.
fn first_user(images: &mut Table<'_, '_, '_>) -> u32 {
    let doc = "The host's user and group that is root in a build. It and the 65,535 after it must be nobody else's \
               (/etc/subuid, /etc/passwd).";
    let last = i64::from(u32::MAX) - 65_536;
    let first = images.integer("build_first_user", 1_900_000_000, 100_000..=last, doc);
    u32::try_from(first).unwrap_or(u32::MAX)
}

fn whole_path(text: &str) -> Result<PathBuf, String> {
    match Path::new(text) {
        path if path.is_absolute() => Ok(path.to_owned()),
        _ => Err(format!("{text:?} is not a whole path; begin it with '/'")),
    }
}

fn api(api: &mut Table<'_, '_, '_>) -> Api {
    Api {
        proxy_user: api.parsed(
            "proxy_user",
            "miren-proxy",
            "User, by name or number, that may use the endpoints for proxies.",
            |text| match text.parse() {
                Ok(uid) => Ok(ProxyUser::Uid(uid)),
                Err(_) if text.is_empty() => Err("is empty".to_owned()),
                Err(_) => Ok(ProxyUser::Name(text.to_owned())),
            },
        ),
        body_limit: api.bytes("body_limit", "1MiB", "Largest JSON body that is read."),
        artifact_limit: api.bytes(
            "artifact_limit",
            "1GiB",
            "Largest folder that can be deployed, unpacked.",
        ),
    }
}

fn fast_path(fast_path: &mut Table<'_, '_, '_>) -> FastPathSettings {
    FastPathSettings {
        mode: fast_path.choice(
            "mode",
            "auto",
            "`kernel`: hooks in the kernel, or fail; `off`: a file; `auto`: the kernel if it can.",
            &[("auto", Mode::Auto), ("kernel", Mode::Kernel), ("off", Mode::Off)],
        ),
        pin_dir: fast_path.parsed(
            "pin_dir",
            "/sys/fs/bpf/miren",
            "Folder on a bpffs where maps and links are pinned.",
            whole_path,
        ),
    }
}

//! What every test needs: a slot table, a fake control, the proxy between them, and a way to wait for things.

use crate::app::App;
use crate::client::{Client, PATIENCE, Response, ask, get};
use crate::control::Control;
use crate::proxy::Proxy;
use miren_api::id::NodeId;
use miren_api::lease::{AcquireRequest, Lease, LeaseKey};
use miren_api::routing::{AppRouting, EphemeralRoute, RouteDestination, RouteRule, RoutingSnapshot};
use miren_api::{AppName, SandboxId, VersionId};
use miren_loader::{FastPath, FastPathConfig, Mode, State};
use miren_proxy::replace::Until;
use miren_proxy::{Prepared, StartError, Stop};
use std::fs::DirEntry;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

pub const HOST: &str = "shop.example.com";
/// The history that routing of the tests is of, unless they say otherwise.
pub const LINEAGE: &str = "0123456789abcdef";

pub struct Stage {
    pub folder: tempfile::TempDir,
    pub table: FastPath,
    pub control: Control,
    pub proxy: Proxy,
    next_slot: AtomicU32,
    settings: String,
}

/// A sandbox generation of a test.
#[derive(Clone, Copy, Debug)]
pub struct Sandbox {
    pub key: LeaseKey,
}

impl Stage {
    /// A proxy with `settings` (more lines of proxy.toml) that follows control; `shop-v1` is active at [`HOST`].
    pub async fn new(settings: &str) -> Self {
        let mut stage = Self::without_snapshot(settings).await;
        stage.control.publish(&snapshot(1, "shop-v1"));
        stage.proxy.wait_until_ready().await;
        stage
    }

    /// As [`Stage::new`], before control said anything.
    pub async fn without_snapshot(settings: &str) -> Self {
        log();
        let folder = tempfile::tempdir().unwrap();
        let table = open_table(&folder.path().join("slots"));
        let mut control = Control::new();
        control.says(table.table().as_str());
        control.start(&folder.path().join("control.sock"));
        let proxy = Proxy::start(folder.path(), settings);
        Self {
            folder,
            table,
            control,
            proxy,
            next_slot: AtomicU32::new(0),
            settings: settings.to_owned(),
        }
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("control.sock")
    }

    pub fn address(&self) -> SocketAddr {
        self.proxy.addresses.http[0]
    }

    /// Stops the proxy at once and starts another on the same folder.
    pub async fn restart_proxy(&mut self) {
        self.proxy.stop.send_replace(Stop::Now);
        let folder = self.folder.path();
        let old = std::mem::replace(&mut self.proxy, Proxy::start(folder, &self.settings));
        old.stop.send_replace(Stop::Now);
        old.task.abort();
        let _ = old.task.await;
    }

    /// Starts another proxy in the place of the one that runs, which is returned.
    pub async fn upgrade(&mut self) -> Proxy {
        let mut successor = self.successor().await.unwrap_or_else(|error| panic!("{error}"));
        successor.wait_until_ready().await;
        std::mem::replace(&mut self.proxy, successor)
    }

    /// One that was given the sockets of the proxy that runs, and makes the best of it.
    pub async fn successor(&self) -> Result<Proxy, StartError> {
        self.successor_until(None).await
    }

    /// One that whoever started it gives up at that time.
    pub async fn successor_until(&self, until: Option<Until>) -> Result<Proxy, StartError> {
        let config = Proxy::config(self.folder.path(), &self.settings);
        let asked = tokio::task::spawn_blocking(move || Prepared::take_over(config, until)).await;
        asked.unwrap().map(|(prepared, _)| Proxy::of(prepared))
    }

    /// Waits until the proxy that runs can be asked for its sockets.
    pub async fn may_be_upgraded(&self) {
        let path = self.upgrade_socket();
        becomes("the socket of upgrades", true, || path.exists()).await;
    }

    pub fn upgrade_socket(&self) -> PathBuf {
        self.folder.path().join("data/upgrade.sock")
    }

    /// A RUNNING sandbox in a slot of its own, not granted to anybody.
    pub fn run(&self, address: SocketAddr) -> Sandbox {
        self.run_in(self.next_slot.fetch_add(1, Ordering::SeqCst), address)
    }

    /// The next generation of a slot, RUNNING.
    pub fn run_in(&self, slot: u32, address: SocketAddr) -> Sandbox {
        let generation = self.table.begin(slot, address).unwrap();
        self.table.advance(slot, generation, State::Running).unwrap();
        Sandbox {
            key: LeaseKey {
                node: NodeId::FIRST,
                slot,
                generation,
            },
        }
    }

    /// A RUNNING sandbox that control grants `capacity` requests to, for `version`.
    pub fn grant(&self, version: &str, app: &App, capacity: u32) -> Sandbox {
        let sandbox = self.run(app.address);
        self.grant_lease(version, sandbox, app.address, capacity);
        sandbox
    }

    pub fn grant_lease(&self, version: &str, sandbox: Sandbox, endpoint: SocketAddr, capacity: u32) {
        let id = SandboxId::from_text(format!("sb-{}-{}", sandbox.key.slot, sandbox.key.generation));
        let lease = Lease {
            key: sandbox.key,
            sandbox: id,
            endpoint,
            capacity,
        };
        self.control
            .change(|inner| inner.leases.entry(version.to_owned()).or_default().push(lease));
    }

    /// Control grants this sandbox no more.
    pub fn revoke(&self, version: &str, sandbox: Sandbox) {
        self.control.change(|inner| {
            inner
                .leases
                .get_mut(version)
                .unwrap()
                .retain(|lease| lease.key != sandbox.key)
        });
    }

    /// Waits until control was given this sandbox back, once or more.
    pub async fn given_back(&self, sandbox: Sandbox) {
        becomes("given back", true, || self.was_given_back(sandbox)).await;
    }

    pub fn was_given_back(&self, sandbox: Sandbox) -> bool {
        self.control.change(|inner| inner.released.contains(&sandbox.key))
    }

    /// Waits until an acquire has told control that this sandbox could not be reached.
    pub async fn told_as_dropped(&self, sandbox: Sandbox) {
        let tells = |ask: &AcquireRequest| ask.dropped.contains(&sandbox.key);
        becomes("dropped", true, || {
            self.control.change(|inner| inner.acquires.iter().any(tells))
        })
        .await;
    }

    /// Publishes a snapshot and waits until it is served.
    pub async fn serve(&self, snapshot: &RoutingSnapshot) {
        self.control.publish(snapshot);
        self.acknowledged(snapshot.generation).await;
    }

    /// Waits until the newest generation that the proxy said to serve is this one.
    pub async fn acknowledged(&self, generation: u64) {
        becomes("acknowledged", Some(generation), || {
            self.control.change(|inner| inner.acknowledged.last().copied())
        })
        .await;
    }

    /// Waits until the proxy's folder has a file whose name begins like this with `text` in it, and not only a new one that is
    /// still being written.
    pub async fn keeps(&self, name: &str, text: &str) {
        let is_meant = |entry: &DirEntry| {
            let file = entry.file_name().to_string_lossy().into_owned();
            file.starts_with(name) && !file.ends_with(".new")
        };
        let tells = |entry: DirEntry| std::fs::read_to_string(entry.path()).is_ok_and(|kept| kept.contains(text));
        becomes(name, true, || {
            let entries = std::fs::read_dir(self.folder.path().join("data")).unwrap();
            entries.map(Result::unwrap).filter(is_meant).any(tells)
        })
        .await;
    }

    pub fn advance(&self, sandbox: Sandbox, to: State) {
        self.table
            .advance(sandbox.key.slot, sandbox.key.generation, to)
            .unwrap();
    }

    pub async fn get(&self, path: &str) -> Response {
        ask(self.address(), &get(HOST, path)).await
    }

    /// Asks until answers come from the app `to`; up to then they come from `from`.
    pub async fn moves(&self, from: &str, to: &str) {
        let begun = Instant::now();
        loop {
            let response = self.get("/").await;
            if response.body == to {
                return;
            }
            assert_eq!((response.status, response.body.as_str()), (200, from));
            assert!(begun.elapsed() < PATIENCE, "requests still go to {from}, not to {to}");
        }
    }

    pub async fn client(&self) -> Client {
        Client::connect(self.address()).await
    }

    /// Whether the word says that it is RUNNING.
    pub fn runs(&self, sandbox: Sandbox) -> bool {
        let slot = self.table.slot(sandbox.key.slot);
        (slot.generation, slot.state) == (sandbox.key.generation, State::Running)
    }

    /// The value of a metric, with its labels as in the text format.
    ///
    /// One that is not there yet is 0, as for Prometheus.
    pub async fn metric(&self, name: &str) -> f64 {
        let page = ask(self.proxy.addresses.admin, &get("localhost", "/metrics"))
            .await
            .body;
        let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().unwrap())
    }

    /// Waits until a metric has a value, which it keeps then: it cannot be missed between two looks.
    pub async fn metric_becomes(&self, name: &str, wanted: f64) {
        self.metric_is(name, &format!("{wanted}"), |found| found == wanted)
            .await;
    }

    /// Waits until a metric that only grows has reached a value, or is past it.
    pub async fn metric_reaches(&self, name: &str, least: f64) {
        self.metric_is(name, &format!("{least} or more"), |found| found >= least)
            .await;
    }

    async fn metric_is(&self, name: &str, wanted: &str, is_wanted: impl Fn(f64) -> bool) {
        let begun = Instant::now();
        loop {
            let found = self.metric(name).await;
            if is_wanted(found) {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{name} is {found}, not {wanted}");
            pause().await;
        }
    }
}

/// Shows the proxy's log of a failed test, as far as `RUST_LOG` asks for it.
fn log() {
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    // Another test of this process may have been first.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_test_writer()
        .try_init();
}

fn open_table(file: &Path) -> FastPath {
    let config = FastPathConfig {
        mode: Mode::Off,
        table_file: file.to_owned(),
        capacity: 64,
        ..FastPathConfig::default()
    };
    FastPath::open(config).unwrap()
}

/// Routes of the tests: `shop` at [`HOST`], and an app that was never deployed at `empty.example.com`.
pub fn snapshot(generation: u64, active: &str) -> RoutingSnapshot {
    let rule = |host: &str, app: &str| RouteRule {
        host: host.into(),
        to: RouteDestination::new(AppName::from_text(app), "web"),
    };
    let shop = AppRouting {
        active: Some(VersionId::from_text(active)),
        ephemeral: Vec::new(),
    };
    RoutingSnapshot {
        generation,
        lineage: LINEAGE.into(),
        routes: vec![rule(HOST, "shop"), rule("empty.example.com", "empty")],
        default: None,
        cluster_host: None,
        apps: [
            (AppName::from_text("shop"), shop),
            (AppName::from_text("empty"), AppRouting::default()),
        ]
        .into(),
    }
}

/// `snapshot` with `version` at the label `label` of `shop`, for an hour.
pub fn with_label(snapshot: RoutingSnapshot, label: &str, version: &str) -> RoutingSnapshot {
    let expires_at = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1);
    with_label_until(expires_at, snapshot, label, version)
}

pub fn with_label_until(
    expires_at: jiff::Timestamp,
    mut snapshot: RoutingSnapshot,
    label: &str,
    version: &str,
) -> RoutingSnapshot {
    let route = EphemeralRoute {
        label: label.into(),
        version: VersionId::from_text(version),
        expires_at,
    };
    snapshot
        .apps
        .get_mut(&AppName::from_text("shop"))
        .unwrap()
        .ephemeral
        .push(route);
    snapshot
}

pub async fn pause() {
    tokio::time::sleep(Duration::from_millis(2)).await;
}

/// Waits until `seen` is what is `wanted`. What may pass beyond that between two looks is to be asked for as a condition.
pub async fn becomes<T: PartialEq + std::fmt::Debug>(what: &str, wanted: T, mut seen: impl FnMut() -> T) {
    let begun = Instant::now();
    loop {
        let found = seen();
        if found == wanted {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{what} is {found:?}, not {wanted:?}");
        pause().await;
    }
}

/// Many of the same at once.
pub async fn all<T: Send + 'static>(tasks: Vec<JoinHandle<T>>) -> Vec<T> {
    let mut results = Vec::new();
    for task in tasks {
        results.push(task.await.unwrap());
    }
    results
}

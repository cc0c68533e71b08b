//! Decides how a test gets a node of its own and gives it back, even when it panics.

use crate::timing::within;
use miren_api::app_file::{Base, Concurrency, Resources, Service};
use miren_api::id::{AppName, SandboxId, VersionId};
use miren_api::resource::SandboxState;
use miren_image::{Images, Limits};
use miren_loader::{ActiveMode, FastPath, FastPathConfig, Mode};
use miren_sandbox::{Known, NodeConfig, Root, RuntimeConfig, SandboxChange, Sandboxes, StartOrder};
use nix::mount::{MntFlags, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;

/// Longest wait for anything that is to happen.
pub const SOON: Duration = Duration::from_secs(20);
static NODES: AtomicU32 = AtomicU32::new(0);

/// Runs a test with a node of its own. Its threads are all in one new network namespace.
pub fn with_node(test: impl AsyncFnOnce(&mut TestNode)) {
    with_config(|_| {}, test);
}

/// As [`with_node`], with another configuration.
pub fn with_config(change: impl FnOnce(&mut NodeConfig), test: impl AsyncFnOnce(&mut TestNode)) {
    unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace: run as root");
    loopback_up();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let mut node = TestNode::open(change).await;
        test(&mut node).await;
        node.close().await;
    });
}

/// The runtime under test: the containerd at `MIREN_TEST_CONTAINERD`, if that is set.
fn runtime() -> RuntimeConfig {
    match std::env::var_os("MIREN_TEST_CONTAINERD") {
        Some(socket) => RuntimeConfig::Containerd { socket: socket.into() },
        None => RuntimeConfig::Embedded,
    }
}

fn loopback_up() {
    let up = std::process::Command::new("ip")
        .args(["link", "set", "lo", "up"])
        .status()
        .expect("ip");
    assert!(up.success());
}

pub struct TestNode {
    pub config: NodeConfig,
    pub sandboxes: Option<Sandboxes>,
    pub fast_path: Option<Arc<FastPath>>,
    pub seen: Vec<SandboxChange>,
    changes: mpsc::UnboundedReceiver<SandboxChange>,
    app: PathBuf,
    _dir: tempfile::TempDir,
}

impl TestNode {
    async fn open(change: impl FnOnce(&mut NodeConfig)) -> Self {
        let number = NODES.fetch_add(1, Ordering::Relaxed);
        let name = format!("test-{}-{number}", std::process::id());
        let dir = tempfile::Builder::new()
            .prefix("miren-test-")
            .tempdir()
            .expect("a folder");
        let third = (std::process::id().wrapping_mul(31) + number) % 256;
        let subnet = format!("10.200.{third}.0/24").parse().expect("a subnet");
        let (run, log) = (dir.path().join("run"), dir.path().join("log"));
        fs::create_dir(&run).expect("a folder");
        let mut config = NodeConfig::new(name, &run, &log, format!("mt{third}-{number}"), subnet);
        config.helper = PathBuf::from(env!("CARGO_BIN_EXE_miren-sandbox-testapp"));
        config.runtime = runtime();
        let images = Images::open(&dir.path().join("images"), Limits::default());
        config.images = Some(images.expect("a store of images"));
        change(&mut config);
        let app = dir.path().join("app");
        fs::create_dir(&app).expect("a folder");
        fs::copy(&config.helper, app.join("app")).expect("the app");
        let (_, changes) = mpsc::unbounded_channel();
        let mut node = Self {
            config,
            sandboxes: None,
            fast_path: None,
            seen: Vec::new(),
            changes,
            app,
            _dir: dir,
        };
        node.start_daemon().await;
        node
    }

    async fn start_daemon(&mut self) {
        let fast_path = FastPathConfig {
            mode: mode(),
            pin_dir: pin_dir(&self.config),
            table_file: self.config.run_dir.join("slots"),
            capacity: 64,
            cgroup: None,
        };
        let fast_path = Arc::new(FastPath::open(fast_path).expect("a slot table"));
        let (sender, changes) = mpsc::unbounded_channel();
        let opened = Sandboxes::open(self.config.clone(), Arc::clone(&fast_path), sender).await;
        self.sandboxes = Some(opened.expect("an open node"));
        self.fast_path = Some(fast_path);
        self.changes = changes;
    }

    /// As if the daemon had been killed: nothing of it is left but what it made.
    pub async fn kill_daemon(&mut self) {
        self.sandboxes = None;
        let fast_path = self.fast_path.take().expect("a daemon");
        // Its tasks end at their next step and let go of the table.
        eventually("the tasks of the daemon end", || Arc::strong_count(&fast_path) == 1).await;
    }

    /// The next daemon, with what control knew.
    pub async fn restart_daemon(&mut self, known: Vec<Known>) -> Vec<SandboxChange> {
        self.start_daemon().await;
        self.sandboxes().adopt(known).await
    }

    pub fn sandboxes(&self) -> &Sandboxes {
        self.sandboxes.as_ref().expect("a daemon")
    }

    pub fn fast_path_mode(&self) -> ActiveMode {
        self.fast_path.as_ref().expect("a daemon").mode()
    }

    /// An order for the test's app with these arguments, listening on port 3000.
    pub fn order(&self, arguments: &str) -> StartOrder {
        StartOrder {
            id: SandboxId::generate(),
            app: AppName::parse("shop").expect("a name"),
            service_name: "web".into(),
            version: VersionId::from_text("shop-v1"),
            service: service(&format!("./app {arguments}")),
            root: Root::Host,
            app_files: Some(self.app.clone()),
            env: BTreeMap::from([("PORT".to_owned(), "3000".to_owned())]),
            one_off: None,
        }
    }

    /// Starts it and waits until it runs.
    pub async fn run(&mut self, order: &StartOrder) -> SandboxChange {
        self.sandboxes().start(order.clone());
        self.until(&order.id, SandboxState::Running).await
    }

    /// Starts it and waits for the reason why it does not run.
    pub async fn fail(&mut self, order: &StartOrder) -> String {
        self.sandboxes().start(order.clone());
        let change = self.until(&order.id, SandboxState::Dead).await;
        change.reason.expect("a dead sandbox has a reason")
    }

    pub fn drain_now(&self, id: &SandboxId, reason: &str) {
        self.sandboxes()
            .drain(id, reason, within(SOON), Box::pin(std::future::ready(())));
    }

    /// Waits until a state of a sandbox is announced.
    pub async fn until(&mut self, id: &SandboxId, state: SandboxState) -> SandboxChange {
        self.until_any(id, &[state]).await
    }

    /// As [`Self::until`], whichever of several comes first.
    pub async fn until_any(&mut self, id: &SandboxId, states: &[SandboxState]) -> SandboxChange {
        loop {
            let Ok(Some(change)) = tokio::time::timeout(SOON, self.changes.recv()).await else {
                panic!("{id} did not become {states:?} in {SOON:?}; seen: {:#?}", self.seen)
            };
            self.seen.push(change.clone());
            if change.id == *id && states.contains(&change.state) {
                return change;
            }
            let ended = change.id == *id && change.state.is_terminal();
            assert!(!ended, "{id} ended before it was {states:?}: {change:#?}");
        }
    }

    /// Waits until anything is announced.
    pub async fn next_change(&mut self) {
        let next = tokio::time::timeout(SOON, self.changes.recv()).await;
        let Ok(Some(change)) = next else {
            panic!("nothing was announced in {SOON:?}; seen: {:#?}", self.seen)
        };
        assert!(!change.state.is_terminal(), "{change:#?}");
        self.seen.push(change);
    }

    /// States announced for a sandbox, in order.
    pub fn states(&self, id: &SandboxId) -> Vec<SandboxState> {
        self.seen
            .iter()
            .filter(|change| change.id == *id)
            .map(|change| change.state)
            .collect()
    }

    /// What control would know of a sandbox after all that was announced.
    pub fn known(&self, order: &StartOrder) -> Known {
        let last = self
            .seen
            .iter()
            .rfind(|change| change.id == order.id)
            .expect("an announcement");
        Known {
            order: order.clone(),
            state: last.state,
            facts: last.facts.clone(),
        }
    }

    /// Drains what is left, removes the node, and sees that nothing remains.
    async fn close(mut self) {
        let sandboxes = self.sandboxes.take().expect("a daemon");
        let drained = tokio::time::timeout(SOON, sandboxes.drained()).await;
        assert!(drained.is_ok(), "sandboxes are left: {:?}", sandboxes.cleaning_up());
        sandboxes.remove_node().await.expect("the node is removed");
        assert!(sandboxes.outlet().await.is_err(), "of a node that is gone");
        drop(sandboxes);
        let fast_path = self.fast_path.take().expect("a daemon");
        eventually("the tasks of the daemon end", || Arc::strong_count(&fast_path) == 1).await;
        Arc::into_inner(fast_path)
            .expect("the last one")
            .remove()
            .expect("no table is left");
        assert_eq!(self.remains(), Vec::<String>::new());
    }

    /// Whatever of this node is still on the machine: processes, interfaces, mounts, cgroups, folders.
    pub fn remains(&self) -> Vec<String> {
        let run = self.config.run_dir.display().to_string();
        let lines_with = |text: &str, word: &str| -> Vec<String> {
            text.lines()
                .filter(|line| line.contains(word))
                .map(str::to_owned)
                .collect()
        };
        let mut found = lines_with(&fs::read_to_string("/proc/self/mountinfo").expect("mounts"), &run);
        found.extend(self.cgroups().iter().map(|dir| dir.display().to_string()));
        found.extend(command_lines_with(&run));
        let links = std::process::Command::new("ip")
            .args(["-o", "link"])
            .output()
            .expect("ip");
        let links = String::from_utf8_lossy(&links.stdout).into_owned();
        found.extend(lines_with(&links, ": mv"));
        found.extend(lines_with(&links, &self.config.bridge));
        for part in ["sandboxes", "netns", "disks"] {
            let entries = fs::read_dir(self.config.run_dir.join(part))
                .into_iter()
                .flatten()
                .flatten();
            found.extend(entries.map(|entry| entry.path().display().to_string()));
        }
        found
    }

    /// The folders of this node in every cgroup hierarchy, the deepest first.
    fn cgroups(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let roots = fs::read_dir("/sys/fs/cgroup")
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path());
        for root in roots.chain([PathBuf::from("/sys/fs/cgroup")]) {
            for suffix in ["", ".logs"] {
                let node = root.join(format!("miren-{}{suffix}", self.config.name));
                let inside = fs::read_dir(&node).into_iter().flatten().flatten();
                found.extend(inside.map(|entry| entry.path()).filter(|path| path.is_dir()));
                found.extend(node.is_dir().then_some(node));
            }
        }
        found
    }
}

/// After a panic: ends and removes everything of the node, as far as possible.
impl Drop for TestNode {
    fn drop(&mut self) {
        self.sandboxes = None;
        // Hooks that stay would go on refusing connections to these addresses.
        let _ = fs::remove_dir_all(pin_dir(&self.config));
        for dir in self.cgroups() {
            let pids = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
            for pid in pids.lines().filter_map(|line| line.parse().ok()) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            let gone = std::time::Instant::now() + Duration::from_secs(2);
            while fs::remove_dir(&dir).is_err() && dir.exists() && std::time::Instant::now() < gone {
                std::thread::yield_now();
            }
        }
        for part in ["netns", "disks", "sandboxes"] {
            let entries = fs::read_dir(self.config.run_dir.join(part)).into_iter();
            for entry in entries.flatten().flatten() {
                let _ = umount2(&entry.path(), MntFlags::MNT_DETACH);
                for inner in ["rootfs", "scratch"] {
                    let _ = umount2(&entry.path().join(inner), MntFlags::MNT_DETACH);
                }
            }
        }
    }
}

fn pin_dir(config: &NodeConfig) -> PathBuf {
    Path::new("/sys/fs/bpf").join(&config.name)
}

/// Without the kernel's help, unless that is asked for: it has to be there, and its programs have to be built.
fn mode() -> Mode {
    match std::env::var("MIREN_TEST_FAST_PATH").as_deref() {
        Ok("kernel") => Mode::Kernel,
        _ => Mode::Off,
    }
}

fn command_lines_with(word: &str) -> Vec<String> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let lines = processes.filter_map(|process| fs::read_to_string(process.path().join("cmdline")).ok());
    lines
        .filter(|line| line.contains(word))
        .map(|line| line.replace('\0', " "))
        .collect()
}

fn service(command: &str) -> Service {
    Service {
        required: Default::default(),
        image: None,
        base: Base::Host,
        command: command.to_owned(),
        port: Some(3000),
        port_timeout: Duration::from_secs(10),
        shutdown_timeout: Duration::from_secs(10),
        drain_timeout: Duration::from_secs(10),
        tunnel_timeout: Duration::from_secs(10),
        health_path: None,
        read_only_root: false,
        init: true,
        hedge: true,
        concurrency: Concurrency::Fixed { count: 1 },
        resources: Resources::default(),
        env: BTreeMap::new(),
        disks: Vec::new(),
    }
}

pub fn signal(pid: Option<u32>, signal: Signal) {
    let pid = i32::try_from(pid.expect("a pid")).expect("a pid");
    kill(Pid::from_raw(pid), signal).expect("a signal");
}

/// Waits until `condition` holds.
pub async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + SOON;
    while !condition() {
        assert!(tokio::time::Instant::now() < deadline, "not within {SOON:?}: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// A field of `/proc/PID/status` text.
pub fn status_field(status: &str, name: &str) -> String {
    let fields: HashMap<&str, &str> = status.lines().filter_map(|line| line.split_once(':')).collect();
    fields
        .get(name)
        .unwrap_or_else(|| panic!("no {name} in {status}"))
        .trim()
        .to_owned()
}

/// Files of a folder and below, with their contents.
pub fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = fs::read_dir(dir).expect("a folder").flatten();
    entries
        .map(|entry| (entry.path(), fs::read(entry.path()).expect("a file")))
        .collect()
}

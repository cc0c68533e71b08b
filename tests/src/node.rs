//! One `miren dev` under test: started on private ports in a folder of its own, ended and cleaned up whatever happens.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};
use std::{io, thread};

use miren_api::resource::{Pool, Sandbox, SandboxState};
use nix::sys::signal::Signal;
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use serde::Deserialize;
use serde_json::Value;

use crate::apps::AppFolder;
use crate::census;
use crate::cli::Cli;
use crate::http::{self, Response};
use crate::leftovers::{self, Leftover, Marks};
use crate::process;
use crate::wait::wait_until;

mod observed;
mod options;

pub use options::{NodeOptions, NodeRuntime, fast_path};

/// Held by the one that starts.
static STARTING: Mutex<()> = Mutex::new(());
/// From the start of `miren dev` until it says that requests can be served.
const START_LIMIT: Duration = Duration::from_secs(120);
/// From SIGTERM until everything has been drained and removed: drain, stop grace and clean-up together.
const STOP_LIMIT: Duration = Duration::from_secs(120);

/// First line of `miren dev --format json`.
#[derive(Deserialize)]
struct Ready {
    ready: bool,
    server: String,
    http: SocketAddr,
    fast_path: String,
    metrics: Metrics,
}

#[derive(Deserialize)]
struct Metrics {
    control: SocketAddr,
    proxy: SocketAddr,
}

/// A running node. Dropping it ends it and removes what it made.
pub struct Node {
    marks: Marks,
    pub cli: Cli,
    /// Where requests are served.
    pub http: SocketAddr,
    /// What is in use: `kernel` or `off`.
    pub fast_path: String,
    metrics: Metrics,
    child: Child,
    /// None once the folder has been handed on.
    options: Option<NodeOptions>,
}

/// A deploy that succeeded.
#[derive(Clone, Debug, Deserialize)]
pub struct Deployed {
    pub app: String,
    pub version: String,
    pub pool: String,
    pub status: String,
    pub reused: bool,
    pub seq: u64,
}

impl Node {
    /// A node with a name and a folder of its own.
    #[track_caller]
    pub fn start() -> Self {
        NodeOptions::unique().start()
    }

    #[track_caller]
    fn of(options: NodeOptions) -> Self {
        let binaries = options.binaries();
        let log = options.folder().join("dev.log");
        let stderr = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .expect("making the log of miren dev");
        // It takes a subnet that nothing on the machine is routed to yet: two that look at once could take the same.
        let _alone = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
        let child = options.command(&binaries).stdout(Stdio::piped()).stderr(stderr).spawn();
        let child = child.expect("starting miren dev");
        let mut node = Node {
            marks: options.marks(),
            cli: Cli::new(binaries, String::new()),
            http: SocketAddr::from(([127, 0, 0, 1], 0)),
            fast_path: String::new(),
            metrics: Metrics {
                control: SocketAddr::from(([127, 0, 0, 1], 0)),
                proxy: SocketAddr::from(([127, 0, 0, 1], 0)),
            },
            child,
            options: Some(options),
        };
        node.take_ready_line();
        node
    }

    pub fn name(&self) -> &str {
        &self.marks.name
    }

    pub fn folder(&self) -> &Path {
        &self.marks.folder
    }

    /// Number of the `miren dev` process.
    pub fn dev_pid(&self) -> u32 {
        self.child.id()
    }

    #[track_caller]
    fn take_ready_line(&mut self) {
        let stdout = self.child.stdout.take().expect("its output is piped");
        let (send, lines) = mpsc::channel();
        // Reads on to the end, so that the pipe never fills.
        thread::spawn(move || {
            BufReader::new(stdout)
                .lines()
                .map_while(io::Result::ok)
                .for_each(|line| drop(send.send(line)))
        });
        let line = lines.recv_timeout(START_LIMIT).unwrap_or_else(|_| {
            panic!(
                "miren dev said nothing on stdout within {START_LIMIT:?}; status {:?}",
                self.child.try_wait()
            )
        });
        let ready: Ready = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error} in first line {line:?}"));
        assert!(ready.ready, "first line of miren dev: {line}");
        self.cli.server = ready.server;
        self.http = ready.http;
        self.fast_path = ready.fast_path;
        self.metrics = ready.metrics;
    }

    /// Number of the running control daemon: who listens on its socket.
    pub fn control_pid(&self) -> Option<u32> {
        let socket = UnixStream::connect(self.cli.server.strip_prefix("unix:")?).ok()?;
        u32::try_from(getsockopt(&socket, PeerCredentials).ok()?.pid()).ok()
    }

    /// Number of the running proxy.
    #[track_caller]
    pub fn proxy_pid(&self) -> u32 {
        process::child(self.dev_pid(), "miren-proxy").expect("miren dev has a proxy")
    }

    /// Deploys a folder; anything but success fails the test.
    #[track_caller]
    pub fn deploy(&self, app: &AppFolder) -> Deployed {
        let output = self.cli.deploy(app.path());
        assert_eq!(output.code, 0, "{output}");
        let deployed: Deployed = output.parsed();
        assert_eq!(deployed.status, "SUCCEEDED", "{output}");
        deployed
    }

    /// Makes a preview of a folder, under a label and with more arguments; anything but success fails the test.
    #[track_caller]
    pub fn preview(&self, app: &AppFolder, arguments: &[&str]) -> Value {
        let folder = app.path().to_str().expect("a path in UTF-8");
        let output = self
            .cli
            .call_json(&[&["deploy", "-d", folder, "--ephemeral"], arguments].concat());
        assert_eq!(output.code, 0, "{output}");
        let made: Value = output.parsed();
        assert_eq!(made["status"], "SUCCEEDED", "{output}");
        made
    }

    /// Deploys a folder and leads a host to it.
    #[track_caller]
    pub fn deploy_at(&self, app: &AppFolder, host: &str) -> Deployed {
        let deployed = self.deploy(app);
        self.route(host, &app.name);
        deployed
    }

    /// Leads a host to an app, and waits until the ingress knows.
    #[track_caller]
    pub fn route(&self, host: &str, app: &str) {
        let output = self.cli.call(&["route", "set", host, app]);
        assert_eq!(output.code, 0, "{output}");
        wait_until(&format!("route {host}"), Duration::from_secs(60), || {
            match self.get(host, "/info") {
                response if response.status == 200 => Ok(()),
                response => Err(format!("{} {}", response.status, response.text())),
            }
        });
    }

    /// The first app of a node answers for hosts without a route, until this has returned.
    #[track_caller]
    pub fn unset_default(&self) {
        let output = self.cli.call(&["route", "unset-default"]);
        assert_eq!(output.code, 0, "{output}");
        wait_until("nobody's host to lead nowhere", Duration::from_secs(60), || match self
            .get("nobody.example.com", "/info")
        {
            response if (response.status, response.code()) == (404, "no_route") => Ok(()),
            response => Err(format!("{response:?}")),
        });
    }

    /// `GET path` for a host; a connection of its own.
    #[track_caller]
    pub fn get(&self, host: &str, path: &str) -> Response {
        http::get(self.http, host, path).unwrap_or_else(|error| panic!("GET http://{host}{path}: {error}"))
    }

    #[track_caller]
    pub fn sandboxes(&self, app: &str) -> Vec<Sandbox> {
        self.cli.json(&["sandbox", "list", "--all", "-a", app])
    }

    #[track_caller]
    pub fn running(&self, app: &str) -> Vec<Sandbox> {
        let mut sandboxes = self.sandboxes(app);
        sandboxes.retain(|sandbox| sandbox.state == SandboxState::Running);
        sandboxes
    }

    /// Waits until exactly `count` sandboxes of `app` are RUNNING.
    #[track_caller]
    pub fn wait_running(&self, app: &str, count: usize) -> Vec<Sandbox> {
        wait_until(
            &format!("{count} running sandboxes of {app}"),
            Duration::from_secs(120),
            || {
                let sandboxes = self.sandboxes(app);
                let running = sandboxes
                    .iter()
                    .filter(|sandbox| sandbox.state == SandboxState::Running);
                if running.count() == count {
                    return Ok(sandboxes
                        .into_iter()
                        .filter(|sandbox| sandbox.state == SandboxState::Running)
                        .collect());
                }
                let seen = sandboxes
                    .iter()
                    .map(|s| format!("{} {} {:?}", s.id, s.state.as_str(), s.reason));
                Err(seen.collect::<Vec<_>>().join(", "))
            },
        )
    }

    #[track_caller]
    pub fn pools(&self, app: &str) -> Vec<Pool> {
        let mut pools: Vec<Pool> = self.cli.json(&["pool", "list"]);
        pools.retain(|pool| pool.app.as_str() == app);
        pools
    }

    /// What `miren dev` and both daemons wrote.
    pub fn log(&self) -> String {
        self.logs().into_iter().map(|(_, text)| text).collect()
    }

    fn logs(&self) -> [(&'static str, String); 3] {
        ["dev.log", "control.log", "proxy.log"]
            .map(|name| (name, fs::read_to_string(self.folder().join(name)).unwrap_or_default()))
    }

    /// For whoever reads why a test failed.
    fn describe(&self) -> String {
        let mut text = format!("--- node {}\n", self.name());
        for (name, log) in self.logs() {
            let lines: Vec<&str> = log.lines().collect();
            let tail = lines[lines.len().saturating_sub(40)..].join("\n");
            text.push_str(&format!("--- end of {name}\n{tail}\n"));
        }
        for call in [&["sandbox", "list", "--all"][..], &["pool", "list"]] {
            text.push_str(&format!("--- {}\n", self.cli.call(call)));
        }
        text
    }

    /// How many there are of what exists once per sandbox; `program` is the name of the app's process.
    pub fn census(&self, program: &str) -> BTreeMap<&'static str, usize> {
        let socket = Path::new(self.cli.server.trim_start_matches("unix:"));
        let run = socket.parent().expect("a socket is in a folder");
        census::count(&self.marks, run, program)
    }

    pub fn leftovers(&self) -> BTreeSet<Leftover> {
        leftovers::find(&self.marks)
    }

    /// SIGTERM: it must exit with 0 and leave nothing behind.
    #[track_caller]
    pub fn stop(mut self) {
        process::signal(self.dev_pid(), Signal::SIGTERM);
        let code = self
            .wait_for_exit(STOP_LIMIT)
            .unwrap_or_else(|| panic!("miren dev still runs {STOP_LIMIT:?} after SIGTERM"));
        let found = self.leftovers();
        assert!(
            found.is_empty(),
            "after SIGTERM this was left:\n{}",
            leftovers::describe(&found)
        );
        assert_eq!(code, 0, "exit code of miren dev after SIGTERM");
    }

    /// SIGKILL of all three processes, none of which can tidy up; the folder and the name may be started again.
    #[track_caller]
    pub fn kill_everything(mut self) -> NodeOptions {
        let (control, proxy) = (self.control_pid(), self.proxy_pid());
        // Stopped first, so that it neither restarts the daemons nor, by its own death, sends them its SIGTERM.
        process::signal(self.dev_pid(), Signal::SIGSTOP);
        process::signal(proxy, Signal::SIGKILL);
        if let Some(control) = control {
            process::signal(control, Signal::SIGKILL);
        }
        process::kill_and_wait(self.dev_pid());
        self.wait_for_exit(Duration::from_secs(60))
            .expect("a killed process is reaped");
        self.options
            .take()
            .expect("a node has its options until it is handed on")
    }

    /// Exit code once it has exited; -1 for a signal.
    fn wait_for_exit(&mut self, limit: Duration) -> Option<i32> {
        let start = Instant::now();
        while start.elapsed() < limit {
            if let Some(status) = self.child.try_wait().expect("waiting for a child") {
                return Some(status.code().unwrap_or(-1));
            }
            thread::sleep(Duration::from_millis(10));
        }
        None
    }

    fn end_by_force(&mut self) {
        process::signal(self.dev_pid(), Signal::SIGCONT);
        process::signal(self.dev_pid(), Signal::SIGTERM);
        if self.wait_for_exit(STOP_LIMIT).is_none() {
            process::signal(self.dev_pid(), Signal::SIGKILL);
            let _ = self.child.wait();
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if self.options.is_none() {
            return;
        }
        // What it leaves is removed with the options, which are dropped next.
        if thread::panicking() {
            // In one piece, so that the words of two tests do not mix. Without an output there is nobody to tell.
            let _ = io::stderr().write_all(self.describe().as_bytes());
        }
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            self.end_by_force();
        }
    }
}

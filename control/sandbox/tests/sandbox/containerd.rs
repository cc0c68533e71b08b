//! Decides that a sandbox does not depend on containerd once it runs: it, and what it keeps beside each sandbox, may be killed.

use crate::client::ask;
use crate::faults::{boots, fails};
use crate::node::{eventually, status_field, with_config};
use miren_api::resource::SandboxState::{Dead, Stopped};
use miren_loader::ActiveMode;
use miren_sandbox::RuntimeConfig;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A containerd of one test.
struct Containerd {
    child: Child,
    folder: tempfile::TempDir,
}

impl Containerd {
    async fn start() -> Self {
        let folder = tempfile::Builder::new()
            .prefix("miren-ctd-")
            .tempdir()
            .expect("a folder");
        let at = |name: &str| folder.path().join(name);
        let settings = format!(
            "version = 2\nroot = {:?}\nstate = {:?}\noom_score = 0\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
             [grpc]\naddress = {:?}\n[ttrpc]\naddress = {:?}\n",
            at("root"),
            at("state"),
            at("socket"),
            at("socket.ttrpc")
        );
        fs::write(at("config.toml"), settings).expect("a file");
        let child = spawn(&folder);
        let mut started = Self { child, folder };
        started.listens().await;
        started
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    fn runtime(&self) -> RuntimeConfig {
        RuntimeConfig::Containerd { socket: self.socket() }
    }

    async fn listens(&mut self) {
        let socket = self.socket();
        eventually("containerd to listen", || UnixStream::connect(&socket).is_ok()).await;
    }

    /// From now on runc refuses to do something.
    fn refuse(&self, verb: &str) {
        let runc = self.folder.path().join("runc");
        let script = format!(
            "#!/bin/sh\nfor word; do [ \"$word\" = {verb} ] && {{ echo no {verb} today >&2; exit 1; }}; done\n\
             PATH=/usr/sbin:/usr/bin:/sbin:/bin exec runc \"$@\"\n"
        );
        fs::write(&runc, script).expect("a script");
        fs::set_permissions(&runc, fs::Permissions::from_mode(0o755)).expect("its mode");
    }

    /// No longer.
    fn allow_all(&self) {
        fs::remove_file(self.folder.path().join("runc")).expect("a script");
    }

    fn kill(&mut self) {
        self.child.kill().expect("a signal");
        self.child.wait().expect("its end");
    }

    async fn start_again(&mut self) {
        self.child = spawn(&self.folder);
        self.listens().await;
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(folder: &tempfile::TempDir) -> Child {
    let path = std::env::var("PATH").unwrap_or_default();
    Command::new("containerd")
        .arg("--config")
        .arg(folder.path().join("config.toml"))
        // What is in its folder comes first: a test may put another runc there.
        .env("PATH", format!("{}:{path}", folder.path().display()))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("containerd: cargo xtask setup installs it")
}

fn send(pid: Option<u32>, signal: Signal) {
    let pid = i32::try_from(pid.expect("a pid")).expect("a pid");
    kill(Pid::from_raw(pid), signal).expect("a signal");
}

/// Runs a test with a containerd and a node that uses it.
fn with_containerd(test: impl AsyncFnOnce(&mut crate::node::TestNode, &mut Containerd)) {
    let starting = tokio::runtime::Runtime::new().expect("a runtime");
    let mut containerd = starting.block_on(Containerd::start());
    let runtime = containerd.runtime();
    with_config(
        |config| {
            config.runtime = runtime;
            config.quarantine = Duration::ZERO;
        },
        async |node| test(node, &mut containerd).await,
    );
}

#[test]
fn i7_containerd_may_be_killed_and_what_runs_serves_on() {
    with_containerd(async |node, containerd| {
        let order = node.order("listen 0.0.0.0");
        let running = node.run(&order).await;
        containerd.kill();
        assert_eq!(ask(&running, "cwd"), "/app");
        let reason = node.fail(&node.order("listen 0.0.0.0")).await;
        assert!(reason.contains("does not answer"), "{reason}");
        // Its end is seen without anybody's help; what is left of it waits to be removed.
        send(running.facts.pid, Signal::SIGKILL);
        node.until(&order.id, Dead).await;
        containerd.start_again().await;
        let order = node.order("listen 0.0.0.0");
        let running = node.run(&order).await;
        assert_eq!(ask(&running, "cwd"), "/app");
        node.drain_now(&order.id, "test over");
        node.until(&order.id, Stopped).await;
    });
}

#[test]
fn i7_a_daemon_that_starts_without_containerd_takes_over_what_runs() {
    with_containerd(async |node, containerd| {
        let order = node.order("listen 0.0.0.0");
        let running = node.run(&order).await;
        let (known, forgotten) = (node.known(&order), node.order("listen 0.0.0.0"));
        node.run(&forgotten).await;
        node.kill_daemon().await;
        containerd.kill();
        assert_eq!(node.restart_daemon(vec![known]).await, []);
        assert_eq!(ask(&running, "cwd"), "/app");
        containerd.start_again().await;
        node.drain_now(&order.id, "test over");
        let stopped = node.until(&order.id, Stopped).await;
        assert_eq!(stopped.facts.pid, running.facts.pid);
        // The one that nobody knows is removed too, or this node would not close.
    });
}

#[test]
fn b2_a_killed_shim_ends_its_sandbox_and_nothing_of_it_is_left() {
    with_containerd(async |node, _| {
        let order = node.order("listen 0.0.0.0");
        let running = node.run(&order).await;
        let parent = |pid: u32| -> u32 {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
            status_field(&status, "PPid").parse().expect("a pid")
        };
        let shim = parent(parent(running.facts.pid.expect("a pid")));
        let name = fs::read_to_string(format!("/proc/{shim}/comm")).expect("it lives");
        assert!(name.starts_with("containerd-shim"), "{name}");
        send(Some(shim), Signal::SIGKILL);
        let dead = node.until(&order.id, Dead).await;
        let reason = dead.reason.expect("a reason");
        // Without the hook only containerd could tell, which may take longer to notice than anybody waits.
        let is_seen = node.fast_path_mode() == ActiveMode::Kernel;
        let may_be_unknown = !is_seen && reason == "exited with an unknown status";
        assert!(reason.contains("SIGKILL") || may_be_unknown, "{reason}");
    });
}

#[test]
fn b2_a_runc_that_refuses_is_a_boot_failure_of_its_step_and_leaves_nothing() {
    with_containerd(async |node, containerd| {
        boots(node).await;
        for step in ["create", "start"] {
            containerd.refuse(step);
            fails(node, &node.order("listen 0.0.0.0"), step, "").await;
            containerd.allow_all();
        }
        containerd.kill();
        let reason = node.fail(&node.order("listen 0.0.0.0")).await;
        assert!(reason.starts_with("create: containerd at "), "{reason}");
        containerd.start_again().await;
        node.sandboxes().drained().await;
        boots(node).await;
    });
}

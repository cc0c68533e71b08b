//! How a node is called, where it keeps its files, and what it may use.

use std::collections::BTreeSet;
use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use super::Node;
use crate::binaries::Binaries;
use crate::forbid;
use crate::image::Registry;
use crate::leftovers::{self, Leftover, Marks};

/// The fast path of every node: `MIREN_TEST_FAST_PATH`, else `auto`.
pub fn fast_path() -> String {
    env::var("MIREN_TEST_FAST_PATH").unwrap_or_else(|_| "auto".to_owned())
}

/// What runs the sandboxes of a node.
#[derive(Clone, Debug)]
pub enum NodeRuntime {
    Embedded,
    /// The one that listens there.
    Containerd(PathBuf),
}

impl NodeRuntime {
    /// The containerd at `MIREN_TEST_CONTAINERD`, if that is set.
    fn under_test() -> Self {
        match env::var_os("MIREN_TEST_CONTAINERD") {
            Some(socket) => Self::Containerd(socket.into()),
            None => Self::Embedded,
        }
    }
}

/// How a node is started.
pub struct NodeOptions {
    name: String,
    folder: TempDir,
    http: String,
    fast_path: String,
    runtime: NodeRuntime,
    bpf: bool,
    environment: Vec<(String, String)>,
    registries: Vec<String>,
    /// None: those under test, where they were built.
    copied: Option<Binaries>,
}

impl NodeOptions {
    /// A name that no other node of this machine has, and a new folder.
    pub fn unique() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        Self {
            // Nine characters, always, so that no name is the start of another, and devices named after it fit.
            name: format!("t{:06x}{count:02x}", std::process::id()),
            folder: tempfile::Builder::new()
                .prefix("miren-test-")
                .tempdir()
                .expect("making a folder"),
            http: "127.0.0.1:0".to_owned(),
            fast_path: fast_path(),
            runtime: NodeRuntime::under_test(),
            bpf: true,
            environment: Vec::new(),
            registries: Vec::new(),
            copied: None,
        }
    }

    /// Another fast path than the one under test.
    pub fn fast_path(mut self, mode: &str) -> Self {
        mode.clone_into(&mut self.fast_path);
        self
    }

    /// Another runtime than the one under test, for what only that one can suffer.
    pub fn runtime(mut self, runtime: NodeRuntime) -> Self {
        self.runtime = runtime;
        self
    }

    /// A registry of this machine that deploys and Dockerfiles may name.
    pub fn registry(mut self, registry: &Registry) -> Self {
        self.registries.push(registry.address().to_string());
        self
    }

    /// As on a machine that forbids the system call bpf(2).
    pub fn without_bpf(mut self) -> Self {
        self.bpf = false;
        self
    }

    /// Has copies of the programs in the folder of the node, which the test may replace.
    #[track_caller]
    pub fn own_programs(mut self) -> Self {
        self.copied = Some(Binaries::find().copy_to(&self.folder().join("programs")));
        self
    }

    /// The programs it is started from.
    #[track_caller]
    pub fn binaries(&self) -> Binaries {
        self.copied.clone().unwrap_or_else(Binaries::find)
    }

    /// For `miren dev` and the daemons it starts.
    pub fn env(mut self, key: &str, value: &str) -> Self {
        self.environment.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Has a file or folder of the node somewhere else. `place` is its name in the node's folder; a name with a dot is a
    /// file's.
    #[track_caller]
    pub fn place(self, place: &str, at: &Path) -> Self {
        match place.contains('.') {
            true => std::fs::write(at, "").expect("making a file"),
            false => std::fs::create_dir(at).expect("making a folder"),
        }
        std::os::unix::fs::symlink(at, self.folder().join(place)).expect("linking to a place");
        self
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What carries this node's name or folder now.
    pub fn leftovers(&self) -> BTreeSet<Leftover> {
        leftovers::find(&self.marks())
    }

    pub(super) fn marks(&self) -> Marks {
        Marks::new(&self.name, self.folder.path())
    }

    pub fn http(mut self, listen: &str) -> Self {
        listen.clone_into(&mut self.http);
        self
    }

    /// The `miren dev` call, without outputs.
    pub fn command(&self, binaries: &Binaries) -> Command {
        let mut command = binaries.command("miren");
        command
            .arg("dev")
            .arg("--dir")
            .arg(self.folder.path())
            .args(["--name", &self.name, "--http", &self.http]);
        command
            .args(["--format", "json", "--fast-path", &self.fast_path])
            .stdin(Stdio::null());
        if let NodeRuntime::Containerd(socket) = &self.runtime {
            command
                .args(["--runtime", "containerd", "--containerd-socket"])
                .arg(socket);
        }
        command.envs(self.environment.iter().map(|(key, value)| (key, value)));
        for registry in &self.registries {
            command.args(["--registry", registry]);
        }
        if !self.bpf {
            forbid::bpf(&mut command);
        }
        command
    }

    #[track_caller]
    pub fn start(self) -> Node {
        Node::of(self)
    }
}

impl Drop for NodeOptions {
    /// Nothing of a name outlives the test that chose it, whichever way the test ended.
    fn drop(&mut self) {
        // Again and again: a cgroup or a device is let go only a moment after the processes in it.
        for _ in 0..100 {
            let found = self.leftovers();
            if found.is_empty() {
                return;
            }
            leftovers::remove(&found);
            thread::sleep(Duration::from_millis(20));
        }
    }
}

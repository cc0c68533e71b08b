//! Decides what the runtimes under ours are measured by: the same app from a bundle, by `runc run` and `ctr run`.

use std::ffi::OsString;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::json;

use super::{Start, first_byte};
use crate::node;

/// Folders of the machine that a program from it needs, as our sandboxes see them.
const SYSTEM: [&str; 5] = ["usr", "bin", "sbin", "lib", "lib64"];
const CGROUPS: &str = "/sys/fs/cgroup";

/// A bundle and the program that runs it.
pub struct Bare {
    program: &'static str,
    /// Its options, before any verb.
    options: Vec<OsString>,
    bundle: PathBuf,
    cgroup: String,
    number: u32,
}

impl Bare {
    pub fn runc(folder: &Path) -> anyhow::Result<Self> {
        let options = vec!["--root".into(), folder.join("state").into()];
        Self::new("runc", options, folder)
    }

    pub fn ctr(folder: &Path, socket: &Path) -> anyhow::Result<Self> {
        let options = vec!["--address".into(), socket.into()];
        Self::new("ctr", options, folder)
    }

    fn new(program: &'static str, options: Vec<OsString>, folder: &Path) -> anyhow::Result<Self> {
        let root = folder.join("rootfs");
        for point in ["app", "proc", "dev"].iter().chain(&SYSTEM) {
            fs::create_dir_all(root.join(point))?;
        }
        fs::copy(node::program("hello-rust")?, root.join("app/hello-rust")).context("copying the sample app")?;
        Ok(Self {
            program,
            options,
            bundle: folder.to_owned(),
            cgroup: format!("miren-bench-{program}-{}", std::process::id()),
            number: 0,
        })
    }

    /// In the host's network: nothing is set up for it.
    fn write_spec(&self, id: &str, port: u16) -> anyhow::Result<()> {
        let bind = |name: &&str| {
            let place = format!("/{name}");
            json!({ "destination": place, "type": "bind", "source": place, "options": ["rbind", "ro"] })
        };
        let present = SYSTEM.iter().filter(|name| Path::new("/").join(name).is_dir());
        let mut mounts: Vec<_> = present.map(bind).collect();
        mounts.push(json!({ "destination": "/proc", "type": "proc", "source": "proc" }));
        mounts.push(json!({ "destination": "/dev", "type": "tmpfs", "source": "tmpfs" }));
        let spec = json!({
            "ociVersion": "1.0.2",
            "root": { "path": self.bundle.join("rootfs"), "readonly": true },
            "process": {
                "terminal": false, "user": { "uid": 0, "gid": 0 }, "cwd": "/app", "noNewPrivileges": true,
                "args": ["./hello-rust"], "env": [format!("PORT={port}"), "PATH=/usr/bin:/bin"],
            },
            "mounts": mounts,
            "linux": {
                "cgroupsPath": format!("/{}/{id}", self.cgroup),
                "namespaces": [{ "type": "pid" }, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" }],
                "resources": { "devices": [{ "allow": false, "access": "rwm" }], "memory": { "limit": 512 << 20 } },
            },
        });
        Ok(fs::write(self.bundle.join("config.json"), serde_json::to_vec(&spec)?)?)
    }

    fn call(&self, arguments: &[&str]) -> anyhow::Result<()> {
        let mut command = Command::new(self.program);
        command.args(&self.options).args(arguments).current_dir(&self.bundle);
        let log = fs::File::create(self.bundle.join("log"))?;
        // What it starts keeps them open: a pipe would never end.
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let status = command.status().with_context(|| format!("running {}", self.program))?;
        let said = fs::read_to_string(self.bundle.join("log"))?;
        anyhow::ensure!(status.success(), "{} {}: {said}", self.program, arguments.join(" "));
        Ok(())
    }

    fn run(&self, id: &str) -> anyhow::Result<()> {
        match self.program {
            "runc" => self.call(&["run", "--detach", id]),
            _ => self.call(&["run", "--detach", "--config", "config.json", id]),
        }
    }

    fn remove(&self, id: &str) -> anyhow::Result<()> {
        match self.program {
            "runc" => self.call(&["delete", "--force", id]),
            _ => self
                .call(&["task", "rm", "--force", id])
                .and_then(|()| self.call(&["container", "rm", id])),
        }
    }
}

impl Start for Bare {
    fn name(&self) -> String {
        format!("{} run", self.program)
    }

    fn once(&mut self) -> anyhow::Result<Duration> {
        self.number += 1;
        let id = format!("{}-{}", self.cgroup, self.number);
        // Free a moment ago; nobody else here takes ports.
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        self.write_spec(&id, port)?;
        let start = Instant::now();
        let answered = self.run(&id).and_then(|()| {
            first_byte::ask_until_answered(SocketAddr::from(([127, 0, 0, 1], port)), "bare.example.test")
        });
        let took = start.elapsed();
        self.remove(&id)?;
        answered.map(|()| took)
    }
}

/// runc leaves the parent of its groups.
impl Drop for Bare {
    fn drop(&mut self) {
        let hierarchies = fs::read_dir(CGROUPS)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path());
        for hierarchy in hierarchies.chain([PathBuf::from(CGROUPS)]) {
            // Most are not there.
            let _ = fs::remove_dir(hierarchy.join(&self.cgroup));
        }
    }
}

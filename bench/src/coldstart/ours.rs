//! Decides what a cold start of ours is: a request at the ingress for an app of which no sandbox runs.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::Value;

use super::{Start, first_byte};
use crate::node::{self, Node};

const APP: &str = "cold";
const HOST: &str = "cold.example.test";
/// From the last request until nothing of the app runs.
const IDLE: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// A node of its own, with one app that is scaled down as soon as nobody asks.
pub struct Ours {
    node: Node,
    runtime: &'static str,
    http: SocketAddr,
}

impl Ours {
    pub fn embedded(folder: &Path) -> anyhow::Result<Self> {
        Self::start(folder, "embedded", &[])
    }

    pub fn containerd(folder: &Path, socket: &Path) -> anyhow::Result<Self> {
        let socket = socket.to_str().context("the temporary folder has an odd name")?;
        Self::start(folder, "containerd", &["--containerd-socket", socket])
    }

    fn start(folder: &Path, runtime: &'static str, more: &[&str]) -> anyhow::Result<Self> {
        let name = format!("cold-{}-{}", &runtime[..3], std::process::id());
        let options = [&["--runtime", runtime], more].concat();
        let node = Node::start_as(&name, &folder.join("node"), &options)?;
        let app = folder.join(APP);
        std::fs::create_dir_all(app.join(".miren"))?;
        std::fs::copy(node::program("hello-rust")?, app.join("hello-rust")).context("copying the sample app")?;
        let settings = format!(
            "name = \"{APP}\"\n[services.web]\ncommand = \"./hello-rust\"\n\
             [services.web.concurrency]\nmode = \"auto\"\nscale_down_delay = \"100ms\"\n"
        );
        std::fs::write(app.join(".miren/app.toml"), settings)?;
        node.json(&[
            "deploy",
            "-d",
            app.to_str().context("the temporary folder has an odd name")?,
        ])?;
        node.json(&["route", "set", HOST, APP])?;
        let http = node.http.parse()?;
        Ok(Self { node, runtime, http })
    }

    /// Until no sandbox of it is left that could answer.
    fn wait_until_idle(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + IDLE;
        loop {
            let listed = self.node.json(&["sandbox", "list", "--all", "-a", APP])?;
            let ended = |sandbox: &Value| matches!(sandbox["state"].as_str(), Some("STOPPED" | "DEAD"));
            if listed.as_array().is_some_and(|all| all.iter().all(ended)) {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("the app is not scaled down within {IDLE:?}: {listed}");
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }
}

impl Start for Ours {
    fn name(&self) -> String {
        format!("miren, {}", self.runtime)
    }

    fn once(&mut self) -> anyhow::Result<Duration> {
        self.wait_until_idle()?;
        let start = Instant::now();
        first_byte::ask(self.http, HOST)?;
        Ok(start.elapsed())
    }
}

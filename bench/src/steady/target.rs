//! Decides what is measured of one: where it listens, which processes are its ingress, and how it is stopped.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use nix::unistd::Pid;

use super::processor_time;
use crate::node::{self, Node};
use crate::peer::nginx::Nginx;

const APP: &str = "steady";
const HOST: &str = "steady.example.test";

/// An ingress with an app behind it.
pub struct Target {
    pub name: String,
    pub http: String,
    pub host: String,
    /// Where its app listens.
    pub app: SocketAddr,
    ingress: Pid,
    running: Running,
}

enum Running {
    Node(Node),
    Nginx(Nginx),
}

impl Target {
    pub fn ours(folder: &Path) -> anyhow::Result<Self> {
        Self::build("this build", &node::programs()?, &folder.join("ours"), "own")
    }

    /// A node of the build in `programs`, with one sandbox.
    pub fn build(name: &str, programs: &Path, folder: &Path, mark: &str) -> anyhow::Result<Self> {
        let node_name = format!("st-{mark}-{}", std::process::id());
        let node = Node::start_from(programs, &node_name, &folder.join("node"), &[])?;
        let app = folder.join(APP);
        std::fs::create_dir_all(app.join(".miren"))?;
        std::fs::copy(node::program("hello-rust")?, app.join("hello-rust")).context("copying the sample app")?;
        let settings = format!("name = \"{APP}\"\n[services.web]\ncommand = \"./hello-rust\"\n");
        std::fs::write(app.join(".miren/app.toml"), settings)?;
        let folder = app.to_str().context("the temporary folder has an odd name")?;
        node.json(&["deploy", "-d", folder])?;
        node.json(&["route", "set", HOST, APP])?;
        let listed = node.json(&["sandbox", "list", "--state", "running", "-a", APP])?;
        let (ip, port) = (listed[0]["ip"].as_str(), listed[0]["port"].as_u64());
        let (ip, port) = ip.zip(port).with_context(|| format!("no sandbox runs: {listed}"))?;
        Ok(Self {
            name: name.to_owned(),
            http: node.http.clone(),
            host: HOST.to_owned(),
            app: format!("{ip}:{port}").parse()?,
            ingress: node.proxy,
            running: Running::Node(node),
        })
    }

    pub fn nginx(nginx: Nginx, app: SocketAddr) -> anyhow::Result<Self> {
        let worker = nginx.serving().first().copied().context("nginx has no worker")?;
        Ok(Self {
            name: "nginx".to_owned(),
            http: nginx.http.to_string(),
            host: HOST.to_owned(),
            app,
            ingress: Pid::from_raw(worker.pid()),
            running: Running::Nginx(nginx),
        })
    }

    /// Used by its ingress so far.
    pub fn processor_time(&self) -> anyhow::Result<Duration> {
        processor_time(self.ingress)
    }

    pub fn stop(self) -> anyhow::Result<()> {
        match self.running {
            Running::Node(node) => node.stop(),
            Running::Nginx(nginx) => {
                drop(nginx);
                Ok(())
            }
        }
    }
}

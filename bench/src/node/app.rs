//! Decides what a node serves while something is done to it: the sample app in two sandboxes.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use serde_json::Value;

use super::{Begun, Node, program};
use crate::crowd::Target;
use crate::peer::wait;

const NAME: &str = "busy";
const HOST: &str = "busy.example.test";
const SANDBOXES: usize = 2;
const LIMIT: Duration = Duration::from_secs(60);

/// A node with the app on it; stopped when dropped.
pub struct App {
    pub node: Node,
    folder: PathBuf,
    release: u32,
}

/// A sandbox as control has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sandbox {
    pub id: String,
    pub state: String,
}

impl App {
    /// A node whose name has this mark, with the app on it; `more` are lines for its service in `app.toml`.
    pub fn start(folder: &Path, mark: &str, more: &str) -> anyhow::Result<Self> {
        let node = Node::start_as(&format!("{mark}-{}", std::process::id()), &folder.join("node"), &[])?;
        let app = folder.join(NAME);
        fs::create_dir_all(app.join(".miren"))?;
        fs::copy(program("hello-rust")?, app.join("hello-rust")).context("copying the sample app")?;
        let settings = format!(
            "name = \"{NAME}\"\n[services.web]\ncommand = \"./hello-rust\"\n{more}\
             [services.web.concurrency]\nmode = \"fixed\"\nnum_instances = {SANDBOXES}\n"
        );
        fs::write(app.join(".miren/app.toml"), settings)?;
        let mut app = Self {
            node,
            folder: app,
            release: 0,
        };
        app.deploy()?.finish().context("the first deploy")?;
        app.node.json(&["route", "set", HOST, NAME])?;
        app.wait_until_whole()?;
        Ok(app)
    }

    /// Begins a deploy of changed code.
    pub fn deploy(&mut self) -> anyhow::Result<Begun> {
        self.release += 1;
        fs::write(self.folder.join("VERSION"), self.release.to_string())?;
        let folder = self.folder.to_str().context("the temporary folder has an odd name")?;
        self.node.begin(&["deploy", "-d", folder])
    }

    /// The way in through the node's own ingress.
    pub fn target(&self) -> Target {
        self.target_at(&self.node.http)
    }

    pub fn target_at(&self, http: &str) -> Target {
        Target {
            http: http.to_owned(),
            host: HOST.to_owned(),
        }
    }

    /// All that control knows, ended ones included.
    pub fn sandboxes(&self) -> anyhow::Result<Vec<Sandbox>> {
        let listed = self.node.json(&["sandbox", "list", "--all", "-a", NAME])?;
        let sandbox = |listed: &Value| {
            let text = |key: &str| listed[key].as_str().map(str::to_owned);
            text("id").zip(text("state")).map(|(id, state)| Sandbox { id, state })
        };
        let sandboxes = listed.as_array().into_iter().flatten().map(sandbox);
        sandboxes
            .collect::<Option<_>>()
            .with_context(|| format!("reading the list of sandboxes: {listed}"))
    }

    pub fn running(&self) -> anyhow::Result<Vec<Sandbox>> {
        let mut running = self.sandboxes()?;
        running.retain(|sandbox| sandbox.state == "RUNNING");
        Ok(running)
    }

    /// Until two run, and nothing ends.
    pub fn wait_until_whole(&self) -> anyhow::Result<()> {
        wait::until("two sandboxes to run and no other", LIMIT, || {
            let mut sandboxes = self.sandboxes()?;
            sandboxes.retain(|sandbox| !has_ended(sandbox));
            let running = sandboxes.iter().filter(|sandbox| sandbox.state == "RUNNING").count();
            Ok((running == SANDBOXES && sandboxes.len() == SANDBOXES).then_some(()))
        })
    }
}

/// Nothing of it runs.
pub fn has_ended(sandbox: &Sandbox) -> bool {
    matches!(sandbox.state.as_str(), "STOPPED" | "DEAD")
}

/// No request and no WebSocket is waited for any more.
pub fn is_idle(sandbox: &Sandbox) -> bool {
    has_ended(sandbox) || sandbox.state == "STOPPING"
}

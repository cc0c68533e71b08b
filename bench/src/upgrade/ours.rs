//! Decides how ours is replaced: a proxy beside that of a node of its own, by `miren-proxy upgrade`.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::Context;

use super::theirs::gone;
use crate::coldstart::first_byte;
use crate::crowd::Target;
use crate::exercise::{Exercise, OURS, Times};
use crate::node::{self, App};
use crate::peer::app_process::free_address;
use crate::peer::process::Process;

pub struct Handover {
    /// Ended before its node, whose control it follows.
    proxy: Proxy,
    old: Vec<Process>,
    app: App,
}

impl Handover {
    pub fn start(folder: &Path) -> anyhow::Result<Self> {
        let app = App::start(folder, "up", "")?;
        let proxy = Proxy::start(&folder.join("node"))?;
        first_byte::ask_until_answered(proxy.http, &app.target().host)?;
        Ok(Self {
            proxy,
            old: Vec::new(),
            app,
        })
    }
}

impl Exercise for Handover {
    fn who(&self) -> String {
        OURS.to_owned()
    }

    fn what(&self) -> &'static str {
        "upgrade"
    }

    fn target(&self) -> Target {
        self.app.target_at(&self.proxy.http.to_string())
    }

    fn perform(&mut self) -> anyhow::Result<Times> {
        let begun = Instant::now();
        self.old.push(self.proxy.upgrade()?);
        Ok(vec![("serves", begun.elapsed())])
    }

    fn settle(&mut self) -> anyhow::Result<Times> {
        gone(&mut self.old)
    }
}

/// A proxy that no supervisor replaces.
struct Proxy {
    /// The first of them.
    first: Child,
    /// The one that serves comes last.
    all: Vec<Process>,
    settings: PathBuf,
    http: SocketAddr,
}

impl Proxy {
    /// Like the node's own in that folder, with ports and a folder of its own.
    fn start(folder: &Path) -> anyhow::Result<Self> {
        let own = fs::read_to_string(folder.join("proxy.toml")).context("reading the settings of the node's proxy")?;
        let is_shared =
            |line: &&str| ["control", "slots", "user"].contains(&line.split(' ').next().unwrap_or_default());
        let shared: Vec<&str> = own.lines().filter(is_shared).collect();
        let (http, settings) = (free_address()?, folder.join("upgraded.toml"));
        let text = format!(
            "{}\ndata_dir = {:?}\n[listen]\nhttp = [\"{http}\"]\n[admin]\nlisten = \"{}\"\n",
            shared.join("\n"),
            folder.join("upgraded"),
            free_address()?,
        );
        fs::write(&settings, text).context("writing the settings of a proxy")?;
        let log = fs::File::create(folder.join("upgraded.log"))?;
        let mut command = Command::new(node::program("miren-proxy")?);
        command.arg("--config").arg(&settings).stdin(Stdio::null());
        let first = command
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("starting a proxy")?;
        let process = i32::try_from(first.id()).ok().and_then(Process::find);
        Ok(Self {
            first,
            all: process.into_iter().collect(),
            settings,
            http,
        })
    }

    /// Another serves in its place from now on; the one before.
    fn upgrade(&mut self) -> anyhow::Result<Process> {
        let mut command = Command::new(node::program("miren-proxy")?);
        let done = command.arg("--config").arg(&self.settings).arg("upgrade").output()?;
        let said = String::from_utf8_lossy(&done.stdout);
        let complained = String::from_utf8_lossy(&done.stderr);
        anyhow::ensure!(done.status.success(), "miren-proxy upgrade failed: {said}{complained}");
        let pid = said.split(' ').nth(1).and_then(|pid| pid.parse().ok());
        let new = pid
            .and_then(Process::find)
            .with_context(|| format!("no process in {said:?}"))?;
        let old = self.all.last().copied().context("no proxy ran")?;
        self.all.push(new);
        Ok(old)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        for process in &self.all {
            process.end();
        }
        let _ = self.first.wait();
    }
}

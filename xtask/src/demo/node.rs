//! One `miren dev` of the demo's own, and the CLI pointed at it.

use crate::command::{binary, output};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A running `miren dev`; stopped when dropped, unless told to stay.
pub struct Node {
    child: Option<Child>,
    /// Where the ingress listens.
    pub http: String,
    server: String,
    /// `kernel` or `off`.
    pub fast_path: String,
}

impl Node {
    pub fn start(dir: &Path) -> Result<Self> {
        let mut dev = Command::new(binary("miren"));
        let name = format!("demo-{}", std::process::id());
        dev.args([
            "dev",
            "--http",
            "127.0.0.1:0",
            "--format",
            "json",
            "--name",
            &name,
            "--dir",
        ])
        .arg(dir);
        let mut child = dev
            .stdout(Stdio::piped())
            .stdin(Stdio::null())
            .spawn()
            .context("cannot start miren dev")?;
        let stdout = child.stdout.take().context("miren dev has no output")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        if line.is_empty() {
            bail!("miren dev ended before it was ready: {}", child.wait()?);
        }
        let ready: Value = serde_json::from_str(&line).with_context(|| format!("miren dev printed {line:?}"))?;
        let text = |key: &str| {
            ready[key]
                .as_str()
                .map(str::to_owned)
                .with_context(|| format!("{key} is missing in {line}"))
        };
        let (http, server, fast_path) = (text("http")?, text("server")?, text("fast_path")?);
        Ok(Self {
            child: Some(child),
            http,
            server,
            fast_path,
        })
    }

    /// A CLI command against this node.
    pub fn miren(&self, arguments: &[&str]) -> Command {
        let mut miren = Command::new(binary("miren"));
        miren.arg("--server").arg(&self.server).args(arguments);
        miren
    }

    /// Runs a CLI command and parses the one document it prints.
    pub fn json(&self, arguments: &[&str]) -> Result<Value> {
        let printed = output(self.miren(arguments).args(["--format", "json"]))?;
        serde_json::from_str(&printed).with_context(|| format!("miren {} printed {printed:?}", arguments.join(" ")))
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    pub fn describe(&self) -> String {
        format!("talk to it with: miren --server {} app list;", self.server)
    }

    /// Lets it go on without us.
    pub fn leave(&mut self) {
        self.child = None;
    }

    /// Stops it the way an operator would, and insists on a clean end.
    pub fn stop(&mut self) -> Result<()> {
        let Some(mut child) = self.child.take() else {
            return Ok(());
        };
        signal(child.id(), "TERM")?;
        let status = child.wait()?;
        if status.success() {
            Ok(())
        } else {
            bail!("miren dev did not stop cleanly: {status}")
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Only on the way out of an error, which is what the user needs to see.
        let _ = self.stop();
    }
}

/// Sends a signal to one process of ours.
pub fn signal(pid: u32, name: &str) -> Result<()> {
    output(Command::new("kill").args([format!("-{name}"), pid.to_string()])).map(|_| ())
}

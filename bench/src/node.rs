//! Decides how a scenario gets a node of its own: a `miren dev` beside this program, stopped with it.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

mod app;

pub use app::{App, Sandbox, has_ended, is_idle};

/// A running `miren dev`; stopped when dropped.
pub struct Node {
    dev: Child,
    /// Where its programs are.
    programs: PathBuf,
    /// Where the ingress listens.
    pub http: String,
    /// The ingress.
    pub proxy: Pid,
    server: String,
    /// `kernel` or `off`.
    pub fast_path: String,
}

/// The folder of this build's programs.
pub fn programs() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("finding the folder of this program")?;
    Ok(own.parent().map(Path::to_owned).unwrap_or_default())
}

/// A program of this build.
pub fn program(name: &str) -> anyhow::Result<PathBuf> {
    program_in(&programs()?, name)
}

fn program_in(folder: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let path = folder.join(name);
    anyhow::ensure!(path.exists(), "{} is missing: run `cargo xtask build`", path.display());
    Ok(path)
}

impl Node {
    /// Starts one in `folder`.
    pub fn start(folder: &Path) -> anyhow::Result<Self> {
        Self::start_as(&format!("bench-{}", std::process::id()), folder, &[])
    }

    /// As [`Node::start`], with a name and further options.
    pub fn start_as(name: &str, folder: &Path, options: &[&str]) -> anyhow::Result<Self> {
        Self::start_from(&programs()?, name, folder, options)
    }

    /// As [`Node::start_as`], of the build in `programs`.
    pub fn start_from(programs: &Path, name: &str, folder: &Path, options: &[&str]) -> anyhow::Result<Self> {
        let mut dev = Command::new(program_in(programs, "miren")?);
        dev.args([
            "dev",
            "--http",
            "127.0.0.1:0",
            "--format",
            "json",
            "--name",
            name,
            "--dir",
        ])
        .arg(folder)
        .args(options)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
        let mut dev = dev.spawn().context("starting miren dev")?;
        let mut line = String::new();
        if let Some(stdout) = dev.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        if line.is_empty() {
            bail!("miren dev ended before it was ready: {}", dev.wait()?);
        }
        let ready: Value = serde_json::from_str(&line).with_context(|| format!("miren dev printed {line:?}"))?;
        let text = |key: &str| ready[key].as_str().unwrap_or_default().to_owned();
        let proxy = ready["proxy_pid"].as_i64().and_then(|pid| i32::try_from(pid).ok());
        Ok(Self {
            dev,
            programs: programs.to_owned(),
            http: text("http"),
            proxy: Pid::from_raw(proxy.with_context(|| format!("proxy_pid is missing in {line}"))?),
            server: text("server"),
            fast_path: text("fast_path"),
        })
    }

    fn miren(&self, arguments: &[&str]) -> anyhow::Result<Command> {
        let mut miren = Command::new(program_in(&self.programs, "miren")?);
        miren
            .args(["--format", "json", "--server", &self.server])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        Ok(miren)
    }

    /// Runs a command to its end; the document it prints.
    pub fn json(&self, arguments: &[&str]) -> anyhow::Result<Value> {
        let done = self.miren(arguments)?.output()?;
        let printed = String::from_utf8_lossy(&done.stdout);
        anyhow::ensure!(done.status.success(), "miren {} failed: {printed}", arguments.join(" "));
        serde_json::from_str(&printed).with_context(|| format!("miren {} printed {printed:?}", arguments.join(" ")))
    }

    /// Runs a command that prints one document a line until it is told to end.
    pub fn follow(&self, arguments: &[&str]) -> anyhow::Result<Following> {
        Ok(Following(self.miren(arguments)?.spawn()?))
    }

    /// Begins a command that ends by itself.
    pub fn begin(&self, arguments: &[&str]) -> anyhow::Result<Begun> {
        let mut miren = self.miren(arguments)?;
        Ok(Begun(miren.stderr(Stdio::piped()).spawn().context("starting miren")?))
    }

    /// Stops it as an operator would.
    pub fn stop(mut self) -> anyhow::Result<()> {
        end(&self.dev, Signal::SIGTERM)?;
        let status = self.dev.wait()?;
        anyhow::ensure!(status.success(), "miren dev did not stop cleanly: {status}");
        Ok(())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if matches!(self.dev.try_wait(), Ok(None)) {
            // On the way out of an error, which is what the user needs to see.
            let _ = end(&self.dev, Signal::SIGTERM);
            let _ = self.dev.wait();
        }
    }
}

/// A command that ends by itself.
pub struct Begun(Child);

impl Begun {
    /// Waits for its end, which has to be a good one.
    pub fn finish(self) -> anyhow::Result<()> {
        let done = self.0.wait_with_output()?;
        let said = String::from_utf8_lossy(&done.stderr);
        anyhow::ensure!(done.status.success(), "a command failed, {}: {said}", done.status);
        Ok(())
    }
}

/// A command that goes on.
pub struct Following(Child);

impl Following {
    /// Ends it; everything it has printed.
    pub fn finish(mut self) -> anyhow::Result<Vec<Value>> {
        end(&self.0, Signal::SIGINT)?;
        let mut text = String::new();
        if let Some(stdout) = &mut self.0.stdout {
            stdout.read_to_string(&mut text)?;
        }
        self.0.wait()?;
        text.lines()
            .map(|line| serde_json::from_str(line).with_context(|| format!("reading {line:?}")))
            .collect()
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        // Already gone in the ordinary case.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn end(child: &Child, signal: Signal) -> anyhow::Result<()> {
    kill(Pid::from_raw(i32::try_from(child.id())?), signal)?;
    Ok(())
}

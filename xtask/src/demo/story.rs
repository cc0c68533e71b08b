//! What happens in the demo, step by step, while requests keep coming.

use super::node::{Node, signal};
use crate::command::{binary, target_dir};
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub const HOST: &str = "hello.example.test";
const APP: &str = "hello";
/// Requests a second while things happen.
const RATE: u32 = 500;
/// How long requests go on after each thing that was done.
const AFTERMATH: Duration = Duration::from_secs(2);
/// Generous for a drain: its requests may take their time.
const REPLACED_WITHIN: Duration = Duration::from_secs(60);

/// Everything the report is made of.
pub struct Told {
    pub fast_path: String,
    pub events: Vec<Event>,
    pub load: Value,
    pub status: Value,
    /// What the kernel or control did to slots, oldest first.
    pub transitions: Vec<Value>,
}

/// One thing that was done while requests kept coming.
pub struct Event {
    pub what: &'static str,
    pub took_ms: u64,
    pub outcome: String,
}

pub fn tell(node: &Node, folder: &Path) -> Result<Told> {
    let app = prepare_app(folder)?;
    let mut events = vec![timed("deploy 1: a new app", || deploy(node, &app))?];
    node.json(&["route", "set", HOST, APP])?;
    let watch = Background::start(node.miren(&["fastpath", "watch", "--format", "json"]))?;
    let load = Background::start(load_command(node))?;
    events.push(timed("deploy 2: identical code", || deploy(node, &app))?);
    std::fs::write(app.join("VERSION"), "two\n")?;
    events.push(timed("deploy 3: changed code", || deploy(node, &app))?);
    std::fs::write(app.join("VERSION"), "three\n")?;
    events.push(timed("deploy 4: changed again", || deploy(node, &app))?);
    for what in ["kill -9 of a sandbox", "kill -9 of another"] {
        events.push(timed(what, || kill_one(node))?);
    }
    events.push(timed("drain and replace one", || drain_one(node))?);
    let load = load
        .finish("INT")?
        .pop()
        .context("the load generator reported nothing")?;
    let status = node.json(&["fastpath", "status"])?;
    let transitions = watch.finish("INT")?;
    Ok(Told {
        fast_path: node.fast_path.clone(),
        events,
        load,
        status,
        transitions,
    })
}

/// Does one thing, and lets the requests go on for a while after it: what it did wrong would show in them.
fn timed(what: &'static str, act: impl FnOnce() -> Result<String>) -> Result<Event> {
    let start = Instant::now();
    let outcome = act().with_context(|| what.to_owned())?;
    let took_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    std::thread::sleep(AFTERMATH);
    Ok(Event { what, took_ms, outcome })
}

/// A folder as a user would have it: a program and its `.miren/app.toml`.
fn prepare_app(folder: &Path) -> Result<PathBuf> {
    let app = folder.join(APP);
    std::fs::create_dir_all(app.join(".miren"))?;
    let program = target_dir().join("release/hello-rust");
    std::fs::copy(&program, app.join("hello-rust")).with_context(|| format!("cannot copy {}", program.display()))?;
    let settings = format!(
        "name = \"{APP}\"\n\n[services.web]\ncommand = \"./hello-rust\"\n\n\
         [services.web.concurrency]\nmode = \"fixed\"\nnum_instances = 2\n"
    );
    std::fs::write(app.join(".miren/app.toml"), settings)?;
    std::fs::write(app.join("VERSION"), "one\n")?;
    Ok(app)
}

fn deploy(node: &Node, app: &Path) -> Result<String> {
    let folder = app.to_str().context("the temporary folder has an odd name")?;
    let deployed = node.json(&["deploy", "-d", folder])?;
    let how = if deployed["reused"] == json!(true) {
        "same pool"
    } else {
        "new pool"
    };
    let text = |key: &str| deployed[key].as_str().unwrap_or("?").to_owned();
    Ok(format!("{} as {} ({how})", text("status"), text("version")))
}

fn load_command(node: &Node) -> Command {
    let mut load = Command::new(binary("miren-bench"));
    load.args([
        "load",
        "--json",
        "--url",
        &format!("http://{}/", node.http),
        "--host",
        HOST,
    ]);
    // Longer than the story can take; the end of the story ends it.
    load.args(["--rate", &RATE.to_string(), "--duration", "10m", "--connections", "64"]);
    load
}

fn running(node: &Node) -> Result<Vec<Value>> {
    let listed = node.json(&["sandbox", "list", "--state", "running", "-a", APP])?;
    Ok(listed.as_array().cloned().unwrap_or_default())
}

/// Kills the init of one sandbox and follows the events until its pool is whole again.
fn kill_one(node: &Node) -> Result<String> {
    let (victim, pid) = pick(node)?;
    replaced(node, &victim, || signal(pid, "KILL"))
}

fn drain_one(node: &Node) -> Result<String> {
    let (victim, _) = pick(node)?;
    replaced(node, &victim, || node.json(&["sandbox", "stop", &victim]).map(|_| ()))
}

fn pick(node: &Node) -> Result<(String, u32)> {
    let running = running(node)?;
    let victim = running.first().context("no sandbox is running")?;
    let id = victim["id"].as_str().context("a sandbox without id")?;
    let pid = victim["pid"]
        .as_u64()
        .and_then(|pid| u32::try_from(pid).ok())
        .context("a sandbox without pid")?;
    Ok((id.to_owned(), pid))
}

/// Acts on a sandbox and waits until another one runs in its place.
fn replaced(node: &Node, victim: &str, act: impl FnOnce() -> Result<()>) -> Result<String> {
    let before = running(node)?.len();
    act()?;
    let deadline = Instant::now() + REPLACED_WITHIN;
    while Instant::now() < deadline {
        let now = running(node)?;
        let gone = now.iter().all(|sandbox| sandbox["id"].as_str() != Some(victim));
        if gone && now.len() >= before {
            return Ok(format!("{victim} gone, {} running again", now.len()));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    bail!("{victim} was not replaced within {} s", REPLACED_WITHIN.as_secs())
}

/// A program of ours that prints JSON lines until it is told to end.
struct Background {
    child: Child,
    output: Option<BufReader<std::process::ChildStdout>>,
}

impl Background {
    fn start(mut command: Command) -> Result<Self> {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let output = child.stdout.take().map(BufReader::new);
        Ok(Self { child, output })
    }

    /// Ends it and returns the JSON documents it printed since it was last read.
    fn finish(mut self, with: &str) -> Result<Vec<Value>> {
        signal(self.child.id(), with)?;
        let mut text = String::new();
        if let Some(mut output) = self.output.take() {
            std::io::Read::read_to_string(&mut output, &mut text)?;
        }
        self.child.wait()?;
        let documents = serde_json::Deserializer::from_str(&text).into_iter::<Value>();
        documents
            .map(|document| document.context("a document is broken"))
            .collect()
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // Already gone in the ordinary case; an error on the way must not leave it behind.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

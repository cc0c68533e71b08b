//! The control daemon killed at each step of a deploy: the deploy goes on, what runs is right, and no request fails.

use std::io::{self, BufRead, BufReader, Read};
use std::process::{Child, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use miren_api::deploy::{Deploy, DeployStatus, DeployStep};
use miren_api::resource::{Pool, PoolState, Sandbox, SandboxState};
use miren_blackbox::{AppFolder, Floor, Mixed, Node, process, wait_until};
use nix::sys::signal::Signal;

const HOST: &str = "steps.example.com";
const SANDBOXES: usize = 2;
/// What `miren deploy` says of each step, in their order. SWITCHING has two: before and after the routing is published.
const STEPS: [&str; 6] = [
    "ACCEPTED",
    "STAGING",
    "STARTING",
    "SWITCHING    every",
    "SWITCHING    published",
    "DRAINING_OLD",
];
/// Of each start of the app, so that STARTING lasts, milliseconds.
const START_DELAY: &str = "300";
const LIMIT: Duration = Duration::from_secs(60);

/// `miren deploy`, followed while it runs.
struct Following {
    child: Child,
    lines: Receiver<String>,
}

impl Following {
    #[track_caller]
    fn start(node: &Node, app: &AppFolder) -> Self {
        let mut command = node.cli.command(&["--format", "json", "deploy", "-d"]);
        let piped = command.arg(app.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().expect("starting miren deploy");
        let stderr = child.stderr.take().expect("its output is piped");
        let (send, lines) = mpsc::channel();
        thread::spawn(move || {
            let lines = BufReader::new(stderr).lines().map_while(io::Result::ok);
            lines.for_each(|line| drop(send.send(line)));
        });
        Self { child, lines }
    }

    /// Reads on until a step is told.
    #[track_caller]
    fn wait_for(&self, step: &str) {
        let mut seen = Vec::new();
        while !seen
            .last()
            .is_some_and(|line: &String| line.trim_start().starts_with(step))
        {
            let next = self.lines.recv_timeout(LIMIT);
            seen.push(next.unwrap_or_else(|_| panic!("{step:?} was not told: {seen:#?}")));
        }
    }

    /// Its exit code, and what it printed for scripts.
    #[track_caller]
    fn end(mut self) -> (Option<i32>, serde_json::Value) {
        let status = wait_until("miren deploy to return", LIMIT, || {
            let status = self.child.try_wait().expect("waiting for a child");
            status.ok_or_else(|| format!("it told {:?}", self.lines.try_iter().collect::<Vec<_>>()))
        });
        let (mut text, stdout) = (String::new(), self.child.stdout.take());
        let read = stdout.expect("its output is piped").read_to_string(&mut text);
        read.expect("its output is text");
        (status.code(), serde_json::from_str(&text).unwrap_or(text.into()))
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The proxy, stopped: it confirms no routing, and whoever connects waits.
struct Stopped(u32);

impl Stopped {
    fn new(proxy: u32) -> Self {
        process::signal(proxy, Signal::SIGSTOP);
        Self(proxy)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        process::signal(self.0, Signal::SIGCONT);
    }
}

#[test]
fn i7_control_killed_at_every_step_of_a_deploy() {
    let node = Node::start();
    let app = AppFolder::rust("steps").fixed(SANDBOXES as u32);
    let app = app.env("START_DELAY_MS", START_DELAY).release("r0");
    node.deploy_at(&app, HOST);
    let mixed = Mixed::start(&node, HOST);
    let mut floors = Vec::new();
    for (number, step) in STEPS.into_iter().enumerate() {
        let release = format!("r{}", number + 1);
        app.set_release(&release);
        let pool = killed_at(&node, &app, step);
        floors.push(Floor {
            from: Instant::now(),
            rank: number as u64 + 1,
        });
        assert_eq!(node.get(HOST, "/info").field("release"), release, "after {step}");
        let mut running = node.wait_running("steps", SANDBOXES);
        running.retain(|sandbox| sandbox.pool.as_str() == pool);
        assert_eq!(running.len(), SANDBOXES, "after {step}: {running:?}");
    }
    let report = mixed.stop();
    println!("{report}");
    report.assert_none_failed();
    report.assert_never_back(&floors, |release| release.strip_prefix('r')?.parse().ok());
    nothing_is_there_twice(&node);
    node.stop();
}

/// Deploys, and kills control when `step` is told; returns the pool of the deploy, which must succeed all the same.
#[track_caller]
fn killed_at(node: &Node, app: &AppFolder, step: &str) -> String {
    let control = wait_until("control to listen", LIMIT, || node.control_pid().ok_or("nobody does"));
    let following = Following::start(node, app);
    // Once a proxy has confirmed it, SWITCHING is over: nobody does until control is dead.
    let stopped = step.contains("published").then(|| {
        following.wait_for("STARTING");
        Stopped::new(node.proxy_pid())
    });
    following.wait_for(step);
    process::kill_and_wait(control);
    let killed = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
    let is_held = stopped.is_some();
    drop(stopped);
    let (code, told) = following.end();
    let ended = (code, told["status"].as_str());
    assert_eq!(ended, (Some(0), Some("SUCCEEDED")), "killed at {step}: {told}");
    assert_ne!(node.control_pid(), Some(control), "it was killed");

    let id = told["deploy"].as_str().expect("a deploy has an id");
    let deploy: Deploy = node.cli.json(&["deploy", "show", id]);
    assert_eq!(deploy.status.as_str(), "SUCCEEDED", "{deploy:?}");
    let before = |step: &&DeployStep| step.at.as_microsecond() < killed.as_micros() as i64;
    let reached = deploy.steps.iter().rfind(before).expect("it was told");
    println!(
        "killed at {step}, after {} {:?}",
        reached.status.as_str(),
        reached.message
    );
    assert!(!is_held || reached.status == DeployStatus::Switching, "{deploy:?}");
    told["pool"].as_str().expect("a deploy has a pool").to_owned()
}

/// One active pool with its sandboxes, and no more of anything than they need.
#[track_caller]
fn nothing_is_there_twice(node: &Node) {
    wait_until("the replaced sandboxes to go", LIMIT, || {
        let mut pools: Vec<Pool> = node.pools("steps");
        pools.retain(|pool| pool.state != PoolState::Retiring);
        let mut alive = node.sandboxes("steps");
        alive.retain(|sandbox| !sandbox.state.is_terminal());
        let counted = node.census("hello-rust");
        let extra = counted.values().any(|count| *count > SANDBOXES);
        let right = |pool: &Pool| alive.iter().all(|sandbox| sandbox.pool == pool.id);
        if pools.len() == 1 && right(&pools[0]) && alive.len() == SANDBOXES && !extra {
            return Ok(());
        }
        Err(format!("{pools:?}, {alive:?}, {counted:?}"))
    });
    // One that control was starting when it was killed never ran; whatever ran was ended on purpose.
    let all = node.sandboxes("steps");
    let crashed = |one: &&Sandbox| one.state == SandboxState::Dead && one.running_at.is_some();
    assert_eq!(all.iter().find(crashed), None);
    let is_ill = |one: &&Sandbox| one.reason.as_ref().is_some_and(|reason| reason.contains("health"));
    assert_eq!(all.iter().find(is_ill), None);
}

//! A node that is cordoned and drained while it works: what was let in finishes, what comes later is told so, EMPTY means empty.

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::process::{Child, Stdio};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use miren_api::node::{NodePhase, NodeStatus};
use miren_api::resource::{FastPathStatus, SandboxState};
use miren_blackbox::leftovers::Leftover;
use miren_blackbox::{AppFolder, Mixed, Node, Output, http, leftovers, process, wait_until};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(120);
/// What keeps a start under way while a drain begins. It finishes whatever the drain does: nothing is lost by a slow machine.
const SLOW: (&str, &str) = ("START_DELAY_MS", "4000");
/// Apps with previews that nobody has asked for yet: fifty cold starts when all are asked for at once.
const COLD: [&str; 5] = ["cold0", "cold1", "cold2", "cold3", "cold4"];
const PREVIEWS: usize = 10;
const IDLE: &str = "[services.web.concurrency]\nmode = \"auto\"\nscale_down_delay = \"0s\"";

pub fn status(node: &Node) -> NodeStatus {
    node.cli.json(&["node", "status"])
}

#[track_caller]
pub fn wait_status(node: &Node, what: &str, is_so: impl Fn(&NodeStatus) -> bool) -> NodeStatus {
    wait_until(what, LIMIT, || match status(node) {
        seen if is_so(&seen) => Ok(seen),
        seen => Err(format!("{seen:?}")),
    })
}

#[track_caller]
pub fn wait_pending(node: &Node, app: &str) {
    wait_until(&format!("{app} to be starting"), LIMIT, || {
        let found = node.sandboxes(app);
        match found.iter().any(|sandbox| sandbox.state == SandboxState::Pending) {
            true => Ok(()),
            false => Err(format!("{found:?}")),
        }
    });
}

/// A call of `miren` that goes on; ended with whoever holds it.
pub struct Call(pub Child);

impl Call {
    #[track_caller]
    pub fn start(node: &Node, arguments: &[&str]) -> Self {
        let mut command = node.cli.command(arguments);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        Self(child.expect("starting a call of miren"))
    }

    /// Waits for its first line: it has been answered, and says how far that is.
    #[track_caller]
    pub fn first_line(&mut self) -> String {
        let errors = self.0.stderr.as_mut().expect("its errors are read here");
        // Byte by byte: what follows is for [`Call::end`].
        let (mut line, mut byte) = (Vec::new(), [0]);
        while byte != *b"\n" {
            errors.read_exact(&mut byte).expect("reading its first line");
            line.extend(byte);
        }
        String::from_utf8(line).expect("text")
    }

    /// Exit code and both outputs; each is less than a pipe holds.
    #[track_caller]
    pub fn end(mut self) -> (i32, String) {
        let code = self.0.wait().expect("waiting for a call").code().unwrap_or(-1);
        let mut said = String::new();
        self.0
            .stdout
            .take()
            .unwrap()
            .read_to_string(&mut said)
            .expect("reading its output");
        self.0
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut said)
            .expect("reading its errors");
        (code, said)
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[track_caller]
pub fn assert_nothing_is_there(node: &Node) {
    for program in ["python3", "hello-rust"] {
        let there: Vec<_> = node
            .census(program)
            .into_iter()
            .filter(|(_, count)| *count > 0)
            .collect();
        assert!(there.is_empty(), "EMPTY, and this is there: {there:?}");
    }
}

/// Makes the previews, none of which has a sandbox.
#[track_caller]
fn cold_previews(node: &Node) {
    let made = COLD.map(|name| {
        let cli = node.cli.clone();
        thread::spawn(move || {
            let app = AppFolder::rust(name).and(IDLE).env("START_DELAY_MS", "300");
            let deployed = cli.deploy(app.path());
            assert_eq!(deployed.code, 0, "{deployed}");
            let version = deployed.field("/version");
            for label in 0..PREVIEWS {
                let preview = ["--version", &version, "--ephemeral", &format!("p{label}")];
                let made = cli.call_json(&[&["deploy", "-a", name], &preview[..]].concat());
                assert_eq!(made.code, 0, "{made}");
            }
        })
    });
    for (name, made) in COLD.into_iter().zip(made) {
        made.join().expect("previews are made");
        node.route(&format!("{name}.example.com"), name);
    }
}

/// Asks for all of them at once; returns when each has its pool, which its request was let in for.
#[track_caller]
fn wake_up(node: &Node) -> Vec<JoinHandle<io::Result<http::Response>>> {
    let hosts = COLD
        .iter()
        .flat_map(|name| (0..PREVIEWS).map(move |label| format!("p{label}.{name}.example.com")));
    let address = node.http;
    let ask = |host: String| thread::spawn(move || http::get(address, &host, "/info"));
    let woken: Vec<_> = hosts.map(ask).collect();
    wait_until("each preview to have its pool", LIMIT, || {
        let pools: Vec<usize> = COLD.map(|name| node.pools(name).len()).into();
        match pools.iter().all(|count| *count > PREVIEWS) {
            true => Ok(()),
            false => Err(format!("{pools:?}")),
        }
    });
    woken
}

/// What the node itself has is all that is there: not one address, pin, cgroup, mount or process of a sandbox.
#[track_caller]
fn assert_as_before(node: &Node, before: &BTreeSet<Leftover>) {
    let now = node.leftovers();
    // The node's own group comes with its first sandbox and stays; what is in it was counted.
    let is_own = |found: &&Leftover| !matches!(found, Leftover::Cgroup(_));
    let more: BTreeSet<Leftover> = now.difference(before).filter(is_own).cloned().collect();
    assert!(
        more.is_empty(),
        "EMPTY, and this is there:\n{}",
        leftovers::describe(&more)
    );
    let fast_path: FastPathStatus = node.cli.json(&["fastpath", "status"]);
    assert_eq!(fast_path.slots.used, 0, "{fast_path:?}");
}

/// The gate of the API, then that of sandboxes, then sandboxes, then nothing.
#[track_caller]
fn assert_in_order(log: &str) {
    let first = |what: &str| log.find(what).unwrap_or_else(|| panic!("no {what:?} in {log}"));
    let steps = [
        "the node drains: nothing new is let in",
        "no sandbox is started any more",
        "reason=\"the node drains\"",
        "phase=\"EMPTY\"",
    ];
    let places = steps.map(first);
    assert!(places.is_sorted(), "{steps:?} are at {places:?}: {log}");
    let last_start = log.rfind("state=\"RUNNING\"").expect("something ran");
    assert!(
        last_start < places[1],
        "a sandbox began to serve behind the gate: {log}"
    );
}

#[test]
fn d2_d3_a_drain_during_deploys_and_cold_starts_lets_them_finish_and_leaves_nothing() {
    let node = Node::start();
    let before = node.leftovers();
    node.deploy_at(&AppFolder::rust("shop").fixed(2), "shop.example.com");
    cold_previews(&node);
    let idle = AppFolder::rust("idle").and(IDLE);
    node.deploy_at(&idle, "idle.example.com");
    node.wait_running("idle", 0);
    let deploys: Vec<_> = ["one", "two", "three"]
        .map(|name| {
            let (cli, app) = (node.cli.clone(), AppFolder::python(name).env(SLOW.0, SLOW.1));
            (name, thread::spawn(move || cli.deploy(app.path())))
        })
        .into();
    deploys.iter().for_each(|(name, _)| wait_pending(&node, name));
    let woken = wake_up(&node);

    let drain = Call::start(&node, &["node", "drain", "--allow-outage"]);
    wait_status(&node, "the gate of the API to be closed", |seen| {
        seen.phase != NodePhase::Active
    });
    let late = node.cli.deploy(AppFolder::rust("late").path());
    assert_eq!(late.code, 1, "{late}");
    assert_eq!(late.parsed::<Value>()["error"]["code"], "draining", "{late}");
    let asleep = node.get("idle.example.com", "/info");
    assert_eq!((asleep.status, asleep.code()), (503, "draining"), "{asleep:?}");

    for request in woken {
        let answer = request.join().unwrap().expect("an answer to a request that was let in");
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    for (name, deploy) in deploys {
        let ended: Output = deploy.join().unwrap();
        assert_eq!(ended.code, 0, "{name}: {ended}");
    }
    let (code, said) = drain.end();
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("is drained: nothing is left of its sandboxes"), "{said}");
    let seen = status(&node);
    assert_eq!(
        (seen.phase, seen.living(), seen.errors.len()),
        (NodePhase::Empty, 0, 0),
        "{seen:?}"
    );
    assert_nothing_is_there(&node);
    assert_as_before(&node, &before);
    assert_in_order(&node.log());
    let metrics = node.control_metrics();
    assert!(metrics.contains("miren_node_phase{phase=\"EMPTY\"} 1"), "{metrics}");

    let opened = node.cli.call(&["node", "undrain"]);
    assert_eq!(opened.code, 0, "{opened}");
    node.wait_running("shop", 2);
    wait_until("shop to be served again", LIMIT, || {
        match node.get("shop.example.com", "/info") {
            answer if answer.status == 200 => Ok(()),
            answer => Err(format!("{answer:?}")),
        }
    });
    node.stop();
}

#[test]
fn d1_cordoned_a_hundred_times_under_load_nothing_fails_and_placements_are_refused_by_name() {
    let node = Node::start();
    node.deploy_at(&AppFolder::python("shop").fixed(2), "shop.example.com");
    let load = Mixed::start(&node, "shop.example.com");
    let next = AppFolder::rust("next");
    for round in 0..100 {
        let cordoned = node.cli.call(&["node", "cordon"]);
        assert_eq!(cordoned.code, 0, "{cordoned}");
        if round % 10 == 0 {
            let refused = node.cli.deploy(next.path());
            let error = &refused.parsed::<Value>()["error"];
            assert_eq!(
                (refused.code, &error["code"]),
                (1, &Value::from("cordoned")),
                "{refused}"
            );
            assert_eq!(error["remedy"], "miren node uncordon", "{refused}");
            let victim = node.wait_running("shop", 2)[0].id.to_string();
            let stopped = node.cli.call(&["sandbox", "stop", &victim]);
            assert_eq!(stopped.code, 0, "{stopped}");
        }
        let uncordoned = node.cli.call(&["node", "uncordon"]);
        assert_eq!(uncordoned.code, 0, "{uncordoned}");
    }
    let report = load.stop();
    report.assert_none_failed();
    assert_eq!(status(&node).phase, NodePhase::Active);
    node.stop();
}

#[test]
fn d3_a_drain_survives_kill_9_of_control_and_an_empty_node_stays_empty() {
    let node = Node::start();
    node.deploy_at(&AppFolder::rust("shop").fixed(3), "shop.example.com");
    let drained = node.cli.call(&["node", "drain", "--allow-outage"]);
    assert_eq!(drained.code, 0, "{drained}");
    process::kill_and_wait(node.control_pid().expect("control runs"));
    let seen = wait_until("control to be back", LIMIT, || {
        let output = node.cli.call_json(&["node", "status"]);
        match output.code {
            0 => Ok(output.parsed::<NodeStatus>()),
            _ => Err(output.to_string()),
        }
    });
    assert!(matches!(seen.phase, NodePhase::Draining | NodePhase::Empty), "{seen:?}");
    wait_status(&node, "the node to be EMPTY", |seen| seen.phase == NodePhase::Empty);
    assert_nothing_is_there(&node);
    let answer = node.get("shop.example.com", "/info");
    assert_eq!((answer.status, answer.code()), (503, "draining"), "{answer:?}");
    node.stop();
}

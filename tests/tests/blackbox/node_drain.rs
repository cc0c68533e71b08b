//! A node that is cordoned and drained while it works: what was let in finishes, what comes later is told so, EMPTY means empty.

use std::io::Read;
use std::process::{Child, Stdio};
use std::thread;
use std::time::Duration;

use miren_api::node::{DrainStep, NodePhase, NodeStatus};
use miren_api::resource::SandboxState;
use miren_blackbox::{AppFolder, Mixed, Node, Output, http, process, wait_until};
use nix::sys::signal::Signal;
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(120);
/// What keeps a start under way while a drain begins. It finishes whatever the drain does: nothing is lost by a slow machine.
const SLOW: (&str, &str) = ("START_DELAY_MS", "4000");
const IDLE: &str = "[services.web.concurrency]\nmode = \"auto\"\nscale_down_delay = \"0s\"";

fn status(node: &Node) -> NodeStatus {
    node.cli.json(&["node", "status"])
}

#[track_caller]
fn wait_status(node: &Node, what: &str, is_so: impl Fn(&NodeStatus) -> bool) -> NodeStatus {
    wait_until(what, LIMIT, || match status(node) {
        seen if is_so(&seen) => Ok(seen),
        seen => Err(format!("{seen:?}")),
    })
}

#[track_caller]
fn wait_pending(node: &Node, app: &str) {
    wait_until(&format!("{app} to be starting"), LIMIT, || {
        let found = node.sandboxes(app);
        match found.iter().any(|sandbox| sandbox.state == SandboxState::Pending) {
            true => Ok(()),
            false => Err(format!("{found:?}")),
        }
    });
}

/// A call of `miren` that goes on; ended with whoever holds it.
struct Call(Child);

impl Call {
    #[track_caller]
    fn start(node: &Node, arguments: &[&str]) -> Self {
        let mut command = node.cli.command(arguments);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        Self(child.expect("starting a call of miren"))
    }

    /// Exit code and both outputs; each is less than a pipe holds.
    #[track_caller]
    fn end(mut self) -> (i32, String) {
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
fn assert_nothing_is_there(node: &Node) {
    for program in ["python3", "hello-rust"] {
        let there: Vec<_> = node
            .census(program)
            .into_iter()
            .filter(|(_, count)| *count > 0)
            .collect();
        assert!(there.is_empty(), "EMPTY, and this is there: {there:?}");
    }
}

#[test]
fn d2_d3_a_drain_during_deploys_and_cold_starts_lets_them_finish_and_leaves_nothing() {
    let node = Node::start();
    node.deploy_at(&AppFolder::rust("shop").fixed(2), "shop.example.com");
    let cold = AppFolder::python("cold").and(IDLE).env(SLOW.0, SLOW.1);
    node.deploy_at(&cold, "cold.example.com");
    let idle = AppFolder::rust("idle").and(IDLE);
    node.deploy_at(&idle, "idle.example.com");
    for app in ["cold", "idle"] {
        node.wait_running(app, 0);
    }
    let deploys: Vec<_> = ["one", "two", "three"]
        .map(|name| {
            let (cli, app) = (node.cli.clone(), AppFolder::python(name).env(SLOW.0, SLOW.1));
            (name, thread::spawn(move || cli.deploy(app.path())))
        })
        .into();
    deploys.iter().for_each(|(name, _)| wait_pending(&node, name));
    let address = node.http;
    let woken: Vec<_> = (0..50)
        .map(|_| thread::spawn(move || http::get(address, "cold.example.com", "/info")))
        .collect();
    wait_pending(&node, "cold");

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
fn d4_a_forced_drain_ends_what_ignores_sigterm_and_what_does_not_start_and_names_both() {
    let node = Node::start();
    let deaf = AppFolder::python("deaf")
        .and("shutdown_timeout = \"10m\"")
        .env("IGNORE_SIGTERM", "1");
    node.deploy_at(&deaf, "deaf.example.com");
    let stuck = AppFolder::python("stuck")
        .and("port_timeout = \"5m\"")
        .env("NEVER_LISTEN", "1");
    let deploying = {
        let cli = node.cli.clone();
        thread::spawn(move || cli.deploy(stuck.path()))
    };
    wait_pending(&node, "stuck");
    let [deaf, stuck] = ["deaf", "stuck"].map(|app| {
        let there = node
            .sandboxes(app)
            .into_iter()
            .find(|sandbox| !sandbox.state.is_terminal());
        there.expect("a sandbox that has not ended").id.to_string()
    });

    let usage = node.cli.call(&["node", "drain", "--force"]);
    assert_eq!(usage.code, 2, "there is no drain to force: {usage}");
    let mut waits = Call::start(&node, &["node", "drain", "--allow-outage", "--timeout", "0s"]);
    let seen = wait_status(&node, "the drain to wait", |seen| {
        seen.waits_for == Some(DrainStep::Admitted)
    });
    assert!(seen.deadline.is_none(), "{seen:?}");
    process::signal(waits.0.id(), Signal::SIGINT);
    assert_eq!(waits.0.wait().unwrap().code(), Some(130));
    let (_, said) = waits.end();
    assert!(
        said.contains("goes on draining without being watched, and takes nothing new"),
        "{said}"
    );
    let late = node.cli.deploy(AppFolder::rust("late").path());
    assert_eq!(late.parsed::<Value>()["error"]["code"], "draining", "{late}");

    let five: Vec<Call> = (0..5)
        .map(|_| Call::start(&node, &["node", "drain", "--force"]))
        .collect();
    for call in five {
        let (code, said) = call.end();
        assert_eq!(code, 0, "{said}");
        for sandbox in [&deaf, &stuck] {
            assert_eq!(said.matches(&format!("sandbox {sandbox} of")).count(), 1, "{said}");
        }
    }
    let failed = deploying.join().unwrap();
    assert_eq!(failed.code, 1, "{failed}");
    let log = node.log();
    assert_eq!(log.matches("what is left on the node is killed").count(), 1, "{log}");
    assert_nothing_is_there(&node);
    node.stop();
}

#[test]
fn d1_cordoned_a_hundred_times_under_load_nothing_fails_and_placements_are_refused_by_name() {
    let node = Node::start();
    node.deploy_at(&AppFolder::python("shop").fixed(2), "shop.example.com");
    let load = Mixed::start(&node, "shop.example.com");
    let next = AppFolder::rust("next");
    for round in 0..50 {
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

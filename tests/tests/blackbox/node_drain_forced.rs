//! A drain that is forced ends whatever is stuck, says what that was, and is watched and asked for without an end of patience.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use miren_api::node::{DrainStep, NodePhase, NodeStatus};
use miren_api::resource::Sandbox;
use miren_blackbox::{AppFolder, Node, process};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::node_drain::{Call, assert_nothing_is_there, status, wait_pending, wait_status};

/// Something in the way of the end of a sandbox, until this is dropped: a group of processes within its own.
struct InTheWay(Vec<PathBuf>);

impl InTheWay {
    #[track_caller]
    fn of(sandbox: &Sandbox) -> Self {
        let pid = sandbox.pid.expect("a running sandbox has a process");
        let groups = process::cgroups(pid).into_iter();
        let own = groups.filter(|group| group.ends_with(sandbox.id.as_str()));
        let ways: Vec<PathBuf> = own.map(|group| group.join("in-the-way")).collect();
        assert!(!ways.is_empty(), "{sandbox:?}");
        ways.iter().for_each(|way| fs::create_dir(way).expect("making a group"));
        Self(ways)
    }
}

impl Drop for InTheWay {
    fn drop(&mut self) {
        for way in &self.0 {
            if let Err(error) = fs::remove_dir(way) {
                eprintln!("removing {}: {error}", way.display());
            }
        }
    }
}

/// Asks how the node is, again and again: how long each answer took, and the last one.
struct Watch {
    running: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Duration>>,
}

impl Watch {
    fn start(node: &Node) -> Self {
        let (running, cli) = (Arc::new(AtomicBool::new(true)), node.cli.clone());
        let goes_on = Arc::clone(&running);
        let thread = thread::spawn(move || {
            let mut times = Vec::new();
            while goes_on.load(Ordering::Relaxed) {
                let begun = Instant::now();
                let _: NodeStatus = cli.json(&["node", "status"]);
                times.push(begun.elapsed());
            }
            times.sort();
            times
        });
        Self { running, thread }
    }

    /// How long the answers took, for whoever reads: a slow machine is no defect.
    fn stop(self) {
        self.running.store(false, Ordering::Relaxed);
        let times = self.thread.join().expect("every question is answered");
        let (count, half, p99) = (times.len(), times[times.len() / 2], times[times.len() * 99 / 100]);
        println!(
            "`miren node status` answered {count} times while a start hung: half within {half:?}, 99 % within {p99:?}"
        );
    }
}

#[test]
fn d4_d5_a_forced_drain_ends_or_names_what_is_stuck_and_happens_once() {
    let node = Node::start();
    let deaf = AppFolder::python("deaf")
        .and("shutdown_timeout = \"10m\"")
        .env("IGNORE_SIGTERM", "1");
    node.deploy_at(&deaf, "deaf.example.com");
    node.deploy_at(&AppFolder::rust("dirty").fixed(1), "dirty.example.com");
    let dirty = node.wait_running("dirty", 1).remove(0);
    let in_the_way = InTheWay::of(&dirty);
    let stuck = AppFolder::python("stuck")
        .and("port_timeout = \"5m\"")
        .env("NEVER_LISTEN", "1");
    let deploying = {
        let cli = node.cli.clone();
        thread::spawn(move || cli.deploy(stuck.path()))
    };
    wait_pending(&node, "stuck");
    let [deaf, stuck] = ["deaf", "stuck"].map(|app| {
        let mut there = node.sandboxes(app).into_iter();
        let lives = there.find(|sandbox| !sandbox.state.is_terminal());
        lives.expect("a sandbox that has not ended").id.to_string()
    });
    let watch = Watch::start(&node);
    cancelled_by_hand(&node);

    let five: Vec<Call> = (0..5)
        .map(|_| Call::start(&node, &["node", "drain", "--force"]))
        .collect();
    let named = [&*deaf, &*stuck, dirty.id.as_str()];
    wait_status(&node, "all three to be named", |seen| {
        named
            .iter()
            .all(|id| seen.errors.iter().any(|error| error.contains(id)))
    });
    drop(in_the_way);
    for call in five {
        let (code, said) = call.end();
        assert_eq!(code, 0, "{said}");
        for sandbox in [&deaf, &stuck] {
            assert_eq!(said.matches(&format!("sandbox {sandbox} of")).count(), 1, "{said}");
        }
        assert!(
            said.contains("in-the-way") || said.contains(dirty.id.as_str()),
            "{said}"
        );
    }
    watch.stop();
    let failed = deploying.join().unwrap();
    assert_eq!(failed.code, 1, "{failed}");
    let seen = status(&node);
    assert_eq!(seen.phase, NodePhase::Empty, "{seen:?}");
    for id in named {
        let of_it = seen.errors.iter().filter(|error| error.contains(id));
        assert_eq!(of_it.count(), 1, "{id}: {seen:?}");
    }
    let log = node.log();
    assert_eq!(log.matches("what is left on the node is killed").count(), 1, "{log}");
    assert_nothing_is_there(&node);
    node.stop();
}

/// Whoever waits for a drain stops waiting; the drain goes on, and nothing is let in again.
#[track_caller]
fn cancelled_by_hand(node: &Node) {
    let usage = node.cli.call(&["node", "drain", "--force"]);
    assert_eq!(usage.code, 2, "there is no drain to force: {usage}");
    let mut waits = Call::start(node, &["node", "drain", "--allow-outage", "--timeout", "0s"]);
    let seen = wait_status(node, "the drain to wait", |seen| {
        seen.waits_for == Some(DrainStep::Admitted)
    });
    assert!(seen.deadline.is_none(), "{seen:?}");
    // What is said differs before it has been answered.
    waits.first_line();
    process::signal(waits.0.id(), Signal::SIGINT);
    assert_eq!(waits.0.wait().unwrap().code(), Some(130));
    let (_, said) = waits.end();
    assert!(
        said.contains("goes on draining without being watched, and takes nothing new"),
        "{said}"
    );
    let late = node.cli.deploy(AppFolder::rust("late").path());
    assert_eq!(late.parsed::<Value>()["error"]["code"], "draining", "{late}");
}

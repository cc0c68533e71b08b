//! With the control daemon dead, apps serve on and the kernel still drops what dies; a new daemon takes over what runs.

use std::time::Duration;

use miren_api::resource::{FastPathStatus, Sandbox, SandboxState};
use miren_bench::load::{Load, Options};
use miren_blackbox::{AppFolder, Node, http, process, request_lines, wait_until};
use nix::sys::signal::Signal;

const HOST: &str = "orphan.example.com";
const PATIENCE: Duration = Duration::from_secs(60);

fn load(node: &Node) -> Load {
    let mut options = Options::get(&format!("http://{}/info", node.http), 200.0).expect("the address of a node is one");
    options.host = Some(HOST.to_owned());
    Load::start(options).expect("a load starts")
}

fn transitions_by_kernel(node: &Node) -> u64 {
    let status: FastPathStatus = node.cli.json(&["fastpath", "status"]);
    status.transitions.by_kernel
}

/// Waits until another process than `old` listens, and answers.
pub fn control_is_back(node: &Node, old: u32) {
    wait_until(
        "miren dev to start control again",
        Duration::from_secs(20),
        || match node.control_pid() {
            Some(pid) if pid != old => Ok(()),
            other => Err(format!("{other:?} listens")),
        },
    );
    wait_until("control to answer", Duration::from_secs(20), || {
        let output = node.cli.call(&["sandbox", "list"]);
        if output.code == 0 {
            Ok(())
        } else {
            Err(output.to_string())
        }
    });
}

fn only_the_survivor_answers(node: &Node, survivor: &Sandbox) {
    for _ in 0..100 {
        let response = node.get(HOST, "/info");
        let answered = (response.status, response.field("sandbox"));
        assert_eq!(answered, (200, survivor.id.to_string()), "{response:?}");
    }
}

#[test]
fn k2_with_control_dead_a_killed_sandbox_is_dropped_and_later_replaced() {
    let node = Node::start();
    let app = AppFolder::rust("orphan").fixed(2);
    node.deploy_at(&app, HOST);
    let before = node.wait_running(&app.name, 2);
    let counted = transitions_by_kernel(&node);
    let load = load(&node);
    let control = node.control_pid().expect("control runs");

    // Stopped, so that it does not start control again at once.
    process::signal(node.dev_pid(), Signal::SIGSTOP);
    process::kill_and_wait(control);
    let [victim, survivor] = &before[..] else {
        panic!("{before:?}")
    };
    process::kill_and_wait(victim.pid.expect("a running sandbox has a process"));
    only_the_survivor_answers(&node, survivor);
    process::signal(node.dev_pid(), Signal::SIGCONT);

    control_is_back(&node, control);
    // Reads answer while it still recovers, so the dead one may be listed as RUNNING for a moment.
    let after = wait_until("the dead one to be replaced", Duration::from_secs(30), || {
        let running = node.running(&app.name);
        let replaced = running.len() == 2 && running.iter().all(|sandbox| sandbox.id != victim.id);
        if replaced {
            Ok(running)
        } else {
            Err(format!("{running:?}"))
        }
    });
    let kept = after
        .iter()
        .find(|sandbox| sandbox.id == survivor.id)
        .expect("the survivor is adopted");
    assert_eq!(
        (kept.pid, kept.generation, kept.ip),
        (survivor.pid, survivor.generation, survivor.ip)
    );
    if node.fast_path == "kernel" {
        assert!(
            transitions_by_kernel(&node) > counted,
            "the kernel's own change was not counted"
        );
    }
    let report = load.stop().expect("a load ends");
    assert_eq!(report.failed, 0, "{report}");
    assert_eq!(node.pools(&app.name).len(), 1);
    node.stop();
}

#[test]
fn i7_control_killed_again_and_again_fails_no_request_and_duplicates_nothing() {
    let node = Node::start();
    let app = AppFolder::rust("orphan").fixed(2);
    node.deploy_at(&app, HOST);
    let before = node.wait_running(&app.name, 2);
    let load = load(&node);
    for _ in 0..3 {
        let control = wait_until("control to listen", Duration::from_secs(20), || {
            node.control_pid().ok_or("nobody does")
        });
        process::kill_and_wait(control);
        control_is_back(&node, control);
    }
    let after = node.wait_running(&app.name, 2);
    let ids = |list: &[Sandbox]| {
        let mut ids: Vec<_> = list
            .iter()
            .map(|sandbox| (sandbox.id.clone(), sandbox.pid, sandbox.generation))
            .collect();
        ids.sort();
        ids
    };
    assert_eq!(ids(&before), ids(&after));
    // A deploy works as ever, which it could not on half-adopted state.
    app.set_release("after");
    node.deploy(&app);
    assert_eq!(node.get(HOST, "/info").field("release"), "after");
    let report = load.stop().expect("a load ends");
    assert_eq!(report.failed, 0, "{report}");
    node.stop();
}

#[test]
fn f4b_control_that_is_told_twice_to_stop_ends_at_once_and_the_next_one_goes_on() {
    let node = Node::start();
    let app = AppFolder::rust("orphan").fixed(1);
    node.deploy_at(&app, HOST);
    let control = node.control_pid().expect("control runs");
    let address = node.http;
    // What control waits for when it is told to stop: less than it would wait, and more than the rest takes.
    let held = std::thread::spawn(move || http::get(address, HOST, "/sleep?ms=20000").expect("an answer"));
    wait_until("the request to be in flight", PATIENCE, || {
        let lines = request_lines(&node.cli, &app.name);
        match lines.iter().any(|line| line.request.contains("/sleep")) {
            true => Ok(()),
            false => Err(format!("{lines:?}")),
        }
    });
    process::signal(control, Signal::SIGTERM);
    wait_until("the sandbox to drain", PATIENCE, || {
        let sandboxes = node.sandboxes(&app.name);
        match sandboxes.iter().any(|one| one.state == SandboxState::Draining) {
            true => Ok(()),
            false => Err(format!("{sandboxes:?}")),
        }
    });
    process::signal(control, Signal::SIGTERM);
    control_is_back(&node, control);
    assert!(node.log().contains("told twice to stop"), "it waited for the request");
    assert_eq!(held.join().expect("whoever waits for the answer").status, 200);
    node.wait_running(&app.name, 1);
    assert_eq!(node.get(HOST, "/info").status, 200);
    node.stop();
}

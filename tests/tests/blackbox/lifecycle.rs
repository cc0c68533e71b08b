//! Nodes beside each other, nodes that stop, and nodes that were killed: what is theirs goes with them, and only that.

use std::time::Duration;

use miren_bench::load::{Load, Options};
use miren_blackbox::leftovers::{self, Leftover};
use miren_blackbox::{AppFolder, Follow, Node, process, wait_until};
use nix::sys::signal::Signal;

const HOST: &str = "twin.example.com";

#[test]
fn two_nodes_side_by_side_do_not_disturb_each_other() {
    let (first, second) = (Node::start(), Node::start());
    let app = AppFolder::rust("twin").fixed(2);
    for (node, release) in [(&first, "one"), (&second, "two")] {
        app.set_release(release);
        node.deploy_at(&app, HOST);
    }
    let mut options = Options::get(&format!("http://{}/info", second.http), 200.0).unwrap();
    options.host = Some(HOST.to_owned());
    let load = Load::start(options).unwrap();
    let theirs = second.wait_running("twin", 2);

    assert_eq!(first.get(HOST, "/info").field("release"), "one");
    assert_eq!(second.get(HOST, "/info").field("release"), "two");
    let victim = first.wait_running("twin", 2)[0].clone();
    process::kill_and_wait(victim.pid.expect("a running sandbox has a process"));
    let others = wait_until("the replacement", Duration::from_secs(30), || {
        let running = first.running("twin");
        let replaced = running.len() == 2 && running.iter().all(|sandbox| sandbox.id != victim.id);
        if replaced {
            Ok(running)
        } else {
            Err(format!("{running:?}"))
        }
    });
    assert!(
        others
            .iter()
            .all(|other| theirs.iter().all(|their| their.ip != other.ip)),
        "addresses are shared"
    );
    first.stop();

    let still: Vec<_> = second.running("twin").into_iter().map(|sandbox| sandbox.id).collect();
    assert_eq!(still.len(), 2);
    assert!(theirs.iter().all(|sandbox| still.contains(&sandbox.id)), "{still:?}");
    let report = load.stop().unwrap();
    assert_eq!(report.failed, 0, "{report}");
    second.stop();
}

#[test]
fn after_sigterm_nothing_is_left_even_of_apps_that_ignore_it() {
    let node = Node::start();
    let deaf = AppFolder::python("deaf")
        .and("shutdown_timeout = \"1s\"")
        .env("IGNORE_SIGTERM", "1");
    node.deploy_at(&deaf, "deaf.example.com");
    let app = AppFolder::rust("twin").fixed(2);
    node.deploy_at(&app, HOST);
    everything_of_a_running_node_is_seen(&node);
    node.stop();
}

/// Otherwise "nothing is left" would mean nothing: each kind of thing is there, once per sandbox where it is per sandbox.
fn everything_of_a_running_node_is_seen(node: &Node) {
    let found = node.leftovers();
    let count = |kind: fn(&Leftover) -> bool| found.iter().filter(|leftover| kind(leftover)).count();
    let pins = usize::from(node.fast_path == "kernel");
    let kinds = [
        // Both daemons and three apps; a bridge and three veths.
        ("processes", count(|kind| matches!(kind, Leftover::Process { .. })), 5),
        ("mounts", count(|kind| matches!(kind, Leftover::Mount(_))), 3),
        ("devices", count(|kind| matches!(kind, Leftover::Device(_))), 4),
        ("tables", count(|kind| matches!(kind, Leftover::Table(_))), 1),
        ("cgroups", count(|kind| matches!(kind, Leftover::Cgroup(_))), 1),
        ("pins", count(|kind| matches!(kind, Leftover::Pin(_))), pins),
    ];
    for (kind, seen, expected) in kinds {
        assert!(
            seen >= expected,
            "{seen} {kind} instead of {expected}:\n{}",
            leftovers::describe(&found)
        );
    }
}

#[test]
fn after_kill_9_of_everything_the_next_start_takes_over_and_leaves_nothing() {
    let node = Node::start();
    let app = AppFolder::rust("twin").fixed(2).release("kept");
    node.deploy_at(&app, HOST);
    let before = node.wait_running("twin", 2);
    let options = node.kill_everything();
    // One of them dies while nobody is there to see it.
    process::kill_and_wait(before[0].pid.expect("a running sandbox has a process"));

    let node = options.start();
    let after = node.wait_running("twin", 2);
    assert!(after.iter().all(|sandbox| sandbox.id != before[0].id), "{after:?}");
    wait_until("the app to be served", Duration::from_secs(60), || {
        match node.get(HOST, "/info") {
            response if response.status == 200 => Ok(()),
            response => Err(format!("{response:?}")),
        }
    });
    assert_eq!(node.get(HOST, "/info").field("release"), "kept");
    let running = node.running("twin");
    let old: Vec<u32> = before.iter().filter_map(|sandbox| sandbox.pid).collect();
    let kept: Vec<u32> = running
        .iter()
        .filter_map(|sandbox| sandbox.pid)
        .filter(|pid| old.contains(pid))
        .collect();
    let alive: Vec<u32> = old.into_iter().filter(|pid| process::is_alive(*pid)).collect();
    assert_eq!(kept, alive, "a process of the old node runs without a sandbox");
    node.stop();
}

#[test]
fn the_proxy_killed_is_started_again_on_the_same_port() {
    let node = Node::start();
    let app = AppFolder::rust("twin").fixed(1);
    node.deploy_at(&app, HOST);
    let proxy = node.proxy_pid();
    process::signal(proxy, Signal::SIGKILL);
    // The listening socket is miren dev's own: a connection made meanwhile waits instead of being refused.
    assert_eq!(node.get(HOST, "/info").status, 200);
    assert_ne!(node.proxy_pid(), proxy);
    node.stop();
}

#[test]
fn a_stopped_sandbox_is_replaced_and_stays_stopped() {
    let node = Node::start();
    let app = AppFolder::rust("twin").fixed(1);
    node.deploy_at(&app, HOST);
    let before = node.wait_running("twin", 1)[0].clone();
    let mut watch = Follow::transitions(&node.cli);
    let output = node.cli.call(&["sandbox", "stop", before.id.as_str()]);
    assert_eq!(output.code, 0, "{output}");
    let mut last = 0;
    for state in ["RUNNING", "DRAINING", "STOPPING", "STOPPED"] {
        let change = watch.expect(state, |change| {
            (Some(change.slot), Some(change.generation)) == (before.slot, before.generation) && change.state == state
        });
        assert!(
            change.at_ns > last,
            "{state} at {} but the state before it at {last}",
            change.at_ns
        );
        last = change.at_ns;
    }
    watch.expect("its replacement", |change| {
        change.state == "RUNNING" && Some(change.slot) != before.slot
    });
    drop(watch);
    wait_until("its replacement", Duration::from_secs(30), || {
        let running = node.running("twin");
        let done = running.len() == 1 && running[0].id != before.id;
        if done { Ok(()) } else { Err(format!("{running:?}")) }
    });
    assert_eq!(node.get(HOST, "/info").status, 200);
    node.stop();
}

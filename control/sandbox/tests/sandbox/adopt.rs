//! Decides that sandboxes outlive the daemon, and what the next one makes of what it finds.

use crate::client::ask;
use crate::node::{eventually, with_node};
use crate::timing::within;
use miren_api::resource::SandboxState::{Dead, Draining, Pending, Running, Stopped};
use miren_sandbox::{Facts, RuntimeConfig};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::path::Path;
use std::time::Duration;

#[test]
fn a_running_sandbox_is_adopted_and_still_watched() {
    with_node(async |node| {
        let order = node.order("listen 0.0.0.0");
        let running = node.run(&order).await;
        let known = node.known(&order);
        node.kill_daemon().await;
        assert_eq!(ask(&running, "cwd"), "/app", "it serves without a daemon");
        assert_eq!(node.restart_daemon(vec![known]).await, []);
        assert_eq!(ask(&running, "cwd"), "/app");
        let next = node.order("listen 0.0.0.0");
        let other = node.run(&next).await;
        assert_ne!(
            other.facts.slot, running.facts.slot,
            "the slot of an adopted sandbox was given out"
        );
        ask(&running, "print/after the restart");
        crate::client::try_ask(&running, "exit/7").expect_err("it exits");
        let dead = node.until(&order.id, Dead).await;
        assert_eq!(dead.facts.exit_code, Some(7), "its helper told its end");
        node.drain_now(&next.id, "test over");
        node.until(&next.id, Stopped).await;
    });
}

#[test]
fn a_sandbox_that_died_meanwhile_is_reported_with_its_status() {
    with_node(async |node| {
        let order = node.order("listen 0.0.0.0");
        let running = node.run(&order).await;
        let known = node.known(&order);
        node.kill_daemon().await;
        crate::client::try_ask(&running, "exit/5").expect_err("it exits");
        let exit = node.config.run_dir.join(format!("sandboxes/{}/exit.json", order.id));
        let init = format!("/proc/{}", running.facts.pid.expect("a pid"));
        eventually("the exit is recorded", || match node.config.runtime {
            RuntimeConfig::Embedded => exit.exists(),
            RuntimeConfig::Containerd { .. } => !Path::new(&init).exists(),
        })
        .await;
        let changes = node.restart_daemon(vec![known]).await;
        assert_eq!(changes.len(), 1);
        assert_eq!((changes[0].state, changes[0].facts.exit_code), (Dead, Some(5)));
        assert_eq!(changes[0].reason.as_deref(), Some("exited with status 5"));
    });
}

#[test]
fn a_draining_sandbox_goes_on_draining() {
    with_node(async |node| {
        let order = node.order("listen 0.0.0.0");
        node.run(&order).await;
        node.sandboxes().drain(
            &order.id,
            "replaced",
            within(Duration::from_secs(3600)),
            Box::pin(std::future::pending()),
        );
        node.until(&order.id, Draining).await;
        let known = node.known(&order);
        node.kill_daemon().await;
        assert_eq!(node.restart_daemon(vec![known]).await, []);
        node.drain_now(&order.id, "replaced");
        let stopped = node.until(&order.id, Stopped).await;
        assert_eq!(stopped.reason.as_deref(), Some("replaced"));
    });
}

#[test]
fn a_sandbox_that_was_booting_goes_on_to_run() {
    with_node(async |node| {
        let order = node.order("listen 0.0.0.0");
        node.run(&order).await;
        let mut known = node.known(&order);
        // Control saved PENDING, and the word went on before it could save more.
        known.state = Pending;
        node.kill_daemon().await;
        let changes = node.restart_daemon(vec![known]).await;
        assert_eq!(changes.iter().map(|change| change.state).collect::<Vec<_>>(), [Running]);
        node.drain_now(&order.id, "test over");
        node.until(&order.id, Stopped).await;
    });
}

#[test]
fn what_nobody_knows_is_removed() {
    with_node(async |node| {
        let order = node.order("listen 0.0.0.0");
        let running = node.run(&order).await;
        node.kill_daemon().await;
        assert_eq!(node.restart_daemon(Vec::new()).await, []);
        let pid = i32::try_from(running.facts.pid.expect("a pid")).expect("a pid");
        assert!(
            kill(Pid::from_raw(pid), None::<Signal>).is_err(),
            "its process still lives"
        );
        let left: Vec<String> = node
            .remains()
            .into_iter()
            .filter(|line| line.contains(order.id.as_str()) || line.contains(": mv"))
            .collect();
        assert_eq!(left, Vec::<String>::new());
    });
}

#[test]
fn k5_facts_of_another_generation_do_not_adopt_this_one() {
    with_node(async |node| {
        let order = node.order("listen 0.0.0.0");
        node.run(&order).await;
        let mut known = node.known(&order);
        known.facts = Facts {
            generation: Some(99),
            ..known.facts
        };
        node.kill_daemon().await;
        let changes = node.restart_daemon(vec![known]).await;
        assert_eq!(changes.iter().map(|change| change.state).collect::<Vec<_>>(), [Dead]);
    });
}

/// Kills the daemon in the middle of a boot, later each time, until a boot was complete; then lets the next one clean up.
#[test]
fn a_daemon_killed_at_any_moment_of_a_boot_leaves_nothing() {
    with_node(async |node| {
        let mut delay = Duration::ZERO;
        loop {
            let order = node.order("listen 0.0.0.0");
            node.sandboxes().start(order.clone());
            node.until(&order.id, Pending).await;
            tokio::time::sleep(delay).await;
            node.kill_daemon().await;
            let known = node.known(&order);
            let changes = node.restart_daemon(vec![known]).await;
            let ended = changes.iter().any(|change| change.state.is_terminal());
            node.sandboxes().kill(&order.id, "test over");
            node.sandboxes().drained().await;
            let left: Vec<String> = node.remains().into_iter().filter(|line| line.contains("sb-")).collect();
            assert_eq!(left, Vec::<String>::new(), "killed {delay:?} after PENDING");
            if !ended && delay > Duration::from_millis(60) {
                return;
            }
            delay += Duration::from_millis(4);
        }
    });
}

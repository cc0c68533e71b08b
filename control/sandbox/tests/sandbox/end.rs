//! Decides how sandboxes end: asked to, ignoring it, by themselves, with their helper gone; and that nothing is left.

use crate::client::{ask, ask_on, connect};
use crate::node::{TestNode, eventually, signal, with_config, with_node};
use crate::timing::within;
use miren_api::resource::SandboxState::{Dead, Draining, Pending, Running, Stopped, Stopping};
use miren_loader::ActiveMode;
use miren_sandbox::{Budgets, EndedBy, NodeConfig, RuntimeConfig, StartOrder};
use nix::sys::signal::Signal;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

#[test]
fn draining_waits_for_the_last_request_then_stops() {
    with_node(async |node| {
        let order = node.order("listen 0.0.0.0");
        let running = node.run(&order).await;
        let open = connect(&running).expect("a connection");
        let (done, idle) = oneshot::channel::<()>();
        let idle = Box::pin(async { drop(idle.await) });
        node.sandboxes()
            .drain(&order.id, "replaced", within(Duration::from_secs(60)), idle);
        node.until(&order.id, Draining).await;
        assert_eq!(
            ask_on(open, "cwd").expect("an answer"),
            "/app",
            "it serves what came before while it drains"
        );
        done.send(()).expect("somebody waits");
        let stopped = node.until(&order.id, Stopped).await;
        assert_eq!(stopped.reason.as_deref(), Some("replaced"));
        assert_eq!(node.states(&order.id), [Pending, Running, Draining, Stopping, Stopped]);
    });
}

#[test]
fn f18_a_draining_sandbox_reaches_itself_by_its_name_and_takes_nothing_new() {
    with_node(async |node| {
        let order = node.order("listen 0.0.0.0");
        let running = node.run(&order).await;
        let open = connect(&running).expect("a connection");
        let (done, idle) = oneshot::channel::<()>();
        let idle = Box::pin(async { drop(idle.await) });
        node.sandboxes()
            .drain(&order.id, "replaced", within(Duration::from_secs(60)), idle);
        node.until(&order.id, Draining).await;
        assert_eq!(ask_on(open, &format!("meet/{}", order.id)).expect("an answer"), "ok");
        if node.fast_path_mode() == ActiveMode::Kernel {
            let refused = connect(&running).expect_err("it takes no new connections");
            assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
        }
        done.send(()).expect("somebody waits");
        node.until(&order.id, Stopped).await;
    });
}

#[test]
fn a_drain_that_takes_too_long_is_ended_and_may_be_shortened() {
    with_node(async |node| {
        let order = node.order("listen 0.0.0.0");
        node.run(&order).await;
        let never = || Box::pin(std::future::pending());
        node.sandboxes()
            .drain(&order.id, "replaced", within(Duration::from_secs(3600)), never());
        node.until(&order.id, Draining).await;
        node.sandboxes()
            .drain(&order.id, "node drains", within(Duration::from_millis(50)), never());
        let stopped = node.until(&order.id, Stopped).await;
        assert_eq!(stopped.reason.as_deref(), Some("replaced"), "the first reason wins");
    });
}

/// Two deadlines and an acknowledgement: SIGTERM waits for all that was let in. That it is healthy meanwhile undoes nothing.
#[test]
fn l3_l5_sigterm_comes_when_nothing_is_under_way_or_both_deadlines_are_over() {
    let looks_often = |config: &mut NodeConfig| config.health.interval = Duration::from_millis(5);
    with_config(looks_often, async |node| {
        let hour = Duration::from_secs(3600);
        for (requests, tunnels) in [(Duration::ZERO, hour), (hour, Duration::ZERO)] {
            let order = node.order("listen 0.0.0.0");
            let running = node.run(&order).await;
            let open = connect(&running).expect("a connection");
            let (done, idle) = oneshot::channel::<()>();
            let idle = Box::pin(async { drop(idle.await) });
            let budgets = Budgets {
                requests,
                tunnels,
                ..within(hour)
            };
            node.sandboxes().drain(&order.id, "replaced", budgets, idle);
            node.until(&order.id, Draining).await;
            // Long enough for another one to live and end.
            let other = node.order("listen 0.0.0.0");
            node.run(&other).await;
            node.drain_now(&other.id, "replaced");
            node.until(&other.id, Stopped).await;
            assert_eq!(node.states(&order.id), [Pending, Running, Draining]);
            assert_eq!(ask_on(open, "cwd").expect("an answer"), "/app");
            done.send(()).expect("it waits still");
            node.until(&order.id, Stopped).await;
        }
        let order = node.order("listen 0.0.0.0");
        node.run(&order).await;
        let never = Box::pin(std::future::pending());
        node.sandboxes()
            .drain(&order.id, "replaced", within(Duration::ZERO), never);
        node.until(&order.id, Stopped).await;
        assert_eq!(node.states(&order.id), [Pending, Running, Draining, Stopping, Stopped]);
    });
}

#[test]
fn d4_a_grace_that_is_shortened_ends_sooner() {
    with_node(async |node| {
        let mut order = node.order("deaf 0.0.0.0");
        order.service.shutdown_timeout = Duration::from_secs(3600);
        node.run(&order).await;
        node.drain_now(&order.id, "replaced");
        node.until(&order.id, Stopping).await;
        let never = Box::pin(std::future::pending());
        let budgets = Budgets {
            grace: Duration::ZERO,
            ..within(Duration::ZERO)
        };
        node.sandboxes().drain(&order.id, "node drains", budgets, never);
        let stopped = node.until(&order.id, Stopped).await;
        let reason = stopped.reason.expect("a reason");
        assert!(reason.starts_with("replaced; it did not exit within "), "{reason}");
        assert_eq!(stopped.facts.exit_code, Some(137));
    });
}

#[test]
fn b8_a_sandbox_that_ignores_sigterm_is_killed_after_its_grace() {
    with_node(async |node| {
        let mut order = node.order("deaf 0.0.0.0");
        order.service.shutdown_timeout = Duration::from_millis(300);
        node.run(&order).await;
        // Before it is asked to: how late its answers are seen says nothing about its grace.
        let asked = Instant::now();
        node.drain_now(&order.id, "replaced");
        node.until(&order.id, Stopping).await;
        let stopped = node.until(&order.id, Stopped).await;
        assert!(
            asked.elapsed() >= order.service.shutdown_timeout,
            "killed before its grace had passed"
        );
        let reason = stopped.reason.expect("a reason");
        assert_eq!(
            reason,
            "replaced; it did not exit within 300ms of SIGTERM and was killed"
        );
        assert_eq!(stopped.facts.exit_code, Some(137));
    });
}

#[test]
fn a_process_that_does_nothing_about_sigterm_ends_at_once() {
    with_node(async |node| {
        let mut order = node.order("plain 0.0.0.0");
        order.service.shutdown_timeout = Duration::from_secs(3600);
        node.run(&order).await;
        node.drain_now(&order.id, "replaced");
        let stopped = node.until(&order.id, Stopped).await;
        assert_eq!(stopped.reason.as_deref(), Some("replaced"));
    });
}

#[test]
fn a_process_that_blocks_sigterm_now_and_then_ends_at_once() {
    with_node(async |node| {
        // Each has an even chance to be looked at while it blocks.
        for _ in 0..5 {
            let mut order = node.order("blinking 0.0.0.0");
            order.service.shutdown_timeout = Duration::from_secs(3600);
            node.run(&order).await;
            node.drain_now(&order.id, "replaced");
            node.until(&order.id, Stopped).await;
        }
    });
}

#[test]
fn a_server_behind_a_shell_gets_sigterm() {
    with_node(async |node| {
        let mut order = node.order("");
        order.service.shutdown_timeout = Duration::from_secs(3600);
        // The shell stays, because something comes after the server.
        order.service.command = "./app listen 0.0.0.0; exit 42".into();
        node.run(&order).await;
        node.drain_now(&order.id, "replaced");
        let stopped = node.until(&order.id, Stopped).await;
        assert_eq!(
            stopped.facts.exit_code,
            Some(42),
            "the shell went on after the server had ended"
        );
    });
}

#[test]
fn a_crash_is_told_with_its_status() {
    with_node(async |node| {
        let (one, two) = (node.order("listen 0.0.0.0"), node.order("listen 0.0.0.0"));
        let first = node.run(&one).await;
        let second = node.run(&two).await;
        let mut transitions = node.fast_path.as_ref().expect("a daemon").transitions();
        signal(first.facts.pid, Signal::SIGKILL);
        let dead = node.until(&one.id, Dead).await;
        // After "exited with status 137, or was" where nobody knows.
        let reason = dead.reason.expect("a reason");
        assert!(reason.ends_with("killed by signal 9 (SIGKILL)"), "{reason}");
        let transition = transitions.recv().await.expect("a transition");
        assert_eq!(
            (Some(transition.slot), Some(transition.generation)),
            (first.facts.slot, first.facts.generation)
        );
        let _ = crate::client::try_ask(&second, "exit/3");
        let dead = node.until(&two.id, Dead).await;
        assert_eq!(dead.reason.as_deref(), Some("exited with status 3"));
        assert_eq!(dead.facts.exit_code, Some(3));
    });
}

#[test]
fn f7_an_exit_with_the_number_of_a_signal_is_told_from_the_signal() {
    with_node(async |node| {
        // A runtime that knows no more than the number, and no hook that does.
        let is_vague = node.config.runtime != RuntimeConfig::Embedded && node.fast_path_mode() != ActiveMode::Kernel;
        for code in [129, 130, 137, 143] {
            let order = node.order("listen 0.0.0.0");
            let running = node.run(&order).await;
            let _ = crate::client::try_ask(&running, &format!("exit/{code}"));
            let dead = node.until(&order.id, Dead).await;
            assert_eq!(
                (dead.facts.exit_code, dead.facts.ended_by),
                (Some(code), Some(EndedBy::Exit))
            );
            let reason = dead.reason.expect("a reason");
            assert!(reason.starts_with(&format!("exited with status {code}")), "{reason}");
            assert_eq!(reason.contains("or was killed"), is_vague, "{reason}");
        }
        let order = node.order("listen 0.0.0.0");
        let running = node.run(&order).await;
        signal(running.facts.pid, Signal::SIGKILL);
        let dead = node.until(&order.id, Dead).await;
        let by = if is_vague {
            EndedBy::Exit
        } else {
            EndedBy::Signal(libc::SIGKILL)
        };
        assert_eq!((dead.facts.exit_code, dead.facts.ended_by), (Some(137), Some(by)));
    });
}

#[test]
fn b8_a_death_while_draining_is_no_crash_and_is_told_once() {
    with_node(async |node| {
        let order = node.order("listen 0.0.0.0");
        let running = node.run(&order).await;
        node.sandboxes().drain(
            &order.id,
            "replaced",
            within(Duration::from_secs(60)),
            Box::pin(std::future::pending()),
        );
        node.until(&order.id, Draining).await;
        signal(running.facts.pid, Signal::SIGKILL);
        node.until(&order.id, Stopped).await;
        node.sandboxes().kill(&order.id, "too late");
        node.sandboxes().drained().await;
        assert_eq!(node.states(&order.id), [Pending, Running, Draining, Stopped]);
    });
}

#[test]
fn a_sandbox_that_has_lost_its_helper_drains_and_is_cleaned_up_when_it_ends() {
    with_node(async |node| {
        let order = node.order("listen 0.0.0.0");
        let running = node.run(&order).await;
        let [first, second] = [(); 2].map(|()| connect(&running).expect("a connection"));
        let helper = helper_of(node, &order);
        signal(Some(helper), Signal::SIGKILL);
        let is_embedded = node.config.runtime == RuntimeConfig::Embedded;
        if is_embedded {
            let draining = node.until(&order.id, Draining).await;
            let reason = draining.reason.expect("a reason");
            assert!(reason.starts_with("its helper process is gone"), "{reason}");
            // What is in flight goes on, and may write what it likes.
            assert_eq!(ask_on(first, "print/unread").expect("an answer"), "");
        }
        assert_eq!(ask_on(second, "cwd").expect("an answer"), "/app");
        signal(running.facts.pid, Signal::SIGKILL);
        let ended = node.until(&order.id, if is_embedded { Stopped } else { Dead }).await;
        let is_seen = !is_embedded || node.fast_path_mode() == ActiveMode::Kernel;
        assert_eq!(
            ended.facts.exit_code,
            is_seen.then_some(137),
            "only its helper saw it, unless the kernel's hook or a shim did"
        );
    });
}

#[test]
fn i7_a_helper_that_was_killed_while_the_daemon_was_away_is_missed_by_the_next_one() {
    let embedded = |config: &mut NodeConfig| config.runtime = RuntimeConfig::Embedded;
    with_config(embedded, async |node| {
        let order = node.order("listen 0.0.0.0");
        node.run(&order).await;
        let (known, helper) = (node.known(&order), helper_of(node, &order));
        node.kill_daemon().await;
        signal(Some(helper), Signal::SIGKILL);
        eventually("the helper is gone", || {
            !std::path::Path::new(&format!("/proc/{helper}/exe")).exists()
        })
        .await;
        assert_eq!(node.restart_daemon(vec![known]).await, []);
        let draining = node.until(&order.id, Draining).await;
        assert!(draining.reason.is_some_and(|reason| reason.contains("helper")));
        node.sandboxes().kill(&order.id, "test over");
        node.until(&order.id, Stopped).await;
    });
}

/// Who holds a sandbox of the embedded runtime, or writes the log of a container.
fn helper_of(node: &TestNode, order: &StartOrder) -> u32 {
    let file = node
        .config
        .run_dir
        .join(format!("sandboxes/{}/processes.json", order.id));
    let text = std::fs::read_to_string(file).expect("the recorded processes");
    let processes: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let pid = processes["helper"]["pid"].as_u64().expect("a pid");
    u32::try_from(pid).expect("a pid")
}

#[test]
fn k5_slot_and_address_are_used_again_by_the_next_generation() {
    with_config(
        |config| config.quarantine = Duration::ZERO,
        async |node| {
            let first = node.order("listen 0.0.0.0");
            let before = node.run(&first).await;
            node.sandboxes().kill(&first.id, "replaced");
            node.until(&first.id, Stopped).await;
            node.sandboxes().drained().await;
            let second = node.order("listen 0.0.0.0");
            let after = node.run(&second).await;
            assert_eq!((before.facts.slot, before.facts.ip), (after.facts.slot, after.facts.ip));
            assert_eq!((before.facts.generation, after.facts.generation), (Some(1), Some(2)));
            node.sandboxes().kill(&first.id, "the one before");
            assert_eq!(
                ask(&after, "cwd"),
                "/app",
                "a command for the last generation reached this one"
            );
            node.sandboxes().kill(&second.id, "test over");
            node.until(&second.id, Stopped).await;
        },
    );
}

#[test]
fn nothing_is_left_of_sandboxes_that_ended_in_any_way() {
    with_node(async |node| {
        let orders = ["listen 0.0.0.0", "exit 1", "listen 0.0.0.0"].map(|arguments| node.order(arguments));
        let first = node.run(&orders[0]).await;
        node.fail(&orders[1]).await;
        node.run(&orders[2]).await;
        signal(first.facts.pid, Signal::SIGKILL);
        node.until(&orders[0].id, Dead).await;
        node.drain_now(&orders[2].id, "test over");
        node.until(&orders[2].id, Stopped).await;
        node.sandboxes().drained().await;
        let left = node.remains();
        let allowed =
            |line: &String| line.contains("cgroup") && !line.contains("/sb-") || line.contains(&node.config.bridge);
        assert!(left.iter().all(allowed), "{left:#?}");
    });
}

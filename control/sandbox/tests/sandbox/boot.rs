//! Decides that a sandbox becomes RUNNING when it is ready, and that every boot failure ends in DEAD with its reason.

use crate::client::ask;
use crate::faults::smallest;
use crate::node::{status_field, with_config, with_node};
use miren_api::resource::SandboxState;
use std::time::Duration;

/// In which an app begins to listen, also on a busy machine; a test waits for all of it.
const LONG_ENOUGH: Duration = Duration::from_secs(10);

#[test]
fn a_sandbox_is_announced_pending_then_running_with_its_facts() {
    with_node(async |node| {
        let order = node.order("listen 0.0.0.0");
        let running = node.run(&order).await;
        assert_eq!(node.states(&order.id), [SandboxState::Pending, SandboxState::Running]);
        let facts = &running.facts;
        assert_eq!(
            (facts.slot, facts.generation, facts.port),
            (Some(0), Some(1), Some(3000))
        );
        assert!(facts.pid.is_some() && facts.exit_code.is_none());
        assert_eq!(ask(&running, "cwd"), "/app");
        node.drain_now(&order.id, "test over");
        let stopped = node.until(&order.id, SandboxState::Stopped).await;
        assert_eq!(stopped.reason.as_deref(), Some("test over"));
        assert_eq!(stopped.facts.exit_code, Some(0));
    });
}

#[test]
fn b2_a_command_that_does_not_exist_is_named() {
    with_node(async |node| {
        let mut order = node.order("");
        order.service.command = "no-such-program --flag".into();
        let reason = node.fail(&order).await;
        assert!(
            reason.starts_with("create: command not found: no-such-program"),
            "{reason}"
        );
        order.id = miren_api::id::SandboxId::generate();
        order.service.command = "./app-that-is-missing".into();
        let reason = node.fail(&order).await;
        assert!(
            reason.starts_with("create: command not found: ./app-that-is-missing"),
            "{reason}"
        );
    });
}

#[test]
fn b2_a_command_that_exits_before_it_listens_shows_its_last_lines() {
    with_node(async |node| {
        let order = node.order("exit 1");
        let reason = node.fail(&order).await;
        assert!(
            reason.starts_with("port: exited with status 1 before it listened on port 3000; last log lines:"),
            "{reason}"
        );
        assert!(
            reason.contains("about to exit with 1") && reason.contains("a complaint"),
            "{reason}"
        );
        let dead = node.seen.last().expect("an announcement");
        assert_eq!(dead.facts.exit_code, Some(1));
        assert_eq!(node.states(&order.id), [SandboxState::Pending, SandboxState::Dead]);
    });
}

#[test]
fn b2_a_command_that_listens_on_loopback_is_told_so() {
    with_node(async |node| {
        let mut order = node.order("listen 127.0.0.1");
        order.service.port_timeout = LONG_ENOUGH;
        let reason = node.fail(&order).await;
        assert!(
            reason.starts_with("port: did not listen on port 3000 within 10s; it listens on 127.0.0.1:3000 only"),
            "{reason}"
        );
        assert!(reason.contains("0.0.0.0 instead of 127.0.0.1"), "{reason}");
    });
}

#[test]
fn b2_a_command_that_listens_elsewhere_or_not_at_all_is_told_so() {
    with_node(async |node| {
        let mut order = node.order("listen 0.0.0.0");
        order.service.port_timeout = LONG_ENOUGH;
        order.env.insert("PORT".into(), "8080".into());
        let reason = node.fail(&order).await;
        assert!(
            reason.contains("it listens on 0.0.0.0:8080: make it listen on the port in PORT"),
            "{reason}"
        );
        let mut order = node.order("sleep");
        order.service.port_timeout = Duration::from_millis(300);
        let reason = node.fail(&order).await;
        assert!(reason.contains("it listens on no port"), "{reason}");
    });
}

#[test]
fn b2_missing_files_and_a_full_subnet_are_boot_failures_too() {
    let small = |config: &mut miren_sandbox::NodeConfig| config.subnet = smallest(config);
    with_config(small, async |node| {
        let mut order = node.order("listen 0.0.0.0");
        order.app_files = Some("/nowhere".into());
        let reason = node.fail(&order).await;
        assert!(reason.starts_with("image: /nowhere is not a folder"), "{reason}");
        let next = node.order("listen 0.0.0.0");
        let full = node.fail(&next).await;
        assert!(
            full.starts_with(&format!("network: subnet {} is full", node.config.subnet)),
            "an address rests after use: {full}"
        );
        assert_eq!(node.states(&next.id), [SandboxState::Dead]);
    });
}

#[test]
fn a_health_path_has_to_answer_well() {
    with_node(async |node| {
        let mut order = node.order("listen 0.0.0.0");
        order.service.health_path = Some("/env".into());
        node.run(&order).await;
        node.drain_now(&order.id, "test over");
        node.until(&order.id, SandboxState::Stopped).await;
        let mut order = node.order("listen 0.0.0.0");
        order.service.health_path = Some("/status/503".into());
        order.service.port_timeout = LONG_ENOUGH;
        let reason = node.fail(&order).await;
        assert!(
            reason.starts_with("health: was not ready within 10s: GET /status/503 was answered with 503"),
            "{reason}"
        );
    });
}

#[test]
fn a_service_without_port_runs_when_it_has_not_failed() {
    with_node(async |node| {
        let mut order = node.order("sleep");
        order.service.port = None;
        let running = node.run(&order).await;
        assert_eq!(running.facts.port, None);
        node.sandboxes().kill(&order.id, "test over");
        let stopped = node.until(&order.id, SandboxState::Stopped).await;
        assert_eq!(stopped.facts.exit_code, Some(137));
        let mut order = node.order("exit 0");
        order.service.port = None;
        let reason = node.fail(&order).await;
        assert!(
            reason.starts_with("start: exited with status 0 right after its start"),
            "{reason}"
        );
    });
}

#[test]
fn a_pending_sandbox_that_is_not_wanted_any_more_stops() {
    with_node(async |node| {
        let order = node.order("sleep");
        node.sandboxes().start(order.clone());
        node.until(&order.id, SandboxState::Pending).await;
        node.sandboxes().kill(&order.id, "deploy cancelled");
        let stopped = node.until(&order.id, SandboxState::Stopped).await;
        assert_eq!(stopped.reason.as_deref(), Some("deploy cancelled"));
        assert_eq!(
            node.states(&order.id),
            [SandboxState::Pending, SandboxState::Stopping, SandboxState::Stopped]
        );
    });
}

#[test]
fn common_interpreters_of_the_host_work() {
    with_node(async |node| {
        let mut order = node.order("");
        order.service.port = None;
        order.service.command =
            "sh -c 'for p in python3 node; do [ ! -x /usr/bin/$p ] || /usr/bin/$p --version || exit 9; done; sleep 60'"
                .into();
        order.service.port_timeout = Duration::from_secs(10);
        let running = node.run(&order).await;
        let pid = running.facts.pid.expect("a pid");
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a living process");
        assert_eq!(status_field(&status, "NoNewPrivs"), "1");
        node.sandboxes().kill(&order.id, "test over");
        node.until(&order.id, SandboxState::Stopped).await;
    });
}

#[test]
fn many_sandboxes_start_at_once() {
    with_node(async |node| {
        let orders = [(); 12].map(|()| node.order("listen 0.0.0.0"));
        for order in &orders {
            node.sandboxes().start(order.clone());
        }
        let running = |node: &crate::node::TestNode| {
            node.seen
                .iter()
                .filter(|change| change.state == SandboxState::Running)
                .count()
        };
        while running(node) < orders.len() {
            node.next_change().await;
        }
        for order in &orders {
            node.sandboxes().kill(&order.id, "test over");
        }
        node.sandboxes().drained().await;
    });
}

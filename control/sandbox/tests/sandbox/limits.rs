//! Decides that memory, processes and processor time of a sandbox are limited, and that running out is told.

use crate::client::{ask, try_ask};
use crate::node::{eventually, with_node};
use miren_api::app_file::Resources;
use miren_api::resource::SandboxState;
use miren_api::settings::Bytes;
use std::fs;

#[test]
fn b2_a_boot_that_needs_too_much_memory_says_so() {
    with_node(async |node| {
        let mut order = node.order("memory 64");
        order.service.resources = Resources {
            memory: Some(Bytes(32 << 20)),
            ..Resources::default()
        };
        let reason = node.fail(&order).await;
        let expected = "port: killed by out-of-memory (oom): its limit is 32MiB before it listened on port 3000";
        assert!(reason.starts_with(expected), "{reason}");
    });
}

#[test]
fn a_running_sandbox_that_takes_too_much_memory_is_killed() {
    with_node(async |node| {
        let mut order = node.order("listen 0.0.0.0");
        order.service.resources.memory = Some(Bytes(48 << 20));
        let running = node.run(&order).await;
        assert_eq!(ask(&running, "memory/16"), (16 << 20).to_string());
        assert!(try_ask(&running, "memory/96").is_err());
        let dead = node.until(&order.id, SandboxState::Dead).await;
        assert_eq!(
            dead.reason.as_deref(),
            Some("killed by out-of-memory (oom): its limit is 48MiB")
        );
        assert_eq!(dead.facts.exit_code, Some(137));
    });
}

#[test]
fn threads_are_counted_against_the_limit() {
    with_node(async |node| {
        let mut order = node.order("listen 0.0.0.0");
        order.service.resources.pids = Some(12);
        let running = node.run(&order).await;
        let started: u32 = ask(&running, "threads/50").parse().expect("a number");
        assert!((1..12).contains(&started), "{started} threads of 50 with a limit of 12");
        node.sandboxes().kill(&order.id, "test over");
        node.until(&order.id, SandboxState::Stopped).await;
    });
}

#[test]
fn a_fork_bomb_is_held_and_its_neighbour_serves() {
    with_node(async |node| {
        let neighbour = node.order("listen 0.0.0.0");
        let well = node.run(&neighbour).await;
        let mut bomb = node.order("");
        bomb.service.command = "while :; do (sleep 60 &); done".into();
        bomb.service.port = None;
        bomb.service.resources.pids = Some(24);
        node.run(&bomb).await;
        let group = format!("miren-{}/{}", node.config.name, bomb.id);
        let read = |file: &str| {
            let old = fs::read_to_string(format!("/sys/fs/cgroup/pids/{group}/{file}"));
            old.or_else(|_| fs::read_to_string(format!("/sys/fs/cgroup/{group}/{file}")))
                .expect("a cgroup")
        };
        eventually("the bomb to meet its limit", || !read("pids.events").contains("max 0")).await;
        for _ in 0..50 {
            assert_eq!(ask(&well, "cwd"), "/app");
        }
        let processes: u32 = read("pids.current").trim().parse().expect("a number");
        assert!(processes <= 24, "{processes} processes with a limit of 24");
        for order in [&bomb, &neighbour] {
            node.sandboxes().kill(&order.id, "test over");
            node.until(&order.id, SandboxState::Stopped).await;
        }
    });
}

#[test]
fn the_cgroup_has_the_limits_of_service_and_node() {
    with_node(async |node| {
        let mut order = node.order("listen 0.0.0.0");
        order.service.resources.cpu = Some(0.25);
        node.run(&order).await;
        let group = format!("miren-{}/{}", node.config.name, order.id);
        let read = |v1: &str, v2: &str| {
            let (controller, file) = v1.split_once('/').expect("a controller");
            let old = fs::read_to_string(format!("/sys/fs/cgroup/{controller}/{group}/{file}"));
            let text = old.or_else(|_| fs::read_to_string(format!("/sys/fs/cgroup/{group}/{v2}")));
            text.expect(v1).trim().to_owned()
        };
        assert_eq!(
            read("memory/memory.limit_in_bytes", "memory.max"),
            (512_u64 << 20).to_string()
        );
        assert_eq!(read("pids/pids.max", "pids.max"), "512");
        assert!(["25000", "25000 100000"].contains(&&*read("cpu/cpu.cfs_quota_us", "cpu.max")));
        node.sandboxes().kill(&order.id, "test over");
        node.until(&order.id, SandboxState::Stopped).await;
    });
}

//! Decides that every step of a boot, broken from outside, ends in DEAD with its name, leaves nothing, and is whole again after.

use crate::helper::Program;
use crate::node::{TestNode, contents, eventually, with_config};
use miren_api::resource::NodeFault;
use miren_api::resource::SandboxState::{Dead, Pending, Running, Stopped};
use miren_api::settings::Bytes;
use miren_sandbox::{NodeConfig, RuntimeConfig, StartOrder, Subnet};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// A node with one address, so that a boot can only succeed if the one before it has given everything back.
fn one_place(config: &mut NodeConfig) {
    config.subnet = smallest(config);
    config.quarantine = Duration::ZERO;
}

/// One address of the node's own: another node's connect hook would refuse connections to one that both have.
pub fn smallest(config: &NodeConfig) -> Subnet {
    let own = config.subnet.to_string().replace("/24", "/30");
    own.parse().expect("a subnet")
}

/// Boots what cannot boot: DEAD with a reason that begins with the step and has the words; nothing of it is left.
pub async fn fails(node: &mut TestNode, order: &StartOrder, step: &str, words: &str) {
    let before = left(node);
    let reason = node.fail(order).await;
    assert!(
        reason.starts_with(&format!("{step}: ")) && reason.contains(words),
        "{reason}"
    );
    assert_eq!(node.states(&order.id).last(), Some(&Dead));
    node.sandboxes().drained().await;
    assert_eq!(left(node), before, "after {reason}");
}

/// What is there of the node; its bridge is, whatever the bridge says of itself.
fn left(node: &TestNode) -> Vec<String> {
    let mut found = node.remains();
    found.retain(|line| !line.contains(&format!(" {}: ", node.config.bridge)));
    found
}

/// The next one gets the only place there is, and serves.
pub async fn boots(node: &mut TestNode) {
    let order = node.order("listen 0.0.0.0");
    let running = node.run(&order).await;
    assert_eq!(running.facts.slot, Some(0));
    assert_eq!(crate::client::ask(&running, "cwd"), "/app");
    node.sandboxes().kill(&order.id, "test over");
    node.until(&order.id, Stopped).await;
    node.sandboxes().drained().await;
}

/// A file system over one of the node's folders.
struct Mounted(PathBuf);

impl Mounted {
    fn over(dir: &Path, options: &str) -> Self {
        mount(Some("tmpfs"), dir, Some("tmpfs"), MsFlags::empty(), Some(options)).expect("a mount");
        Self(dir.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

fn ip(arguments: &str) -> String {
    let done = Command::new("ip").args(arguments.split(' ')).output().expect("ip");
    assert!(done.status.success(), "ip {arguments}: {done:?}");
    String::from_utf8_lossy(&done.stdout).into_owned()
}

#[test]
fn b2_what_cannot_be_configured_or_has_no_files() {
    with_config(one_place, async |node| {
        boots(node).await;
        let mut order = node.order("listen 0.0.0.0");
        order.env.insert("BAD".into(), "a\0b".into());
        fails(node, &order, "config", "\"BAD\"").await;
        let mut order = node.order("");
        order.service.command = " ".into();
        fails(node, &order, "config", "no command").await;
        let mut order = node.order("listen 0.0.0.0");
        order.app_files = Some("/nowhere".into());
        fails(node, &order, "image", "/nowhere is not a folder").await;
        boots(node).await;
    });
}

#[test]
fn b2_a_full_disk_and_a_specification_that_cannot_be_written() {
    with_config(one_place, async |node| {
        boots(node).await;
        let dir = node.config.run_dir.join("sandboxes");
        let full = Mounted::over(&dir, "size=16k");
        fails(node, &node.order("listen 0.0.0.0"), "snapshot", "No space left").await;
        assert!(contents(&dir).is_empty());
        drop(full);
        boots(node).await;
        let order = node.order("listen 0.0.0.0");
        // Where the specification is written before it gets its name.
        fs::create_dir_all(dir.join(order.id.as_str()).join("config.new/in the way")).expect("a folder");
        let reason = node.fail(&order).await;
        assert!(reason.starts_with("spec: preparing its files: "), "{reason}");
        node.sandboxes().drained().await;
        assert!(!dir.join(order.id.as_str()).exists());
        boots(node).await;
    });
}

#[test]
fn b2_a_network_that_cannot_be_made() {
    with_config(one_place, async |node| {
        boots(node).await;
        let full = Mounted::over(&node.config.run_dir.join("netns"), "nr_inodes=1");
        fails(node, &node.order("listen 0.0.0.0"), "network", "No space left").await;
        drop(full);
        let order = node.order("listen 0.0.0.0");
        node.run(&order).await;
        let links = ip("-o link");
        let veth = links
            .split([' ', '@'])
            .find(|word| word.starts_with("mv"))
            .expect("a veth")
            .to_owned();
        let full = node.fail(&node.order("listen 0.0.0.0")).await;
        assert!(
            full.starts_with(&format!("network: subnet {} is full", node.config.subnet)),
            "{full}"
        );
        node.sandboxes().kill(&order.id, "test over");
        node.until(&order.id, Stopped).await;
        node.sandboxes().drained().await;
        // Somebody else has the name that the next one's interface would get; the clean-up takes it for its own.
        ip(&format!("link add {veth} type bridge"));
        let reason = node.fail(&node.order("listen 0.0.0.0")).await;
        assert!(reason.starts_with("network: creating the veth"), "{reason}");
        node.sandboxes().drained().await;
        boots(node).await;
    });
}

#[test]
fn b2_a_runtime_that_is_given_what_it_cannot_make() {
    with_config(one_place, async |node| {
        boots(node).await;
        let mut order = node.order("");
        order.service.command = "no-such-program".into();
        fails(node, &order, "create", "command not found: no-such-program").await;
        let mut order = node.order("listen 0.0.0.0");
        order.service.resources.cpu = Some(0.5);
        let limit = Limit::of_node(&node.config.name);
        fails(node, &order, "create", "").await;
        drop(limit);
        boots(node).await;
        let mut order = node.order("listen 0.0.0.0");
        order.service.resources.memory = Some(Bytes(4096));
        let reason = node.fail(&order).await;
        assert!(
            reason.starts_with("create: ") || reason.starts_with("start: ") || reason.starts_with("port: "),
            "{reason}"
        );
        node.sandboxes().drained().await;
        boots(node).await;
    });
}

/// A node whose cgroup has no room for what its sandboxes are to get.
struct Limit {
    file: PathBuf,
    before: String,
}

impl Limit {
    fn of_node(name: &str) -> Self {
        let version_1 = PathBuf::from(format!("/sys/fs/cgroup/cpu/miren-{name}/cpu.cfs_quota_us"));
        let (file, least) = match version_1.exists() {
            true => (version_1, "1000"),
            false => (
                PathBuf::from(format!("/sys/fs/cgroup/miren-{name}/cgroup.max.descendants")),
                "0",
            ),
        };
        let before = fs::read_to_string(&file).expect("a cgroup of the node");
        fs::write(&file, least).expect("a limit");
        Self { file, before }
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        let _ = fs::write(&self.file, self.before.trim());
    }
}

#[test]
fn b2_a_helper_that_is_missing_or_says_nothing() {
    let own_helper = |config: &mut NodeConfig| {
        one_place(config);
        Program::install(config);
    };
    with_config(own_helper, async |node| {
        boots(node).await;
        let helper = Program::of(node);
        helper.remove();
        fails(node, &node.order("listen 0.0.0.0"), "create", "").await;
        helper.replace("exit 0");
        fails(node, &node.order("listen 0.0.0.0"), "create", "").await;
        helper.restore();
        boots(node).await;
    });
}

#[test]
fn b2_a_command_that_is_not_started() {
    let embedded = |config: &mut NodeConfig| {
        one_place(config);
        config.runtime = RuntimeConfig::Embedded;
        Program::install(config);
    };
    with_config(embedded, async |node| {
        boots(node).await;
        let helper = Program::of(node);
        // Says that it has made a sandbox, and cannot start it when it is told to.
        helper.replace(
            "sleep 600 & pid=$!\nset -- $(cat /proc/$pid/stat)\n\
             echo \"{\\\"Created\\\":{\\\"pid\\\":$pid,\\\"started\\\":${22}}}\" >&0\n\
             read -r -n 1 go\nkill $pid\necho '{\"Failed\":\"no start today\"}' >&0",
        );
        fails(node, &node.order("listen 0.0.0.0"), "start", "no start today").await;
        helper.restore();
        boots(node).await;
    });
}

#[test]
fn b2_a_helper_that_hangs_is_given_up_in_time_and_killed() {
    let hasty = |config: &mut NodeConfig| {
        one_place(config);
        config.runtime = RuntimeConfig::Embedded;
        // Long enough for a boot that nothing holds up.
        config.boot_timeout = Duration::from_secs(10);
        Program::install(config);
    };
    with_config(hasty, async |node| {
        boots(node).await;
        let helper = Program::of(node);
        helper.replace("kill -STOP $$");
        fails(node, &node.order("listen 0.0.0.0"), "create", "not made within 10s").await;
        helper.restore();
        boots(node).await;
    });
}

#[test]
fn b2_a_command_that_does_not_get_ready() {
    with_config(one_place, async |node| {
        boots(node).await;
        let mut order = node.order("sleep");
        order.service.port_timeout = Duration::from_millis(200);
        fails(node, &order, "port", "did not listen on port 3000").await;
        fails(node, &node.order("exit 3"), "port", "exited with status 3").await;
        let mut order = node.order("listen 0.0.0.0");
        order.service.health_path = Some("/status/500".into());
        order.service.port_timeout = Duration::from_secs(10);
        fails(node, &order, "health", "was answered with 500").await;
        boots(node).await;
    });
}

#[test]
fn boots_wait_their_turn_and_stops_do_not() {
    let one_at_a_time = |config: &mut NodeConfig| {
        config.boots = std::num::NonZeroUsize::MIN;
        Program::install(config);
    };
    with_config(one_at_a_time, async |node| {
        let running = node.order("listen 0.0.0.0");
        node.run(&running).await;
        let helper = Program::of(node);
        let gate = helper.close_gate();
        let [first, second, third] = [(); 3].map(|()| node.order("listen 0.0.0.0"));
        node.sandboxes().start(first.clone());
        eventually("the first to be under way", || gate.waiting() == 1).await;
        for order in [&second, &third] {
            node.sandboxes().start(order.clone());
            node.until(&order.id, Pending).await;
        }
        // One that runs, and one that waits for its turn: neither waits for the boot that hangs.
        for order in [&running, &second] {
            node.sandboxes().kill(&order.id, "not wanted");
            let stopped = node.until(&order.id, Stopped).await;
            assert_eq!(stopped.reason.as_deref(), Some("not wanted"));
        }
        assert_eq!(gate.waiting(), 1, "two boots at a time");
        gate.open();
        for order in [&first, &third] {
            while !node.states(&order.id).contains(&Running) {
                node.next_change().await;
            }
        }
        for order in [&first, &third] {
            node.sandboxes().kill(&order.id, "test over");
        }
        node.sandboxes().drained().await;
    });
}

/// Whose fault the last boot was.
fn blamed(node: &TestNode) -> Option<NodeFault> {
    node.seen.last().expect("an end").node_fault
}

#[test]
fn f9_what_the_machine_lacks_is_the_nodes_fault_and_what_the_app_asks_for_is_its_own() {
    with_config(one_place, async |node| {
        let full = Mounted::over(&node.config.run_dir.join("sandboxes"), "size=16k");
        fails(node, &node.order("listen 0.0.0.0"), "snapshot", "No space left").await;
        assert_eq!(blamed(node), Some(NodeFault::DiskFull));
        drop(full);
        let full = Mounted::over(&node.config.run_dir.join("netns"), "nr_inodes=1");
        fails(node, &node.order("listen 0.0.0.0"), "network", "No space left").await;
        assert_eq!(blamed(node), Some(NodeFault::DiskFull));
        drop(full);
        let mut order = node.order("");
        order.service.command = "./no-space-left-on-device".into();
        node.fail(&order).await;
        assert_eq!(blamed(node), None, "a command that is not there");
        node.sandboxes().drained().await;
        let mut order = node.order("listen 127.0.0.1");
        order.service.port_timeout = Duration::from_millis(500);
        node.fail(&order).await;
        assert_eq!(blamed(node), None, "a port that nobody listens on");
        node.sandboxes().drained().await;
        let order = node.order("listen 0.0.0.0");
        assert_eq!(node.run(&order).await.node_fault, None);
        node.fail(&node.order("listen 0.0.0.0")).await;
        assert_eq!(blamed(node), Some(NodeFault::NoPlace));
        node.sandboxes().kill(&order.id, "test over");
        node.until(&order.id, Stopped).await;
    });
}

#[test]
fn f9_a_helper_that_cannot_be_started_is_the_nodes_fault() {
    let embedded = |config: &mut NodeConfig| {
        one_place(config);
        config.runtime = RuntimeConfig::Embedded;
        Program::install(config);
    };
    with_config(embedded, async |node| {
        // What a node keeps from its first boot on is there.
        boots(node).await;
        let helper = Program::of(node);
        helper.remove();
        fails(node, &node.order("listen 0.0.0.0"), "create", "").await;
        assert_eq!(blamed(node), Some(NodeFault::Program));
        helper.replace("exit 0");
        fails(node, &node.order("listen 0.0.0.0"), "create", "").await;
        assert_eq!(blamed(node), Some(NodeFault::Runtime));
        helper.restore();
        boots(node).await;
    });
}

//! Decides that a disk has one writer at a time, goes on at once when that one ends, and loses nothing to whatever ends.

use crate::client::ask;
use crate::node::{TestNode, with_node};
use miren_api::app_file::{DiskKept, DiskMount, Filesystem};
use miren_api::resource::SandboxState::{Pending, Running, Stopped};
use miren_sandbox::StartOrder;
use std::fs;
use std::path::Path;
use std::time::Duration;

const PATIENT: Duration = Duration::from_secs(60);
const IMAGE: DiskKept = DiskKept::Loop {
    size_gb: Some(1),
    filesystem: None,
};

fn disk(kept: DiskKept, lease_timeout: Duration) -> DiskMount {
    DiskMount {
        name: "data".into(),
        mount_path: "/var/lib/rows".into(),
        read_only: false,
        lease_timeout,
        kept,
    }
}

fn order(node: &TestNode, disk: &DiskMount) -> StartOrder {
    let mut order = node.order("listen 0.0.0.0");
    order.service.disks.push(disk.clone());
    order
}

/// Loop devices of files in a folder.
fn devices_of(dir: &Path) -> usize {
    let blocks = fs::read_dir("/sys/block").expect("block devices").flatten();
    let files = blocks.map(|block| fs::read_to_string(block.path().join("loop/backing_file")).unwrap_or_default());
    files.filter(|file| Path::new(file.trim()).starts_with(dir)).count()
}

async fn stop(node: &mut TestNode, order: &StartOrder) {
    node.drain_now(&order.id, "test over");
    node.until(&order.id, Stopped).await;
}

#[test]
fn b6_a_disk_goes_from_one_sandbox_to_the_next_with_its_data() {
    with_node(async |node| {
        let data = disk(IMAGE, PATIENT);
        let first = order(node, &data);
        let running = node.run(&first).await;
        assert_eq!(ask(&running, "write/var/lib/rows/a"), "ok");
        let second = order(node, &data);
        node.sandboxes().start(second.clone());
        node.until(&second.id, Pending).await;
        let hasty = order(node, &disk(IMAGE, Duration::from_millis(100)));
        let reason = node.fail(&hasty).await;
        let told = format!("volume: disk \"data\" was still held by {} after 100ms", first.id);
        assert!(reason.starts_with(&told), "{reason}");
        assert_eq!(node.states(&second.id), [Pending], "it runs beside the first");
        node.drain_now(&first.id, "replaced");
        let running = node.until(&second.id, Running).await;
        assert_eq!(ask(&running, "read/var/lib/rows/a"), "written");
        assert_eq!(devices_of(&node.config.disk_dir), 1);
        stop(node, &second).await;
        node.sandboxes().drained().await;
        assert_eq!(devices_of(&node.config.disk_dir), 0);
    });
}

/// One whose programs are not on the machine is refused by name; setup installs all of them.
#[test]
fn b6_a_disk_of_any_file_system_goes_from_one_sandbox_to_the_next_with_its_data() {
    with_node(async |node| {
        for filesystem in [Filesystem::Ext4, Filesystem::Xfs, Filesystem::Btrfs] {
            let kept = DiskKept::Loop {
                size_gb: Some(1),
                filesystem: Some(filesystem),
            };
            let data = DiskMount {
                name: filesystem.to_string(),
                ..disk(kept, PATIENT)
            };
            let first = order(node, &data);
            let maker = format!("mkfs.{filesystem}");
            if !Path::new("/usr/sbin").join(&maker).exists() {
                let told = node.fail(&first).await;
                assert!(told.starts_with(&format!("volume: {maker} is not installed")), "{told}");
                continue;
            }
            let running = node.run(&first).await;
            assert_eq!(ask(&running, "write/var/lib/rows/a"), "ok", "{filesystem}");
            let mounts = ask(&running, "read/proc/self/mountinfo");
            let mounted = mounts.lines().find(|line| line.contains(" /var/lib/rows "));
            let is_of = |line: &str| line.contains(&format!(" - {filesystem} "));
            assert!(mounted.is_some_and(is_of), "{filesystem}: {mounts}");
            node.sandboxes().kill(&first.id, "test");
            node.until(&first.id, Stopped).await;
            let second = order(node, &data);
            let running = node.run(&second).await;
            assert_eq!(ask(&running, "read/var/lib/rows/a"), "written", "{filesystem}");
            stop(node, &second).await;
        }
        node.sandboxes().drained().await;
        assert_eq!(devices_of(&node.config.disk_dir), 0);
    });
}

#[test]
fn b6_who_has_a_disk_is_known_again_after_a_restart() {
    with_node(async |node| {
        let data = disk(IMAGE, PATIENT);
        let first = order(node, &data);
        let running = node.run(&first).await;
        let known = node.known(&first);
        node.kill_daemon().await;
        assert_eq!(ask(&running, "write/var/lib/rows/a"), "ok");
        assert_eq!(node.restart_daemon(vec![known]).await, []);
        let reason = node.fail(&order(node, &disk(IMAGE, Duration::ZERO))).await;
        assert!(reason.contains(&format!("held by {}", first.id)), "{reason}");
        let second = order(node, &data);
        node.sandboxes().start(second.clone());
        node.drain_now(&first.id, "replaced");
        let running = node.until(&second.id, Running).await;
        assert_eq!(ask(&running, "read/var/lib/rows/a"), "written");
        // Nobody knows the second one any more: it goes, and its disk is free.
        node.kill_daemon().await;
        assert_eq!(node.restart_daemon(Vec::new()).await, []);
        assert_eq!(devices_of(&node.config.disk_dir), 0);
        let third = order(node, &data);
        let running = node.run(&third).await;
        assert_eq!(ask(&running, "read/var/lib/rows/a"), "written");
        stop(node, &third).await;
    });
}

#[test]
fn b2_a_disk_that_cannot_be_had_ends_the_boot_with_its_reason() {
    with_node(async |node| {
        let none = DiskKept::Loop {
            size_gb: None,
            filesystem: None,
        };
        let reason = node.fail(&order(node, &disk(none, PATIENT))).await;
        assert!(
            reason.starts_with("volume: disk \"data\" does not exist; set size_gb to create it"),
            "{reason}"
        );
        let kept = order(node, &disk(DiskKept::Directory, PATIENT));
        node.run(&kept).await;
        stop(node, &kept).await;
        node.sandboxes().drained().await;
        fs::remove_file(node.config.disk_dir.join("shop.data/disk.json")).expect("its record");
        let reason = node.fail(&order(node, &disk(DiskKept::Directory, PATIENT))).await;
        assert!(
            reason.starts_with("volume: ") && reason.contains("disk.json: is not there"),
            "{reason}"
        );
    });
}

#[test]
fn a_sandbox_that_waits_for_a_disk_can_be_called_off() {
    with_node(async |node| {
        let data = disk(DiskKept::Directory, PATIENT);
        let first = order(node, &data);
        node.run(&first).await;
        let second = order(node, &data);
        node.sandboxes().start(second.clone());
        node.until(&second.id, Pending).await;
        stop(node, &second).await;
        // The next in line is not held up by it.
        let third = order(node, &data);
        node.sandboxes().start(third.clone());
        node.sandboxes().kill(&first.id, "test");
        node.until(&third.id, Running).await;
        stop(node, &third).await;
    });
}

#[test]
fn many_may_read_a_disk_that_nobody_writes() {
    with_node(async |node| {
        let data = disk(DiskKept::Directory, PATIENT);
        let writer = order(node, &data);
        let running = node.run(&writer).await;
        assert_eq!(ask(&running, "write/var/lib/rows/a"), "ok");
        stop(node, &writer).await;
        let shared = DiskMount {
            read_only: true,
            mount_path: "/app/rows".into(),
            ..data.clone()
        };
        let (one, two) = (order(node, &shared), order(node, &shared));
        for reader in [&one, &two] {
            let running = node.run(reader).await;
            assert_eq!(ask(&running, "read/app/rows/a"), "written");
            assert!(ask(&running, "write/app/rows/b").contains("Read-only"));
        }
        let reason = node
            .fail(&order(node, &disk(DiskKept::Directory, Duration::ZERO)))
            .await;
        assert!(
            reason.contains(one.id.as_str()) && reason.contains(two.id.as_str()),
            "{reason}"
        );
        stop(node, &one).await;
        stop(node, &two).await;
        let running = node.run(&order(node, &data)).await;
        assert_eq!(ask(&running, "write/var/lib/rows/b"), "ok");
        node.sandboxes().kill(&running.id, "test over");
        node.until(&running.id, Stopped).await;
    });
}

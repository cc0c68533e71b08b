//! Decides that a link in an app's folder is followed in the sandbox, by whoever sets it up as well, and never on the host.

use crate::client::ask;
use crate::node::with_node;
use miren_api::app_file::{DiskKept, DiskMount};
use miren_api::resource::SandboxState::{Dead, Running, Stopped};
use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

fn disk(name: &str, mount_path: &str) -> DiskMount {
    DiskMount {
        name: name.into(),
        mount_path: mount_path.into(),
        read_only: false,
        lease_timeout: Duration::from_secs(60),
        kept: DiskKept::Directory,
    }
}

#[test]
fn g6_links_lead_where_they_lead_in_the_sandbox() {
    with_node(async |node| {
        let host = tempfile::tempdir().expect("a folder");
        fs::write(host.path().join("secret"), "a secret of the host").expect("a file");
        let mut order = node.order("listen 0.0.0.0");
        let app = order.app_files.clone().expect("a folder");
        let secret = host.path().join("secret").display().to_string();
        fs::create_dir(app.join("lib")).expect("a folder");
        fs::write(app.join("lib/inner"), "inner").expect("a file");
        for (name, to) in [
            ("program", "/app/app"),
            ("lib64", "lib"),
            ("passwd", "/etc/passwd"),
            ("up", "../../../../etc/passwd"),
            ("secret", secret.as_str()),
            ("shadow", "/etc/shadow"),
            ("loop", "loop"),
        ] {
            symlink(to, app.join(name)).expect("a link");
        }
        order.service.command = "./program listen 0.0.0.0".into();
        let running = node.run(&order).await;
        assert_eq!(ask(&running, "read/app/lib64/inner"), "inner");
        let own = ask(&running, "read/etc/passwd");
        assert!(own.contains("/app:/bin/sh"), "{own}");
        for same in ["passwd", "up"] {
            assert_eq!(ask(&running, &format!("read/app/{same}")), own, "{same}");
        }
        for nothing in ["secret", "shadow", "loop"] {
            let read = ask(&running, &format!("read/app/{nothing}"));
            assert!(read.starts_with("error: "), "{nothing}: {read}");
        }
        node.drain_now(&order.id, "test over");
        node.until(&order.id, Stopped).await;
    });
}

#[test]
fn g6_a_disk_that_is_mounted_on_a_link_is_nowhere_on_the_host() {
    with_node(async |node| {
        let host = tempfile::tempdir().expect("a folder");
        fs::write(host.path().join("file"), "the host's").expect("a file");
        for read_only in [false, true] {
            for place in ["/app/hole", "/app/hole/rows", "/app/up/rows"] {
                let mut order = node.order("listen 0.0.0.0");
                let app = order.app_files.clone().expect("a folder");
                for (name, to) in [
                    ("hole", host.path().display().to_string()),
                    ("up", format!("../../../../../..{}", host.path().display())),
                ] {
                    let _ = fs::remove_file(app.join(name));
                    symlink(to, app.join(name)).expect("a link");
                }
                order.service.read_only_root = read_only;
                order.service.disks = vec![disk("rows", place)];
                node.sandboxes().start(order.clone());
                // Whether such a place can be had is the runtime's to say.
                let change = node.until_any(&order.id, &[Running, Dead]).await;
                let names: Vec<_> = fs::read_dir(host.path())
                    .expect("the folder")
                    .map(|entry| entry.expect("an entry").file_name())
                    .collect();
                assert_eq!(names, ["file"], "{place}: {change:?}");
                let text = fs::read_to_string(host.path().join("file"));
                assert_eq!(text.expect("the file"), "the host's", "{place}");
                if change.state == Running {
                    node.drain_now(&order.id, "test over");
                    node.until(&order.id, Stopped).await;
                }
                node.sandboxes().drained().await;
            }
        }
    });
}

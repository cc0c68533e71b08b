//! Decides that the mask under which control makes files is not that of sandboxes, nor of what is made for them.

use crate::archive::Archive;
use crate::client::ask;
use crate::exec::{heard, start};
use crate::images::stop;
use crate::node::with_node;
use miren_api::app_file::{DiskKept, DiskMount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, umask};
use std::time::Duration;

#[test]
fn g2_the_mask_of_control_is_its_own() {
    // That of this test alone, and of the threads it starts; a supervisor gives control no other.
    unshare(CloneFlags::CLONE_FS).expect("a mask of its own");
    umask(Mode::from_bits_truncate(0o077));
    with_node(async |node| {
        let (_image, mut of_image) = Archive::new().order(node).await;
        of_image.service.disks = vec![DiskMount {
            name: "rows".into(),
            mount_path: "/new/rows".into(),
            read_only: false,
            lease_timeout: Duration::from_secs(60),
            kept: DiskKept::Directory,
        }];
        let folders = ["", "etc", "dev", "tmp", "app", "run", "new"];
        let files = ["etc/passwd", "etc/hosts", "etc/resolv.conf"];
        for (order, folders) in [
            (node.order("listen 0.0.0.0"), &folders[..6]),
            (of_image, &["", "etc", "new"][..]),
        ] {
            let running = node.run(&order).await;
            for folder in folders {
                let owner = ask(&running, &format!("owner/{folder}"));
                assert!(matches!(&*owner, "0:0 755" | "0:0 1777"), "/{folder}: {owner}");
            }
            for file in files {
                assert_eq!(ask(&running, &format!("owner/{file}")), "0:0 644", "/{file}");
            }
            assert_eq!(ask(&running, "write/dev/shm/x"), "ok");
            assert_eq!(ask(&running, "owner/dev/shm/x"), "0:0 644");
            let program = if order.app_files.is_some() {
                "/app/app"
            } else {
                "/bin/app"
            };
            for (verb, told) in [("write", "ok"), ("owner", "0:0 644")] {
                let exec = start(node, &order, &[program, "do", verb, "dev/shm/y"], false).await;
                assert_eq!(heard(exec.expect("a command")).await.out, told);
            }
            stop(node, &order).await;
        }
    });
}

//! Decides that a sandbox with a read-only root writes to `/tmp` and to its disks, and nowhere else.

use crate::archive::{Archive, libraries};
use crate::client::ask;
use crate::node::{TestNode, with_node};
use miren_api::app_file::{DiskKept, DiskMount};
use miren_api::resource::SandboxState::Stopped;
use miren_sandbox::{Root, StartOrder};
use std::fs;
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

/// Runs it with a read-only root and two disks, tries to write, and stops it.
async fn writes(node: &mut TestNode, mut order: StartOrder, refused: &[&str]) {
    order.service.read_only_root = true;
    order.service.disks = vec![disk("inner", "/app/rows/inner"), disk("outer", "/var/rows")];
    let running = node.run(&order).await;
    for place in refused {
        let answer = ask(&running, &format!("write/{place}"));
        assert!(answer.contains("Read-only file system"), "/{place}: {answer}");
    }
    for place in ["tmp/x", "app/rows/inner/x", "var/rows/x"] {
        assert_eq!(ask(&running, &format!("write/{place}")), "ok", "/{place}");
        assert_eq!(ask(&running, &format!("read/{place}")), "written", "/{place}");
    }
    node.drain_now(&order.id, "test over");
    node.until(&order.id, Stopped).await;
}

#[test]
fn the_folders_of_the_host_and_the_app_are_read_only() {
    with_node(async |node| {
        let order = node.order("listen 0.0.0.0");
        let places = [
            "new",
            "usr/new",
            "etc/passwd",
            "run/new",
            "app/new",
            "app/rows/new",
            "var/new",
        ];
        writes(node, order, &places).await;
        let mut without_disks = node.order("listen 0.0.0.0");
        without_disks.service.read_only_root = true;
        let running = node.run(&without_disks).await;
        assert!(ask(&running, "write/app/new").contains("Read-only file system"));
        assert_eq!(ask(&running, "list/app"), "app");
        node.drain_now(&without_disks.id, "test over");
        node.until(&without_disks.id, Stopped).await;
    });
}

#[test]
fn what_is_in_an_image_is_read_only_with_a_folder_and_without() {
    with_node(async |node| {
        let (_, image) = Archive::new().order(node).await;
        let places = [
            "new",
            "srv/data",
            "srv/new",
            "etc/passwd",
            "bin/app",
            "app/new",
            "var/new",
        ];
        writes(node, image.clone(), &places).await;
        let mut over = node.order("listen 0.0.0.0");
        over.root = image.root;
        writes(node, over, &places).await;
    });
}

#[test]
fn a_root_with_nothing_in_it_is_read_only() {
    with_node(async |node| {
        let mut bare = node.order("");
        let folder = bare.app_files.clone().expect("a folder");
        // With its own loader, which finds its libraries beside it.
        let mut loader = String::new();
        for library in libraries(&folder.join("app")) {
            let name = library.file_name().expect("a name").to_str().expect("a name");
            fs::copy(&library, folder.join(name)).expect("a copy");
            if name.starts_with("ld-") {
                loader = name.to_owned();
            }
        }
        bare.root = Root::Scratch;
        bare.service.command = format!("./{loader} --library-path /app ./app listen 0.0.0.0");
        writes(node, bare, &["new", "app/new", "app/rows/new", "var/new"]).await;
    });
}

//! Decides that the folders and files an image speaks of are there, and that its links lead nobody out of its root.

use crate::archive::Archive;
use crate::client::ask;
use crate::images::stop;
use crate::node::{contents, with_node};
use miren_api::app_file::{DiskKept, DiskMount};
use serde_json::json;
use std::fs;
use std::time::Duration;

/// Where a runtime or control mounts something.
const PLACES: [&str; 5] = ["dev", "proc", "sys", "tmp", "app"];
const AS_DOCKER_MAKES_IT: &str = "0:0 755";

#[test]
fn g1_folders_that_an_image_names_and_does_not_have_are_made() {
    with_node(async |node| {
        let mut archive = Archive::new();
        archive.link(&[("way", "../../../../made"), ("srv/rows", "/var/rows")]);
        archive.config["User"] = "app".into();
        archive.config["WorkingDir"] = "/way/work".into();
        archive.config["Volumes"] = json!({ "/data": {}, "/srv/rows": {}, "/dev/shm": {}, "/proc/x": {} });
        let (_, order) = archive.order(node).await;
        let running = node.run(&order).await;
        assert_eq!(ask(&running, "cwd"), "/made/work");
        for made in ["made/work", "data", "var/rows", "srv/rows"] {
            assert_eq!(ask(&running, &format!("owner/{made}")), AS_DOCKER_MAKES_IT, "/{made}");
        }
        assert_eq!(ask(&running, "read/srv/data"), "of the image");
        stop(node, &order).await;
    });
}

#[test]
fn g1_a_folder_that_cannot_be_is_told_with_the_word_of_the_dockerfile() {
    with_node(async |node| {
        for (field, value, told) in [
            (
                "WorkingDir",
                json!("/srv/data/x"),
                "image: its WORKDIR \"/srv/data/x\": there is something on its way that is no folder",
            ),
            (
                "WorkingDir",
                json!("work"),
                "image: its WORKDIR \"work\" is not a whole path",
            ),
            (
                "WorkingDir",
                json!("/proc/self/fd/8"),
                "image: its WORKDIR \"/proc/self/fd/8\" leads into /proc",
            ),
            (
                "Volumes",
                json!({ "/srv/..": {} }),
                "image: its VOLUME \"/srv/..\" is the whole root",
            ),
            ("Env", json!(["A=\0"]), "image: its ENV contains a zero byte"),
        ] {
            let mut archive = Archive::new();
            archive.config[field] = value;
            let (_image, order) = archive.order(node).await;
            assert_eq!(node.fail(&order).await, told);
        }
    });
}

#[test]
fn g1_name_servers_and_names_are_found_whatever_an_image_has_in_their_places() {
    with_node(async |node| {
        let outside = tempfile::tempdir().expect("a folder");
        let secret = outside.path().join("secret");
        let secret = secret.to_str().expect("a path");
        let mut linked = Archive::new();
        let stub = "../run/systemd/resolve/stub-resolv.conf";
        linked.link(&[
            ("etc/resolv.conf", stub),
            ("etc/hosts", secret),
            ("etc/hostname", "hostname"),
        ]);
        let mut without = Archive::new();
        without.add(".wh.etc", "");
        let mut elsewhere = Archive::new();
        elsewhere.link(&[("etc", "/data/etc")]);
        for mut archive in [linked, without, elsewhere] {
            archive.config["User"] = "1000:1000".into();
            let (_, order) = archive.order(node).await;
            let running = node.run(&order).await;
            assert_eq!(ask(&running, "read/etc/hostname").trim(), order.id.as_str());
            let hosts = ask(&running, "read/etc/hosts");
            assert!(hosts.contains(order.id.as_str()), "{hosts}");
            assert!(!ask(&running, "read/etc/resolv.conf").starts_with("error"));
            assert_eq!(ask(&running, "owner/etc/resolv.conf"), "0:0 644");
            stop(node, &order).await;
        }
        assert!(contents(outside.path()).is_empty(), "a link led out");
    });
}

#[test]
fn g1_volumes_are_written_to_where_the_root_is_not() {
    with_node(async |node| {
        let mut archive = Archive::new();
        archive.config["WorkingDir"] = "/tmp/work".into();
        archive.config["Volumes"] = json!({ "/data": {}, "/srv": {}, "/app": {}, "/tmp/rows": {} });
        let (_, mut order) = archive.order(node).await;
        order.service.read_only_root = true;
        for has_folder in [false, true] {
            order.id = miren_api::id::SandboxId::generate();
            if has_folder {
                order.app_files = node.order("").app_files;
            }
            let running = node.run(&order).await;
            assert_eq!(ask(&running, "cwd"), if has_folder { "/app" } else { "/tmp/work" });
            for place in ["data/x", "srv/x", "tmp/rows/x", "tmp/x"] {
                assert_eq!(ask(&running, &format!("write/{place}")), "ok", "/{place}");
                assert_eq!(ask(&running, &format!("read/{place}")), "written", "/{place}");
            }
            assert_eq!(
                ask(&running, "read/srv/data"),
                "of the image",
                "what the image has there stays"
            );
            let of_app = ask(&running, "write/app/x");
            assert_eq!(of_app == "ok", !has_folder, "the folder counts more: {of_app}");
            for place in ["new", "etc/passwd"] {
                let refused = ask(&running, &format!("write/{place}"));
                assert!(refused.contains("Read-only file system"), "/{place}: {refused}");
            }
            stop(node, &order).await;
        }
    });
}

/// The runtime makes devices and links in these places before the root is the sandbox's.
#[test]
fn g1_no_link_of_an_image_leads_the_runtime_out() {
    with_node(async |node| {
        let outside = tempfile::tempdir_in("/var/tmp").expect("a folder");
        let at = |name: &str| outside.path().join(name).to_str().expect("a path").to_owned();
        for name in PLACES {
            fs::create_dir(at(name)).expect("a folder");
        }
        fs::write(at("dev/ptmx"), "of the host").expect("a file");
        let there = || PLACES.map(|name| contents(at(name).as_ref()));
        let before = there();
        let mut archive = Archive::new();
        archive.add(".wh.tmp", "");
        // In the image there are folders of the same names: what looks only there finds nothing wrong.
        for name in PLACES {
            archive.add(&format!("{}/kept", at(name).trim_start_matches('/')), "");
        }
        archive.link(
            &PLACES
                .map(|name| (name, at(name)))
                .each_ref()
                .map(|(name, to)| (*name, &**to)),
        );
        let (_, mut order) = archive.order(node).await;
        order.app_files = node.order("").app_files;
        for read_only in [false, true] {
            order.id = miren_api::id::SandboxId::generate();
            order.service.read_only_root = read_only;
            let running = node.run(&order).await;
            assert_eq!(ask(&running, "list/app"), "app");
            assert!(ask(&running, "read/proc/self/status").contains("Uid:"));
            stop(node, &order).await;
            assert!(there() == before, "a link led out");
        }
    });
}

#[test]
fn g1_no_link_of_an_image_takes_a_disk_where_the_kernel_is() {
    with_node(async |node| {
        let mut archive = Archive::new();
        archive.link(&[("rows", "/proc"), ("far", "../../var/new/place")]);
        let (_, mut order) = archive.order(node).await;
        let disk = |mount_path: &str| DiskMount {
            name: "rows".into(),
            mount_path: mount_path.into(),
            read_only: false,
            lease_timeout: Duration::from_secs(60),
            kept: DiskKept::Directory,
        };
        order.service.disks = vec![disk("/rows")];
        let reason = node.fail(&order).await;
        assert_eq!(reason, "image: the disk at /rows: the image leads it to /proc");
        order.id = miren_api::id::SandboxId::generate();
        order.service.disks = vec![disk("/far")];
        let running = node.run(&order).await;
        assert_eq!(ask(&running, "write/far/x"), "ok");
        assert_eq!(ask(&running, "read/var/new/place/x"), "written");
        stop(node, &order).await;
    });
}

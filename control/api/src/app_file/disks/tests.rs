//! Which disks a service can have, and what is said about those it cannot.

use crate::app_file::{Concurrency, DiskKept, DiskMount, Filesystem, Service, parse};
use std::path::Path;
use std::time::Duration;

const WEB: &str = "[services.web]\ncommand = \"x\"\n";

fn service(settings: &str) -> Service {
    let app = parse(Some(&format!("{WEB}{settings}")), None).unwrap_or_else(|why| panic!("{why}"));
    app.services["web"].clone()
}

fn told(settings: &str) -> String {
    let problems = parse(Some(&format!("{WEB}{settings}")), None).expect_err("it was accepted");
    assert_eq!(problems.0.len(), 1, "{problems}");
    problems.to_string()
}

#[test]
fn a_disk_is_read_with_its_defaults() {
    let text = "[[services.web.disks]]\nname = \"data\"\nmount_path = \"/var//data/\"\nsize_gb = 20\n\
                [[services.web.disks]]\nname = \"seed\"\nmount_path = \"/seed\"\nread_only = true\nfilesystem = \"xfs\"\n\
                lease_timeout = \"30s\"\n\
                [[services.web.disks]]\nname = \"files\"\nmount_path = \"/files\"\nprovider = \"directory\"\n";
    let service = service(text);
    let data = DiskMount {
        name: "data".into(),
        mount_path: "/var/data".into(),
        read_only: false,
        lease_timeout: Duration::from_secs(300),
        kept: DiskKept::Loop {
            size_gb: Some(20),
            filesystem: None,
        },
    };
    assert_eq!(service.disks[0], data);
    let seed = &service.disks[1];
    assert_eq!((seed.read_only, seed.lease_timeout), (true, Duration::from_secs(30)));
    let xfs = DiskKept::Loop {
        size_gb: None,
        filesystem: Some(Filesystem::Xfs),
    };
    assert_eq!((seed.kept, service.disks[2].kept), (xfs, DiskKept::Directory));
    assert_eq!(service.written_disks().collect::<Vec<_>>(), ["data", "files"]);
    assert_eq!(service.disks[2].mount_path, Path::new("/files"));
}

#[test]
fn b1_a_mistyped_key_of_a_disk_is_refused_by_name() {
    let text = "[[services.web.disks]]\nname = \"data\"\nmount_path = \"/data\"\nsize = 20\n";
    let told = told(text);
    assert!(
        told.contains(":6: services.web.disks[0].size: unknown key \"size\"; did you mean \"size_gb\"?"),
        "{told}"
    );
}

#[test]
fn b1_a_disk_that_cannot_be_is_refused_at_its_key() {
    let mistakes = [
        ("mount_path = \"/d\"", "disks[0].name: is missing"),
        ("name = \"d\"", "disks[0].mount_path: is missing"),
        ("name = \"Da\"\nmount_path = \"/d\"", "disks[0].name: \"Da\" has 'D'"),
        ("name = \"d\"\nmount_path = \"d\"", "mount_path: \"d\" is not absolute"),
        (
            "name = \"d\"\nmount_path = \"//\"",
            "mount_path: is the root of the sandbox",
        ),
        (
            "name = \"d\"\nmount_path = \"/a/../proc\"",
            "mount_path: \"/a/../proc\" has \"..\" in it",
        ),
        ("name = \"d\"\nmount_path = \"/proc\"", "lies in /proc"),
        ("name = \"d\"\nmount_path = \"/sys/x\"", "lies in /sys"),
        ("name = \"d\"\nmount_path = \"//dev/x\"", "lies in /dev"),
        ("name = \"d\"\nmount_path = \"/a\\nb\"", "has '\\n'"),
        (
            "name = \"d\"\nmount_path = \"/d\"\nsize_gb = 0",
            "size_gb: is 0, outside 1 to 16384",
        ),
        (
            "name = \"d\"\nmount_path = \"/d\"\nfilesystem = \"zfs\"",
            "filesystem: \"zfs\" is not one of",
        ),
        (
            "name = \"d\"\nmount_path = \"/d\"\nprovider = \"nfs\"",
            "provider: \"nfs\" is not one of",
        ),
        (
            "name = \"d\"\nmount_path = \"/d\"\nlease_timeout = \"25h\"",
            "lease_timeout: \"25h\" is longer",
        ),
        (
            "name = \"d\"\nmount_path = \"/d\"\nprovider = \"directory\"\nsize_gb = 1",
            "size_gb: does not go with provider = \"directory\"",
        ),
    ];
    for (text, what) in mistakes {
        let told = told(&format!("[[services.web.disks]]\n{text}\n"));
        assert!(told.contains(what), "{what:?} is not said in {told}");
    }
}

fn disk(service: &str, name: &str, path: &str, more: &str) -> String {
    format!("[[services.{service}.disks]]\nname = \"{name}\"\nmount_path = \"{path}\"\n{more}\n")
}

#[test]
fn b1_one_name_and_one_place_belong_to_one_disk() {
    let twice = disk("web", "a", "/a", "") + &disk("web", "a", "/b", "");
    assert!(told(&twice).contains("disks[1].name: disk \"a\" is named a second time"));
    let there = disk("web", "a", "/a", "") + &disk("web", "b", "/a/", "");
    assert!(told(&there).contains("disks[1].mount_path: another disk is mounted at /a"));
    let many: String = (0..17)
        .map(|n| disk("web", &format!("d{n}"), &format!("/d{n}"), ""))
        .collect();
    assert!(told(&many).contains("disks: has 17 items, more than 16"));
}

#[test]
fn a_service_that_writes_a_disk_has_one_sandbox() {
    let data = disk("web", "data", "/data", "");
    assert_eq!(service(&data).concurrency, Concurrency::Fixed { count: 1 });
    let auto = format!("{data}[services.web.concurrency]\nmode = \"auto\"\n");
    assert!(matches!(
        service(&auto).concurrency,
        Concurrency::Auto { min: 0, max: 1, .. }
    ));
    let many = format!("{auto}max_instances = 2\n");
    assert!(told(&many).contains("concurrency.max_instances: is 2, but the service writes a disk"));
    let fixed = format!("{data}[services.web.concurrency]\nnum_instances = 2\n");
    assert!(told(&fixed).contains("concurrency.num_instances: is 2, but the service writes a disk"));
    let shared = disk("web", "seed", "/seed", "read_only = true");
    let shared = service(&format!("{shared}[services.web.concurrency]\nmax_instances = 9\n"));
    assert!(matches!(shared.concurrency, Concurrency::Auto { max: 9, .. }));
}

#[test]
fn a_disk_that_is_written_belongs_to_one_service() {
    let other = "[services.worker]\ncommand = \"y\"\n";
    let readers = disk("web", "d", "/d", "read_only = true") + other + &disk("worker", "d", "/d", "read_only = true");
    assert_eq!(service(&readers).disks.len(), 1);
    let mixed = disk("web", "d", "/d", "read_only = true") + other + &disk("worker", "d", "/d", "");
    let told = told(&mixed);
    assert!(
        told.contains("disk \"d\" is written by \"worker\", so \"web\" cannot have it too"),
        "{told}"
    );
}

#[test]
fn a_service_without_disks_is_written_as_before_there_were_any() {
    let text = serde_json::to_string(&service("")).expect("JSON");
    assert!(!text.contains("disks"), "{text}");
    let back: Service = serde_json::from_str(&text).expect("a record of an earlier release");
    assert!(back.disks.is_empty());
    let with = service(&disk("web", "data", "/data", "size_gb = 1"));
    let text = serde_json::to_string(&with).expect("JSON");
    assert_eq!(serde_json::from_str::<Service>(&text).expect("it is read back"), with);
}

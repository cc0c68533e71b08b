//! One disk is at one place, through one device, and leaves it only when nobody uses it.

use super::bench::*;
use crate::disk::AttachOptions;
use crate::disks::Disks;
use crate::error::DiskError;
use crate::limits::Limits;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

#[test]
fn a_disk_is_attached_at_one_place_only() {
    alone(|bench| {
        let disks = bench.open();
        let at = with_data(bench, &disks, &spec("db", 16));
        let again = disks.attach(&id("db"), &at, WRITABLE).expect("it is there");
        assert_eq!(disks.attached().expect("a list"), [again]);
        let refused = disks
            .attach(&id("db"), &bench.path("other"), WRITABLE)
            .expect_err("it is elsewhere");
        assert!(matches!(refused, DiskError::Busy { .. }), "{refused}");
        assert!(refused.to_string().contains("at-db"), "{refused}");
        let read_only = AttachOptions { read_only: true };
        assert!(matches!(
            disks.attach(&id("db"), &at, read_only),
            Err(DiskError::Busy { .. })
        ));
        disks.create(&spec("second", 16)).expect("created");
        assert!(matches!(
            disks.attach(&id("second"), &at, WRITABLE),
            Err(DiskError::Busy { .. })
        ));
        assert_eq!(bench.devices().len(), 1);
        disks.detach(&id("db")).expect("detached");
    });
}

#[test]
fn what_was_attached_before_a_restart_is_found() {
    alone(|bench| {
        let at = with_data(bench, &bench.open(), &spec("db", 16));
        let disks = bench.open();
        let found = disks.attached().expect("a list");
        assert_eq!((found.len(), &found[0].at), (1, &at));
        assert_eq!(disks.attach(&id("db"), &at, WRITABLE).expect("it is there"), found[0]);
        disks.detach(&id("db")).expect("detached");
    });
}

#[test]
fn a_device_that_was_left_is_used_again() {
    alone(|bench| {
        let disks = bench.open();
        let at = with_data(bench, &disks, &spec("db", 16));
        disks.detach(&id("db")).expect("detached");
        // Its name says nothing about which image it has.
        let other_name = bench.path("other-name");
        fs::hard_link(bench.image("db"), &other_name).expect("a link");
        let stale = losetup(&[], &other_name);
        assert!(matches!(disks.delete(&id("db")), Err(DiskError::Busy { .. })));
        let mounted = disks.attach(&id("db"), &at, WRITABLE).expect("attached");
        assert_eq!(
            (mounted.device.as_ref(), bench.devices()),
            (Some(&stale), vec![stale.clone()])
        );
        has_data(&at);
        disks.detach(&id("db")).expect("detached");
        assert!(bench.devices().is_empty(), "it was left once more");
        losetup(&[], &other_name);
        disks.detach(&id("db")).expect("freed without a mount");
        assert!(bench.devices().is_empty());
    });
}

#[test]
fn a_device_that_shows_something_else_is_refused() {
    alone(|bench| {
        let disks = bench.open();
        disks.create(&spec("db", 16)).expect("created");
        for odd in [&["--read-only"][..], &["--offset", "4096"]] {
            losetup(odd, &bench.image("db"));
            let refused = disks
                .attach(&id("db"), &bench.path("at"), WRITABLE)
                .expect_err("not the image");
            assert!(matches!(refused, DiskError::Busy { .. }), "{refused}");
            disks.detach(&id("db")).expect("freed");
        }
    });
}

fn losetup(options: &[&str], image: &Path) -> PathBuf {
    let mut losetup = Command::new("losetup");
    let made = losetup
        .args(options)
        .args(["--find", "--show"])
        .arg(image)
        .output()
        .expect("losetup");
    assert!(made.status.success(), "{made:?}");
    PathBuf::from(String::from_utf8_lossy(&made.stdout).trim())
}

fn impatient(bench: &Bench) -> Disks {
    bench.open_limited(Default::default(), |limits| limits.unmount = Duration::from_millis(100))
}

#[test]
fn a_disk_in_use_stays_and_its_user_is_named() {
    alone(|bench| {
        let disks = impatient(bench);
        let at = with_data(bench, &disks, &spec("db", 16));
        let open = File::open(at.join("data")).expect("a file");
        let refused = disks.detach(&id("db")).expect_err("it is in use");
        let me = std::process::id().to_string();
        match &refused {
            DiskError::Busy { holders, .. } => assert!(holders.iter().any(|holder| holder.starts_with(&me))),
            other => panic!("{other}"),
        }
        has_data(&at);
        drop(open);
        drop(disks);
        bench.open().detach(&id("db")).expect("detached");
    });
}

struct Kept(Child);

impl Drop for Kept {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_mount_in_another_namespace_keeps_the_disk() {
    alone(|bench| {
        let disks = impatient(bench);
        let at = with_data(bench, &disks, &spec("db", 16));
        let here = fs::read_link("/proc/thread-self/ns/mnt").expect("a namespace");
        let other = Command::new("unshare").args(["-m", "sleep", "600"]).spawn();
        let other = Kept(other.expect("unshare"));
        let pid = other.0.id();
        let theirs = format!("/proc/{pid}/ns/mnt");
        until("the namespace is there", || {
            fs::read_link(&theirs).is_ok_and(|theirs| theirs != here)
        });
        let in_use = |result: Result<(), DiskError>| match result {
            Err(DiskError::Busy { what, holders }) => {
                assert!(
                    holders.iter().any(|holder| holder.starts_with(&pid.to_string())),
                    "{what}: {holders:?}"
                );
            }
            other => panic!("{other:?}"),
        };
        in_use(disks.detach(&id("db")));
        in_use(disks.attach(&id("db"), &at, WRITABLE).map(drop));
        in_use(disks.snapshot(&id("db"), &id("copy")).map(drop));
        assert!(matches!(disks.delete(&id("db")), Err(DiskError::Busy { .. })));
        drop(other);
        drop(disks);
        let disks = bench.open();
        disks.detach(&id("db")).expect("detached");
        disks.attach(&id("db"), &at, WRITABLE).expect("attached");
        has_data(&at);
        disks.detach(&id("db")).expect("detached");
    });
}

#[test]
fn calls_on_many_disks_at_once_do_not_meet() {
    alone(|bench| {
        let disks = bench.open();
        std::thread::scope(|scope| {
            for number in 0..4 {
                let (disks, name) = (&disks, format!("db-{}", number % 3));
                scope.spawn(move || {
                    let spec = spec(&name, 16);
                    disks.create(&spec).expect("created");
                    disks.attach(&spec.id, &bench.path(&name), WRITABLE).expect("attached");
                });
            }
        });
        assert_eq!((bench.devices().len(), disks.attached().expect("a list").len()), (3, 3));
        for number in 0..3 {
            disks.detach(&id(&format!("db-{number}"))).expect("detached");
        }
    });
}

#[test]
fn a_folder_of_disks_has_one_process() {
    alone(|bench| {
        let _disks = bench.open();
        let second = Disks::open(&bench.path("disks"), Limits::default());
        assert!(matches!(second.err(), Some(DiskError::Busy { .. })));
    });
}

//! A crash after any step leaves every disk whole, or not there, and the same call again gets where it would have.

use super::bench::*;
use crate::disks::Disks;
use crate::error::DiskError;
use crate::step::Steps;
use nix::mount::{MntFlags, umount2};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc;

/// How many steps an operation has, and which.
fn steps(bench: &Bench, operation: impl FnOnce(&Disks)) -> Vec<&'static str> {
    let (noting, seen) = noting();
    operation(&bench.open_with(noting));
    let seen = seen.lock().expect("steps").clone();
    assert!(seen.len() > 2, "{seen:?}");
    seen
}

/// As after power is lost: nothing is mounted, and no device is left.
fn reboot(bench: &Bench, at: &Path) {
    let _ = umount2(at, MntFlags::UMOUNT_NOFOLLOW);
    until("the devices are free", || bench.devices().is_empty());
}

fn crash(bench: &Bench, after: usize, operation: impl FnOnce(&Disks)) {
    let disks = bench.open_with(crashing(after));
    assert!(crashes(|| operation(&disks)), "step {after} was not reached");
}

#[test]
fn b9_create_can_be_tried_again_after_any_step() {
    each_in_memory(|bench, kind| {
        let create = |disks: &Disks| drop(disks.create(&kind.spec("db", 16)).expect("created"));
        let all = steps(bench, create);
        bench.open().delete(&id("db")).expect("deleted");
        for (index, step) in all.iter().enumerate() {
            crash(bench, index + 1, create);
            let disks = bench.open();
            let there = disks.get(&id("db")).ok();
            assert_eq!(there.is_some(), step.starts_with("name"), "{step}");
            assert_eq!(
                bench.names().len(),
                usize::from(there.is_some()),
                "{step}: {:?}",
                bench.names()
            );
            let disk = disks.create(&kind.spec("db", 16)).expect("created");
            assert!(there.is_none_or(|there| there == disk), "{step}: made anew");
            let at = with_data(bench, &disks, &kind.spec("db", 16));
            has_data(&at);
            disks.detach(&id("db")).expect("detached");
            disks.delete(&id("db")).expect("deleted");
        }
    });
}

#[test]
fn delete_leaves_nothing_that_looks_whole() {
    in_memory(|bench| {
        bench.open().create(&spec("db", 16)).expect("created");
        let delete = |disks: &Disks| disks.delete(&id("db")).expect("deleted");
        for (index, step) in steps(bench, delete).iter().enumerate() {
            bench.open().create(&spec("db", 16)).expect("created");
            crash(bench, index + 1, delete);
            let disks = bench.open();
            assert!(
                matches!(disks.get(&id("db")), Err(DiskError::NotFound { .. })),
                "{step}"
            );
            assert!(bench.names().is_empty(), "{step}: {:?}", bench.names());
        }
    });
}

#[test]
fn a_mounted_disk_grows_after_a_crash_at_any_step() {
    // Without the capability for it no step is taken: see `a_mounted_disk_grows_at_once`.
    each_in_memory(|bench, kind| {
        if kind.0.grows_mounted() {
            grows(bench, kind, true);
        }
    });
}

#[test]
fn a_detached_disk_grows_after_a_crash_at_any_step() {
    each_in_memory(|bench, kind| grows(bench, kind, false));
}

fn grows(bench: &Bench, kind: Kind, mounted: bool) {
    let grow = |disks: &Disks| {
        disks.grow(&id("db"), kind.bytes(48)).expect("grown");
        // A detached one finishes here.
        disks
            .attach(&id("db"), &bench.path("at-db"), WRITABLE)
            .expect("attached");
    };
    let prepare = || {
        let disks = bench.open();
        with_data(bench, &disks, &kind.spec("db", 16));
        if !mounted {
            disks.detach(&id("db")).expect("detached");
        }
    };
    let remove = || {
        let disks = bench.open();
        disks.detach(&id("db")).expect("detached");
        disks.delete(&id("db")).expect("deleted");
    };
    prepare();
    let small = bench.open().get(&id("db")).expect("a disk").kept;
    let all = steps(bench, grow);
    let disks = bench.open();
    let grown = disks.usage(&id("db")).expect("usage").expect("attached").size;
    assert_ne!(disks.get(&id("db")).expect("a disk").kept, small);
    drop(disks);
    remove();
    for (index, step) in all.iter().enumerate() {
        for power_lost in [false, true] {
            prepare();
            crash(bench, index + 1, grow);
            let at = bench.path("at-db");
            if power_lost {
                reboot(bench, &at);
            }
            let disks = bench.open();
            disks.attach(&id("db"), &at, WRITABLE).expect("attached");
            has_data(&at);
            if !mounted {
                disks.detach(&id("db")).expect("detached");
            }
            let disk = disks.grow(&id("db"), kind.bytes(48)).expect("grown");
            disks.attach(&id("db"), &at, WRITABLE).expect("attached");
            assert_eq!(disks.get(&id("db")).expect("a disk"), disk);
            let size = disks.usage(&id("db")).expect("usage").expect("attached").size;
            assert_eq!(size, grown, "{step}");
            disks.detach(&id("db")).expect("detached");
            disks.attach(&id("db"), &at, WRITABLE).expect("attached");
            has_data(&at);
            drop(disks);
            remove();
        }
    }
}

#[test]
fn attach_can_be_tried_again_after_any_step() {
    each_in_memory(|bench, kind| {
        let at = with_data(bench, &bench.open(), &kind.spec("db", 16));
        bench.open().detach(&id("db")).expect("detached");
        let attach = |disks: &Disks| drop(disks.attach(&id("db"), &at, WRITABLE).expect("attached"));
        for (index, _) in steps(bench, attach).iter().enumerate() {
            bench.open().detach(&id("db")).expect("detached");
            crash(bench, index + 1, attach);
            attach(&bench.open());
            has_data(&at);
        }
        bench.open().detach(&id("db")).expect("detached");
    });
}

#[test]
fn a_snapshot_is_whole_or_not_there_and_its_disk_goes_on() {
    each_in_memory(|bench, kind| {
        let at = with_data(bench, &bench.open(), &kind.spec("db", 16));
        let snapshot = |disks: &Disks| drop(disks.snapshot(&id("db"), &id("copy")).expect("copied"));
        let all = steps(bench, snapshot);
        assert!(all.contains(&"frozen"));
        bench.open().delete(&id("copy")).expect("deleted");
        for (index, step) in all.iter().enumerate() {
            crash(bench, index + 1, snapshot);
            writes(&at);
            has_data(&at);
            let disks = bench.open();
            if !step.starts_with("name") {
                assert_eq!(bench.names(), ["db"], "{step}");
                snapshot(&disks);
            }
            let beside = bench.path("beside");
            disks.attach(&id("copy"), &beside, WRITABLE).expect("attached");
            has_data(&beside);
            disks.detach(&id("copy")).expect("detached");
            disks.delete(&id("copy")).expect("deleted");
        }
        bench.open().detach(&id("db")).expect("detached");
    });
}

#[test]
fn a_disk_that_was_left_frozen_is_thawed_at_the_next_start() {
    each_in_memory(|bench, kind| {
        let at = with_data(bench, &bench.open_with(Steps::default()), &kind.spec("db", 16));
        freeze(&at);
        let disks = bench.open();
        writes(&at);
        freeze(&at);
        disks.detach(&id("db")).expect("detached");
        assert!(bench.devices().is_empty());
    });
}

/// As a daemon does that is killed before it thaws.
fn freeze(at: &Path) {
    let frozen = Command::new("fsfreeze").arg("-f").arg(at).status();
    assert!(frozen.expect("fsfreeze").success());
}

/// That a file can be written: on a frozen file system the writer would wait for ever.
fn writes(at: &Path) {
    let (done, wait) = mpsc::channel();
    let path = at.join("written");
    std::thread::spawn(move || done.send(fs::write(path, "x")));
    wait.recv_timeout(SOON).expect("it is frozen").expect("written");
}

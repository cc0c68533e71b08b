//! A snapshot has what was on its disk at one moment, and is a disk of its own.

use super::bench::*;
use crate::error::DiskError;
use crate::step::Steps;
use std::fs::{self, File};
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

#[test]
fn a_snapshot_under_writes_has_a_prefix_of_them() {
    each(|bench, kind| {
        let disks = bench.open();
        let at = with_data(bench, &disks, &kind.spec("db", 32));
        let (stop, synced) = (AtomicBool::new(false), AtomicU64::new(0));
        let known = std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut file = File::create(at.join("log")).expect("a file");
                for number in 1_u64.. {
                    file.write_all(&number.to_le_bytes())
                        .and_then(|()| file.sync_data())
                        .expect("written");
                    synced.store(number, Ordering::SeqCst);
                    if stop.load(Ordering::SeqCst) {
                        break;
                    }
                }
            });
            until("records are written", || synced.load(Ordering::SeqCst) > 20);
            let known = synced.load(Ordering::SeqCst);
            let copied = disks.snapshot(&id("db"), &id("copy"));
            let after = synced.load(Ordering::SeqCst);
            until("the writer goes on", || synced.load(Ordering::SeqCst) > after + 5);
            stop.store(true, Ordering::SeqCst);
            copied.expect("copied");
            known
        });
        let beside = bench.path("beside");
        disks.attach(&id("copy"), &beside, WRITABLE).expect("attached");
        has_data(&beside);
        let log = fs::read(beside.join("log")).expect("the log");
        let whole = log
            .chunks_exact(8)
            .map(|record| u64::from_le_bytes(record.try_into().expect("8 bytes")));
        let count = (log.len() / 8) as u64;
        assert!(whole.eq(1..=count), "records are out of order");
        assert!(
            (known..=synced.load(Ordering::SeqCst)).contains(&count),
            "{count} of {known} or more"
        );
        for name in ["db", "copy"] {
            disks.detach(&id(name)).expect("detached");
        }
    });
}

/// Whether a thread of this process waits in the kernel for something that is no input.
fn waits(thread: libc::pid_t) -> bool {
    let stat = fs::read_to_string(format!("/proc/self/task/{thread}/stat")).unwrap_or_default();
    stat.contains(") D")
}

#[test]
fn nobody_writes_while_a_disk_is_copied() {
    each(|bench, kind| {
        let at = with_data(bench, &bench.open(), &kind.spec("db", 16));
        let (done, wait) = mpsc::channel();
        let (written, late) = (Mutex::new(Some(done)), at.join("late"));
        let writes_when_frozen = move |step| {
            if step == "frozen" {
                let (done, late) = (written.lock().expect("the channel").take(), late.clone());
                let (tell, told) = mpsc::channel();
                std::thread::spawn(move || {
                    // SAFETY: no arguments.
                    tell.send(unsafe { libc::gettid() }).expect("a listener");
                    done.expect("once").send(fs::write(late, "x"))
                });
                let writer = told.recv().expect("a thread");
                until("the write waits, or is done", || {
                    waits(writer) || at.join("late").exists()
                });
            }
            if step == "copied" {
                assert!(!at.join("late").exists(), "written while it was copied");
            }
        };
        let steps = Steps {
            hook: Some(Arc::new(writes_when_frozen)),
        };
        let disks = bench.open_with(steps);
        disks.snapshot(&id("db"), &id("copy")).expect("copied");
        wait.recv_timeout(SOON).expect("it is frozen").expect("written");
        let beside = bench.path("beside");
        disks.attach(&id("copy"), &beside, WRITABLE).expect("attached");
        has_data(&beside);
        assert!(!beside.join("late").exists());
        for name in ["db", "copy"] {
            disks.detach(&id(name)).expect("detached");
        }
    });
}

#[test]
fn a_snapshot_of_a_detached_disk_is_its_own_disk() {
    each(|bench, kind| {
        let disks = bench.open();
        let at = with_data(bench, &disks, &kind.spec("db", 16));
        disks.detach(&id("db")).expect("detached");
        let copy = disks.snapshot(&id("db"), &id("copy")).expect("copied");
        let origin = disks.get(&id("db")).expect("a disk");
        assert_eq!(
            (copy.id.app(), copy.kept, copy.uuid),
            (origin.id.app(), origin.kept, origin.uuid)
        );
        assert_eq!(disks.get(&id("copy")).expect("a disk"), copy);
        for to in ["copy", "db"] {
            let refused = disks.snapshot(&id("db"), &id(to)).expect_err("it is there");
            assert!(matches!(refused, DiskError::Exists { .. }), "{refused}");
        }
        disks.delete(&id("db")).expect("deleted");
        disks.attach(&id("copy"), &at, WRITABLE).expect("attached");
        has_data(&at);
        disks.detach(&id("copy")).expect("detached");
    });
}

#[test]
fn a_snapshot_that_takes_too_long_lets_its_disk_go_on() {
    each(|bench, kind| {
        let disks = bench.open_limited(Default::default(), |limits| limits.frozen = Duration::ZERO);
        let at = with_data(bench, &disks, &kind.spec("db", 16));
        match disks.snapshot(&id("db"), &id("copy")) {
            // The machine's file system shares blocks: that takes no time.
            Ok(_) => disks.delete(&id("copy")).expect("deleted"),
            Err(error) => assert!(matches!(error, DiskError::Failed { .. }), "{error}"),
        }
        fs::write(at.join("more"), "x").expect("written");
        assert_eq!(bench.names(), ["db"]);
        disks.detach(&id("db")).expect("detached");
    });
}

//! A disk becomes larger with its data on it, at once or when it is next attached.

use super::bench::*;
use crate::disk::AttachOptions;
use crate::disks::Disks;
use crate::error::DiskError;
use miren_api::settings::Bytes;
use std::fs::{self, File};
use std::io::Write;

fn size_of(disks: &Disks) -> u64 {
    disks.usage(&id("db")).expect("usage").expect("attached").size.0
}

/// By 32 MiB, of which the file system may take some for itself.
fn grew(before: u64, disks: &Disks) {
    let after = size_of(disks);
    assert!(after >= before + 28 * MIB, "from {before} to {after}");
}

#[test]
fn a_mounted_disk_grows_at_once() {
    each(|bench, kind| {
        let disks = bench.open();
        let at = with_data(bench, &disks, &kind.spec("db", 16));
        if !kind.0.grows_mounted() {
            return refuses_until_detached(bench, &disks, kind);
        }
        let before = size_of(&disks);
        let mut open = File::create(at.join("open")).expect("a file");
        let disk = disks.grow(&id("db"), Bytes(kind.bytes(48).0 - 5)).expect("grown");
        assert_eq!(disk.kept, kind.spec("db", 48).kept);
        grew(before, &disks);
        let more = vec![7; 24 << 20];
        open.write_all(&more)
            .and_then(|()| open.sync_all())
            .expect("there is room");
        has_data(&at);
        drop(open);
        disks.detach(&id("db")).expect("detached");
        disks.attach(&id("db"), &at, WRITABLE).expect("attached");
        assert!(fs::read(at.join("open")).expect("a file") == more);
        assert_eq!(disks.get(&id("db")).expect("a disk"), disk);
        let refused = disks.grow(&id("db"), kind.bytes(47)).expect_err("smaller");
        assert!(matches!(refused, DiskError::Invalid { .. }), "{refused}");
        disks.detach(&id("db")).expect("detached");
    });
}

fn refuses_until_detached(bench: &Bench, disks: &Disks, kind: Kind) {
    let before = disks.get(&id("db")).expect("a disk");
    let refused = disks.grow(&id("db"), kind.bytes(48)).expect_err("it is mounted");
    assert!(matches!(refused, DiskError::Unsupported { .. }), "{refused}");
    assert_eq!(disks.get(&id("db")).expect("a disk"), before);
    assert_eq!(
        fs::metadata(bench.image("db")).expect("the image").len(),
        kind.bytes(16).0
    );
    disks.detach(&id("db")).expect("detached");
}

#[test]
fn a_disk_that_is_not_written_to_grows_when_it_is_next_attached() {
    each(|bench, kind| {
        let disks = bench.open();
        let at = with_data(bench, &disks, &kind.spec("db", 16));
        disks.detach(&id("db")).expect("detached");
        disks.grow(&id("db"), kind.bytes(32)).expect("grown");
        disks
            .attach(&id("db"), &at, AttachOptions { read_only: true })
            .expect("attached");
        let before = size_of(&disks);
        disks.grow(&id("db"), kind.bytes(48)).expect("grown");
        assert_eq!(size_of(&disks), before);
        disks.detach(&id("db")).expect("detached");
        disks.attach(&id("db"), &at, WRITABLE).expect("attached");
        grew(before, &disks);
        has_data(&at);
        disks.detach(&id("db")).expect("detached");
    });
}

//! A disk becomes larger with its data on it, at once or when it is next attached.

use super::bench::*;
use crate::disk::{AttachOptions, Filesystem, Provider};
use crate::disks::Disks;
use crate::error::DiskError;
use miren_api::settings::Bytes;
use std::fs::{self, File};
use std::io::Write;

fn size_of(disks: &Disks) -> u64 {
    disks.usage(&id("db")).expect("usage").expect("attached").size.0
}

#[test]
fn a_mounted_disk_grows_at_once() {
    alone(|bench| {
        let disks = bench.open();
        let at = with_data(bench, &disks, &spec("db", 16));
        if !Filesystem::Ext4.grows_mounted() {
            return refuses_until_detached(bench, &disks);
        }
        let mut open = File::create(at.join("open")).expect("a file");
        let disk = disks.grow(&id("db"), Bytes(48 * MIB - 5)).expect("grown");
        assert!(matches!(disk.kept, Provider::Loop { size: Bytes(size), .. } if size == 48 * MIB));
        assert!(size_of(&disks) > 40 * MIB, "{}", size_of(&disks));
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
        let refused = disks.grow(&id("db"), Bytes(47 * MIB)).expect_err("smaller");
        assert!(matches!(refused, DiskError::Invalid { .. }), "{refused}");
        disks.detach(&id("db")).expect("detached");
    });
}

fn refuses_until_detached(bench: &Bench, disks: &Disks) {
    let before = disks.get(&id("db")).expect("a disk");
    let refused = disks.grow(&id("db"), Bytes(48 * MIB)).expect_err("it is mounted");
    assert!(matches!(refused, DiskError::Unsupported { .. }), "{refused}");
    assert_eq!(disks.get(&id("db")).expect("a disk"), before);
    assert_eq!(fs::metadata(bench.image("db")).expect("the image").len(), 16 * MIB);
    disks.detach(&id("db")).expect("detached");
}

#[test]
fn a_disk_that_is_not_written_to_grows_when_it_is_next_attached() {
    alone(|bench| {
        let disks = bench.open();
        let at = with_data(bench, &disks, &spec("db", 16));
        disks.detach(&id("db")).expect("detached");
        disks.grow(&id("db"), Bytes(32 * MIB)).expect("grown");
        disks
            .attach(&id("db"), &at, AttachOptions { read_only: true })
            .expect("attached");
        assert!(size_of(&disks) < 16 * MIB);
        disks.grow(&id("db"), Bytes(48 * MIB)).expect("grown");
        assert!(size_of(&disks) < 16 * MIB);
        disks.detach(&id("db")).expect("detached");
        disks.attach(&id("db"), &at, WRITABLE).expect("attached");
        assert!(size_of(&disks) > 40 * MIB, "{}", size_of(&disks));
        has_data(&at);
        disks.detach(&id("db")).expect("detached");
    });
}

//! What each file system keeps through a loss of power, and what is said of one that is damaged.

use super::bench::*;
use crate::disk::Filesystem;
use crate::error::DiskError;
use nix::sys::statvfs::{FsFlags, statvfs};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;

#[test]
fn what_was_synced_is_there_after_power_was_lost() {
    each(|bench, kind| {
        let disks = bench.open();
        let at = with_data(bench, &disks, &kind.spec("db", 32));
        let mut log = File::create(at.join("log")).expect("a file");
        for number in 0..200_u32 {
            log.write_all(&number.to_le_bytes())
                .and_then(|()| log.sync_data())
                .expect("written");
        }
        File::open(&at).and_then(|folder| folder.sync_all()).expect("synced");
        fs::write(at.join("unsynced"), "x").expect("written");
        // What is in the image at this moment, and in no memory, is what power would have left.
        let left = bench.path("left");
        fs::copy(bench.image("db"), &left).expect("a copy");
        drop(log);
        disks.detach(&id("db")).expect("detached");
        fs::copy(&left, bench.image("db")).expect("a copy");
        disks.attach(&id("db"), &at, WRITABLE).expect("attached");
        has_data(&at);
        let log = fs::read(at.join("log")).expect("the log");
        let expected: Vec<u8> = (0..200_u32).flat_map(u32::to_le_bytes).collect();
        assert!(log == expected, "{} bytes of {}", log.len(), expected.len());
        let flags = statvfs(&at).expect("facts").flags();
        assert!(!flags.contains(FsFlags::ST_RDONLY), "it was not repaired: {flags:?}");
        fs::write(at.join("more"), "x").expect("written");
        disks.detach(&id("db")).expect("detached");
    });
}

/// A byte of the superblock that only its checksum covers.
fn place_of_harm(filesystem: Filesystem) -> u64 {
    match filesystem {
        // In the name of the place where it was last mounted, and in the UUID of its log.
        Filesystem::Ext4 => 1024 + 0x88 + 60,
        Filesystem::Xfs => 108 + 11,
        // In its label.
        Filesystem::Btrfs => (64 << 10) + 0x12b + 200,
    }
}

fn change(image: &Path, at: u64) {
    let file = File::options().read(true).write(true).open(image).expect("the image");
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("a byte");
    file.write_all_at(&[byte[0] ^ 0x55], at).expect("written");
}

#[test]
fn b9_a_damaged_superblock_is_refused_and_everything_stays() {
    each(|bench, kind| {
        let disks = bench.open();
        let at = with_data(bench, &disks, &kind.spec("db", 32));
        disks.detach(&id("db")).expect("detached");
        let (image, place) = (bench.image("db"), place_of_harm(kind.0));
        change(&image, place);
        let before = content(&bench.folder("db"));
        let error = disks.attach(&id("db"), &at, WRITABLE).expect_err("it is damaged");
        assert!(matches!(error, DiskError::Damaged { .. }), "{error}");
        let said = match kind.0 {
            Filesystem::Ext4 => "e2fsck: exit code 8",
            Filesystem::Xfs | Filesystem::Btrfs => "cannot be mounted",
        };
        assert!(error.to_string().contains(said), "{error}");
        assert!(bench.devices().is_empty() && !at.join("data").exists());
        disks.create(&kind.spec("db", 32)).expect("it is there");
        assert_eq!(content(&bench.folder("db")), before);
        change(&image, place);
        disks.attach(&id("db"), &at, WRITABLE).expect("a person repaired it");
        has_data(&at);
        disks.detach(&id("db")).expect("detached");
    });
}

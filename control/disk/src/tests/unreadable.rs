//! What is there and cannot be read stays as it is: nothing is made anew, nothing is formatted.

use super::bench::*;
use crate::disk::{Disk, Filesystem};
use crate::disks::Disks;
use crate::error::DiskError;
use miren_api::settings::Bytes;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;
use std::process::Command;

type Harm = fn(&Path);

/// Ways to make a disk unreadable, given its folder.
const HARMS: &[(&str, Harm)] = &[
    ("no record", |dir| fs::remove_file(dir.join("disk.json")).unwrap()),
    ("half a record", |dir| {
        let text = fs::read(dir.join("disk.json")).unwrap();
        fs::write(dir.join("disk.json"), &text[..text.len() / 2]).unwrap();
    }),
    ("an empty record", |dir| fs::write(dir.join("disk.json"), "").unwrap()),
    ("a record without an app", |dir| {
        let text = fs::read_to_string(dir.join("disk.json")).unwrap();
        fs::write(dir.join("disk.json"), text.replace("\"app\"", "\"apple\"")).unwrap();
    }),
    ("the record of another disk", |dir| {
        let text = fs::read_to_string(dir.join("disk.json")).unwrap();
        fs::write(dir.join("disk.json"), text.replace("\"db\"", "\"db2\"")).unwrap();
    }),
    ("a record that is a folder", |dir| {
        fs::remove_file(dir.join("disk.json")).unwrap();
        fs::create_dir(dir.join("disk.json")).unwrap();
    }),
    ("a record that leads to itself", |dir| {
        fs::remove_file(dir.join("disk.json")).unwrap();
        symlink("disk.json", dir.join("disk.json")).unwrap();
    }),
    ("no image", |dir| fs::remove_file(dir.join("image")).unwrap()),
    ("half an image", |dir| image(dir).set_len(8 * MIB).unwrap()),
    ("an empty image", |dir| image(dir).set_len(0).unwrap()),
    ("an image that is elsewhere", |dir| {
        fs::rename(dir.join("image"), dir.join("moved")).unwrap();
        symlink("moved", dir.join("image")).unwrap();
    }),
    ("an image that is a folder", |dir| {
        fs::remove_file(dir.join("image")).unwrap();
        fs::create_dir(dir.join("image")).unwrap();
    }),
    ("a superblock of zeros", |dir| {
        image(dir).write_all_at(&[0; 1024], 1024).unwrap()
    }),
    ("another file system", |dir| {
        image(dir).write_all_at(&[9; 16], 1024 + 0x68).unwrap()
    }),
    ("nothing at all", |dir| {
        fs::remove_dir_all(dir).unwrap();
        fs::create_dir(dir).unwrap();
    }),
    ("a file instead of a folder", |dir| {
        fs::remove_dir_all(dir).unwrap();
        fs::write(dir, "x").unwrap();
    }),
];

fn image(dir: &Path) -> File {
    File::options().write(true).open(dir.join("image")).unwrap()
}

#[test]
fn b9_what_cannot_be_read_is_never_made_anew() {
    in_memory(|bench| {
        for (what, harm) in HARMS {
            let disks = bench.open();
            let dir = bench.folder("db");
            with_data(bench, &disks, &spec("db", 16));
            disks.detach(&id("db")).expect("detached");
            harm(&dir);
            let before = content(&dir);
            refuses(bench, &disks, what);
            drop(disks);
            let disks = bench.open();
            refuses(bench, &disks, what);
            assert_eq!(content(&dir), before, "{what}");
            assert!(bench.devices().is_empty(), "{what}");
            assert_eq!(bench.names(), ["db"], "{what}");
            let _ = fs::remove_dir_all(&dir).or_else(|_| fs::remove_file(&dir));
        }
    });
}

/// Each call says what cannot be read.
fn refuses(bench: &Bench, disks: &Disks, what: &str) {
    let at = bench.path("at");
    let attempts: [(&str, Result<(), DiskError>); 6] = [
        ("create", disks.create(&spec("db", 16)).map(drop)),
        ("get", disks.get(&id("db")).map(drop)),
        ("attach", disks.attach(&id("db"), &at, WRITABLE).map(drop)),
        ("grow", disks.grow(&id("db"), Bytes(64 * MIB)).map(drop)),
        ("snapshot", disks.snapshot(&id("db"), &id("copy")).map(drop)),
        ("usage", disks.usage(&id("db")).map(drop)),
    ];
    for (call, result) in attempts {
        match result {
            Err(error @ (DiskError::Damaged { .. } | DiskError::Io { .. })) => {
                assert!(error.to_string().contains("disks/shop.db"), "{what}, {call}: {error}");
            }
            other => panic!("{what}: {call} gave {other:?}"),
        }
    }
}

#[test]
fn b9_a_file_system_beyond_repair_is_damaged_and_stays() {
    alone(|bench| {
        let disks = bench.open();
        let at = with_data(bench, &disks, &spec("db", 16));
        disks.detach(&id("db")).expect("detached");
        let harms = [
            ("clri <2>", "cannot be mounted"),
            // Not unmounted cleanly: it is looked through before it is mounted.
            ("set_super_value state 0", "e2fsck: exit code 4"),
        ];
        for (harm, said) in harms {
            let mut debugfs = Command::new("debugfs");
            let done = debugfs.args(["-w", "-R", harm]).arg(bench.image("db")).output();
            assert!(done.expect("debugfs").status.success());
            let error = disks.attach(&id("db"), &at, WRITABLE).expect_err("it has no root");
            assert!(matches!(error, DiskError::Damaged { .. }), "{error}");
            assert!(error.to_string().contains(said), "{error}");
            disks.create(&spec("db", 16)).expect("it is there");
        }
        assert!(bench.devices().is_empty() && !at.join("data").exists());
        let repaired = Command::new("e2fsck").arg("-y").arg(bench.image("db")).output();
        assert_eq!(repaired.expect("e2fsck").status.code(), Some(1));
        disks.attach(&id("db"), &at, WRITABLE).expect("a person repaired it");
        let found = fs::read_dir(at.join("lost+found")).expect("a folder").flatten();
        let sizes: Vec<u64> = found.map(|entry| entry.metadata().expect("facts").len()).collect();
        assert!(sizes.contains(&(3 * MIB)), "the data is lost: {sizes:?}");
        disks.detach(&id("db")).expect("detached");
    });
}

#[test]
fn a_damaged_disk_can_be_deleted_and_hides_no_other() {
    alone(|bench| {
        let disks = bench.open();
        disks.create(&spec("db", 16)).expect("created");
        with_data(bench, &disks, &spec("other", 16));
        fs::remove_file(bench.folder("db").join("disk.json")).expect("removed");
        assert_eq!(disks.ids().expect("names"), [id("db"), id("other")]);
        assert_eq!(disks.attached().expect("a list").len(), 1);
        disks.delete(&id("db")).expect("deleted");
        disks.detach(&id("other")).expect("detached");
        assert_eq!(bench.names(), ["other"]);
    });
}

#[test]
fn the_record_has_these_fields() {
    let text = r#"{"app":"shop","name":"db","uuid":"0b0e1c2d-0000-4000-8000-000000000001",
        "created_at":"2026-01-02T03:04:05Z","kept":{"provider":"loop","size_bytes":8388608,"filesystem":"ext4"}}"#;
    let disk: Disk = serde_json::from_str(text).expect("a record");
    assert_eq!(
        disk.kept,
        crate::disk::Provider::Loop {
            size: Bytes(8 * MIB),
            filesystem: Filesystem::Ext4
        }
    );
    let again: Disk = serde_json::from_str(&serde_json::to_string(&disk).expect("text")).expect("a record");
    assert_eq!(again, disk);
}

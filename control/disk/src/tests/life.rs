//! The life of a disk from its making to its removal, with each file system.

use super::bench::*;
use crate::disk::{AttachOptions, DiskId, DiskSpec, Filesystem, Provider};
use crate::error::DiskError;
use crate::mounts;
use miren_api::AppName;
use miren_api::settings::Bytes;
use nix::mount::{MsFlags, mount};
use nix::sys::statvfs::statvfs;
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::MetadataExt;

#[test]
fn data_survives_until_the_disk_is_deleted() {
    each(|bench, kind| {
        let disks = bench.open();
        let at = with_data(bench, &disks, &kind.spec("db", 32));
        assert_eq!(disks.attached().expect("a list").len(), 1);
        let mount = mounts::all()
            .expect("mounts")
            .into_iter()
            .find(|mount| mount.point == at);
        let mount = mount.expect("it is mounted");
        assert!(mount.has_option("nodev") && mount.has_option("nosuid") && !mount.has_option("noexec"));
        disks.detach(&id("db")).expect("detached");
        disks.detach(&id("db")).expect("detached already");
        assert!(!at.join("data").exists() && bench.devices().is_empty());
        let elsewhere = bench.path("elsewhere");
        let read_only = AttachOptions { read_only: true };
        let mounted = disks.attach(&id("db"), &elsewhere, read_only).expect("attached");
        assert!(mounted.read_only && disks.attached().expect("a list") == [mounted]);
        has_data(&elsewhere);
        let refused = File::create(elsewhere.join("more")).expect_err("read-only");
        assert_eq!(refused.kind(), ErrorKind::ReadOnlyFilesystem);
        assert!(matches!(disks.delete(&id("db")), Err(DiskError::Busy { .. })));
        disks.detach(&id("db")).expect("detached");
        disks.delete(&id("db")).expect("deleted");
        assert!(matches!(disks.get(&id("db")), Err(DiskError::NotFound { .. })));
        assert!(matches!(disks.delete(&id("db")), Err(DiskError::NotFound { .. })));
        assert!(bench.names().is_empty());
    });
}

#[test]
fn a_disk_never_takes_more_of_the_machine_than_its_size() {
    each(|bench, kind| {
        let (disks, whole) = (bench.open(), kind.bytes(32).0);
        let at = with_data(bench, &disks, &kind.spec("db", 32));
        let before = fs::metadata(bench.image("db")).expect("the image");
        assert!(
            before.blocks() * 512 >= whole,
            "it is not reserved: {} blocks",
            before.blocks()
        );
        let mut file = File::create(at.join("more")).expect("a file");
        let piece = vec![7; 1 << 20];
        let error = (0..whole / MIB).find_map(|_| file.write_all(&piece).and_then(|()| file.sync_data()).err());
        assert_eq!(error.expect("so much does not fit").kind(), ErrorKind::StorageFull);
        drop(file);
        has_data(&at);
        let usage = disks.usage(&id("db")).expect("usage").expect("attached");
        // btrfs keeps parts of its room for what is written about files, and twice.
        let full = match kind.0 {
            Filesystem::Ext4 | Filesystem::Xfs => usage.size.0 * 9 / 10,
            Filesystem::Btrfs => usage.size.0 / 2,
        };
        assert!(usage.used.0 > full && usage.size.0 <= whole, "{usage:?}");
        fs::remove_file(at.join("more")).expect("removed");
        disks.detach(&id("db")).expect("detached");
        assert_eq!(disks.usage(&id("db")).expect("usage"), None);
        let after = fs::metadata(bench.image("db")).expect("the image");
        assert_eq!(after.len(), whole);
        // The machine's file system may need some blocks for itself to keep account of many pieces.
        let grown = after.blocks().abs_diff(before.blocks());
        assert!(grown <= 64, "from {} to {} blocks", before.blocks(), after.blocks());
    });
}

#[test]
fn one_that_exists_is_returned_as_it_is() {
    alone(|bench| {
        let disks = bench.open();
        let first = disks.create(&spec("db", 16)).expect("created");
        let before = content(&bench.folder("db"));
        assert_eq!(disks.create(&spec("db", 16)).expect("it is there"), first);
        assert_eq!(disks.create(&spec("db", 64)).expect("whatever its size"), first);
        let other = Provider::Loop {
            size: Bytes(300 * MIB),
            filesystem: Filesystem::Xfs,
        };
        for kept in [other, Provider::Directory] {
            let refused = disks
                .create(&DiskSpec { kept, ..spec("db", 16) })
                .expect_err("another kind");
            assert!(matches!(refused, DiskError::Exists { .. }), "{refused}");
        }
        assert_eq!(content(&bench.folder("db")), before);
    });
}

#[test]
fn b4_two_apps_may_each_have_a_disk_of_one_name() {
    alone(|bench| {
        let disks = bench.open();
        let at = with_data(bench, &disks, &spec("db", 16));
        let bank = DiskId::new(&AppName::from_text("bank"), "db").expect("a name");
        let other = DiskSpec {
            id: bank.clone(),
            ..spec("db", 16)
        };
        let made = disks.create(&other).expect("created");
        assert_eq!((made.id.app().as_str(), disks.ids().expect("ids").len()), ("bank", 2));
        let beside = bench.path("beside");
        disks.attach(&bank, &beside, WRITABLE).expect("attached");
        assert!(!beside.join("data").exists(), "it shows the other app's data");
        let refused = disks.snapshot(&id("db"), &DiskId::new(bank.app(), "copy").expect("a name"));
        assert!(matches!(refused, Err(DiskError::Invalid { .. })), "{refused:?}");
        disks.detach(&bank).expect("detached");
        disks.delete(&bank).expect("deleted");
        has_data(&at);
        disks.detach(&id("db")).expect("detached");
    });
}

#[test]
fn b7_a_disk_whose_record_names_another_app_is_refused() {
    alone(|bench| {
        let disks = bench.open();
        disks.create(&spec("db", 16)).expect("created");
        fs::rename(bench.folder("db"), bench.path("disks/bank.db")).expect("renamed");
        let bank = DiskId::new(&AppName::from_text("bank"), "db").expect("a name");
        let refused = disks.get(&bank).expect_err("it is shop's");
        assert!(refused.to_string().contains("is that of disk shop.db"), "{refused}");
        let made = disks.create(&DiskSpec {
            id: bank,
            ..spec("db", 16)
        });
        assert!(matches!(made, Err(DiskError::Damaged { .. })), "{made:?}");
    });
}

#[test]
fn a_machine_without_room_says_so_and_keeps_nothing() {
    alone(|bench| {
        let root = bench.path("disks");
        fs::create_dir(&root).expect("a folder");
        let options = Some("size=48m");
        mount(Some("none"), &root, Some("tmpfs"), MsFlags::empty(), options).expect("a small machine");
        let disks = bench.open();
        let at = with_data(bench, &disks, &spec("db", 24));
        let free = || statvfs(&root).expect("facts").blocks_free();
        let before = free();
        let refused = disks.create(&spec("second", 32)).expect_err("no room");
        assert!(matches!(refused, DiskError::NoSpace { .. }), "{refused}");
        disks.detach(&id("db")).expect("detached");
        let refused = disks.grow(&id("db"), Bytes(64 * MIB)).expect_err("no room");
        assert!(matches!(refused, DiskError::NoSpace { .. }), "{refused}");
        let refused = disks.create(&spec("third", 1 << 43)).expect_err("no file is so large");
        assert!(matches!(refused, DiskError::Invalid { .. }), "{refused}");
        assert_eq!((bench.names(), free()), (vec!["db".to_owned()], before));
        disks.attach(&id("db"), &at, WRITABLE).expect("attached");
        has_data(&at);
        assert_eq!(fs::metadata(bench.image("db")).expect("the image").len(), 24 * MIB);
        disks.detach(&id("db")).expect("detached");
    });
}

#[test]
fn xfs_lives_where_its_programs_are() {
    alone(|bench| whole_life(bench, Filesystem::Xfs, "xfsprogs", 300));
}

#[test]
fn btrfs_lives_where_its_programs_are() {
    alone(|bench| whole_life(bench, Filesystem::Btrfs, "btrfs-progs", 256));
}

fn whole_life(bench: &Bench, filesystem: Filesystem, package: &str, mib: u64) {
    let kept = |size| Provider::Loop {
        size: Bytes(size),
        filesystem,
    };
    let disks = bench.open();
    let spec = DiskSpec {
        kept: kept(mib * MIB),
        ..spec("db", mib)
    };
    if filesystem.maker().find().is_err() {
        let refused = disks.create(&spec).expect_err("nothing makes it");
        assert!(matches!(refused, DiskError::MissingProgram { .. }));
        assert!(refused.to_string().contains(package), "{refused}");
        assert!(bench.names().is_empty());
        return;
    }
    let small = DiskSpec {
        kept: kept(mib * MIB - 1),
        ..spec.clone()
    };
    assert!(matches!(disks.create(&small), Err(DiskError::Invalid { .. })));
    let at = with_data(bench, &disks, &spec);
    let before = disks.usage(&id("db")).expect("usage").expect("attached").size.0;
    disks.grow(&id("db"), Bytes((mib + 64) * MIB)).expect("grown");
    let after = disks.usage(&id("db")).expect("usage").expect("attached").size.0;
    assert!(after >= before + 32 * MIB, "from {before} to {after}");
    disks.snapshot(&id("db"), &id("copy")).expect("copied");
    let beside = bench.path("beside");
    disks
        .attach(&id("copy"), &beside, WRITABLE)
        .expect("the copy beside its origin");
    has_data(&beside);
    fs::write(beside.join("data"), "changed").expect("written");
    has_data(&at);
    disks.detach(&id("db")).expect("detached");
    let blocks = fs::metadata(bench.image("db")).expect("the image").blocks();
    assert!(blocks * 512 >= mib * MIB, "it is not reserved: {blocks} blocks");
    disks.attach(&id("db"), &at, WRITABLE).expect("attached");
    has_data(&at);
    for name in ["db", "copy"] {
        disks.detach(&id(name)).expect("detached");
        disks.delete(&id(name)).expect("deleted");
    }
}

#[test]
fn what_cannot_be_a_disk_is_refused() {
    for name in ["", "..", "a/b", ".new-x", "DB", "a_b"] {
        let shop = AppName::from_text("shop");
        assert!(DiskId::new(&shop, name).is_err(), "{name}");
        assert!(DiskId::new(&AppName::from_text(name), "db").is_err(), "{name}");
        let record = serde_json::json!({ "app": "shop", "name": name });
        assert!(serde_json::from_value::<DiskId>(record).is_err(), "{name}");
    }
    alone(|bench| {
        let too_small = [
            (Filesystem::Ext4, "7MiB is too small for ext4: it takes 8MiB or more"),
            (Filesystem::Xfs, "299MiB is too small for xfs: it takes 300MiB or more"),
            (
                Filesystem::Btrfs,
                "255MiB is too small for btrfs: it takes 256MiB or more",
            ),
        ];
        for (filesystem, told) in too_small {
            let refused = bench
                .open()
                .create(&Kind(filesystem).spec("db", 7))
                .expect_err("too small");
            assert_eq!(refused.to_string(), told);
            assert!(bench.names().is_empty());
        }
    });
}

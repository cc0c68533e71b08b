//! A disk that is a folder: the same calls, without a size.

use super::bench::*;
use crate::disk::{AttachOptions, DiskSpec, Provider};
use crate::error::DiskError;
use crate::mounts;
use miren_api::settings::Bytes;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::time::Duration;

fn folder(name: &str) -> DiskSpec {
    DiskSpec {
        kept: Provider::Directory,
        ..spec(name, 0)
    }
}

#[test]
fn a_folder_is_attached_detached_and_deleted() {
    alone(|bench| {
        let disks = bench.open();
        let at = with_data(bench, &disks, &folder("db"));
        assert_eq!(
            disks.attach(&id("db"), &at, WRITABLE).expect("it is there").device,
            None
        );
        assert!(matches!(
            disks.attach(&id("db"), &bench.path("b"), WRITABLE),
            Err(DiskError::Busy { .. })
        ));
        assert!(matches!(disks.delete(&id("db")), Err(DiskError::Busy { .. })));
        let mount = mounts::all()
            .expect("mounts")
            .into_iter()
            .find(|mount| mount.point == at);
        let mount = mount.expect("it is mounted");
        assert!(mount.has_option("nodev") && mount.has_option("nosuid"));
        drop(disks);
        let disks = bench.open();
        assert_eq!(disks.attached().expect("a list").len(), 1);
        disks.detach(&id("db")).expect("detached");
        disks.detach(&id("db")).expect("detached already");
        disks
            .attach(&id("db"), &bench.path("b"), AttachOptions { read_only: true })
            .expect("attached");
        has_data(&bench.path("b"));
        let refused = File::create(bench.path("b/more")).expect_err("read-only");
        assert_eq!(refused.kind(), ErrorKind::ReadOnlyFilesystem);
        disks.detach(&id("db")).expect("detached");
        disks.delete(&id("db")).expect("deleted");
        assert!(bench.names().is_empty());
    });
}

#[test]
fn a_folder_has_no_size() {
    alone(|bench| {
        let disks = bench.open();
        disks.create(&folder("db")).expect("created");
        let attempts = [
            disks.grow(&id("db"), Bytes(MIB)).map(drop),
            disks.snapshot(&id("db"), &id("copy")).map(drop),
            disks.usage(&id("db")).map(drop),
        ];
        for result in attempts {
            assert!(matches!(result, Err(DiskError::Unsupported { .. })), "{result:?}");
        }
        assert!(matches!(disks.create(&spec("db", 16)), Err(DiskError::Exists { .. })));
    });
}

#[test]
fn b9_a_folder_that_is_gone_is_not_made_anew() {
    alone(|bench| {
        let disks = bench.open();
        disks.create(&folder("db")).expect("created");
        fs::remove_dir(bench.folder("db").join("data")).expect("removed");
        for result in [
            disks.create(&folder("db")).map(drop),
            disks.attach(&id("db"), &bench.path("at"), WRITABLE).map(drop),
        ] {
            assert!(matches!(result, Err(DiskError::Damaged { .. })), "{result:?}");
        }
        assert!(!bench.folder("db").join("data").exists());
    });
}

#[test]
fn a_folder_in_use_stays_and_its_user_is_named() {
    alone(|bench| {
        let disks = bench.open_limited(Default::default(), |limits| limits.unmount = Duration::from_millis(100));
        let at = with_data(bench, &disks, &folder("db"));
        let open = File::open(at.join("data")).expect("a file");
        match disks.detach(&id("db")).expect_err("it is in use") {
            DiskError::Busy { holders, .. } => assert!(!holders.is_empty()),
            other => panic!("{other}"),
        }
        drop(open);
        drop(disks);
        bench.open().detach(&id("db")).expect("detached");
    });
}

#[test]
fn nothing_is_removed_through_a_mount() {
    alone(|bench| {
        let disks = bench.open();
        disks.create(&folder("db")).expect("created");
        let other = with_data(bench, &disks, &folder("other"));
        let inner = bench.folder("db").join("data/inner");
        disks.detach(&id("other")).expect("detached");
        disks.attach(&id("other"), &inner, WRITABLE).expect("attached");
        assert!(matches!(disks.delete(&id("db")), Err(DiskError::Busy { .. })));
        has_data(&inner);
        assert_eq!(disks.ids().expect("names"), [id("db"), id("other")]);
        disks.detach(&id("other")).expect("detached");
        disks.delete(&id("db")).expect("deleted");
        disks.attach(&id("other"), &other, WRITABLE).expect("attached");
        has_data(&other);
        disks.detach(&id("other")).expect("detached");
    });
}

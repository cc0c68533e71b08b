//! A disk that others fill: the store goes on in its reserve, also when control starts on it, and has one again afterwards.

use miren_control::reserve::{OF_DATA, Reserve};
use miren_control::store::{Content, Expect, Key, Kind, Selection, Sqlite, Store, StoreError, Write};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use std::fs::File;
use std::io::Write as _;
use std::path::Path;

const DISK: u64 = 64 << 20;

/// Runs a test on a small disk of its own, which nobody else sees and which ends with its thread.
fn on_a_small_disk<F: Future<Output = ()>>(test: impl FnOnce(std::path::PathBuf) -> F + Send) {
    let place = tempfile::tempdir().unwrap();
    std::thread::scope(|threads| {
        let of_its_own = threads.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace (run the tests as root)");
            let none: Option<&str> = None;
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
            let size = format!("size={DISK}");
            mount(
                Some("tmpfs"),
                place.path(),
                Some("tmpfs"),
                MsFlags::empty(),
                Some(size.as_str()),
            )
            .unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(test(place.path().to_owned()));
        });
        of_its_own.join().unwrap();
    });
}

/// Takes all the room there is.
fn fill(folder: &Path) -> std::path::PathBuf {
    let path = folder.join("of-others");
    let mut file = File::create(&path).unwrap();
    for size in [1 << 20, 4096, 1] {
        while file.write_all(&vec![7; size]).is_ok() {}
    }
    path
}

async fn put(store: &Sqlite, id: usize) -> Result<u64, StoreError> {
    let content = Content {
        body: format!("{{\"text\":\"{}\"}}", "x".repeat(1000)),
        indexes: Vec::new(),
    };
    let write = Write {
        key: Key::new(Kind::Sandbox, format!("sb-{id}")),
        expect: Expect::Absent,
        content: Some(content),
    };
    store.commit(vec![write]).await
}

#[test]
fn f9_a_full_disk_leaves_the_store_its_reserve() {
    on_a_small_disk(async |folder| {
        let reserve = Reserve::keep(&folder, OF_DATA);
        assert_eq!(reserve.kept(), OF_DATA);
        let file = folder.join("control.db");
        let store = Sqlite::open_with_reserve(&file, reserve.clone()).await.unwrap();
        put(&store, 0).await.unwrap();
        let filled = fill(&folder);
        // More than the log that is written before a checkpoint.
        for id in 1..=300 {
            put(&store, id)
                .await
                .unwrap_or_else(|error| panic!("write {id}: {error}"));
        }
        assert_eq!(reserve.kept(), 0, "it was given up");
        let kept = store.list(Kind::Sandbox, Selection::All).await.unwrap();
        assert_eq!(kept.len(), 301);
        reserve.make();
        assert_eq!(reserve.kept(), 0, "there is no room for it");
        std::fs::remove_file(filled).unwrap();
        reserve.make();
        assert_eq!(reserve.kept(), OF_DATA);
    });
}

#[test]
fn f9_control_starts_on_a_disk_that_is_full() {
    on_a_small_disk(async |folder| {
        let file = folder.join("control.db");
        let reserve = Reserve::keep(&folder, OF_DATA);
        let store = Sqlite::open_with_reserve(&file, reserve.clone()).await.unwrap();
        put(&store, 0).await.unwrap();
        drop((store, reserve));
        fill(&folder);
        let reserve = Reserve::keep(&folder, OF_DATA);
        assert_eq!(reserve.kept(), OF_DATA, "the one there was");
        let store = Sqlite::open_with_reserve(&file, reserve.clone()).await.unwrap();
        assert_eq!(store.epoch(), 2);
        put(&store, 1).await.unwrap();
    });
}

#[test]
fn f9_a_disk_that_is_full_and_has_no_reserve_fails_the_write_and_nothing_else() {
    on_a_small_disk(async |folder| {
        let store = Sqlite::open(&folder.join("control.db")).await.unwrap();
        put(&store, 0).await.unwrap();
        let filled = fill(&folder);
        let mut id = 1;
        while put(&store, id).await.is_ok() {
            id += 1;
        }
        let refused = put(&store, id).await.unwrap_err();
        assert!(!refused.is_final(), "{refused}");
        std::fs::remove_file(filled).unwrap();
        put(&store, id).await.unwrap();
    });
}

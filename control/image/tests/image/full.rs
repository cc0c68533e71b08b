//! Decides whether a full disk is named as such, and leaves nothing half written.

use super::build::{Built, file, tar};
use super::overlay::privately;
use super::registry::Registry;
use super::store::{Store, kind, near};
use miren_image::{Images, Limits};
use nix::mount::{MsFlags, mount};

#[test]
fn a_full_disk_ends_a_pull_and_leaves_room() {
    // The mount is seen by this thread and those it starts, which are all there are in this runtime.
    let thread = std::thread::spawn(|| {
        privately();
        let folder = tempfile::tempdir().unwrap();
        mount(
            Some("tmpfs"),
            folder.path(),
            Some("tmpfs"),
            MsFlags::empty(),
            Some("size=2m"),
        )
        .unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(pull(folder));
    });
    thread.join().unwrap();
}

async fn pull(folder: tempfile::TempDir) {
    let images = Images::open(&folder.path().join("images"), near(Limits::default())).unwrap();
    let store = Store { images, folder };
    let registry = Registry::start().await;
    // Compressed it fits, unpacked it does not.
    let large = Built::new(&[tar(&[file("f", &"x".repeat(4 << 20))])]);
    let error = store.pull(&registry.add("large", &large)).await.unwrap_err();
    assert_eq!(kind(&error), "no space", "{error}");
    store.settled().await;
    let small = Built::new(&[tar(&[file("f", &"x".repeat(1 << 20))])]);
    store.pull(&registry.add("small", &small)).await.unwrap();
    nix::mount::umount2(store.folder.path(), nix::mount::MntFlags::MNT_DETACH).unwrap();
}

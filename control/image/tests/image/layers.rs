//! Decides what of an entry reaches the disk: owner, permissions, times, attributes, links.

use super::build::{Built, Item, file, folder, hard_link, link, special, tar};
use super::registry::Registry;
use super::store::{Store, store};
use miren_image::ImageError;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::PathBuf;
use tar::EntryType;

/// The folder of a layer with these entries.
pub async fn unpacked(store: &Store, items: &[Item]) -> Result<PathBuf, ImageError> {
    let registry = Registry::start().await;
    let name = registry.add("v1", &Built::new(&[tar(items)]));
    let image = store.pull(&name).await?;
    Ok(store.images.lower_dirs(&image).unwrap().remove(0))
}

fn xattr(path: &std::path::Path, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 1024];
    let length = rustix::fs::lgetxattr(path, name, value.as_mut_slice()).ok()?;
    value.truncate(length);
    Some(value)
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_about_a_file_is_kept() {
    let store = store();
    // VFS_CAP_REVISION_2 with cap_dac_override and cap_fowner: the byte of a line's end is in it.
    let capability = b"\x01\0\0\x02\x0a\0\0\0\x0a\0\0\0\0\0\0\0\0\0\0\0";
    let mut owned = file("bin/tool", "#!/bin/sh\n").xattr("security.capability", capability);
    (owned.mode, owned.owner, owned.mtime) = (0o6755, (1000, 1001), 1_234_567);
    owned.pax.push(("mtime".into(), b"1234567.25".to_vec()));
    let mut private = folder("private");
    (private.mode, private.owner, private.mtime) = (0o1700, (7, 8), 99);
    let mut fifo = special("private/fifo", EntryType::Fifo);
    fifo.owner = (9, 9);
    let mut soft = link("soft", "/nowhere");
    soft.owner = (5, 6);
    let mut large = file("large", "");
    large.pax.push(("uid".into(), b"4000000000".to_vec()));
    let long = format!("deep/{}", "n".repeat(200));
    let mut named = file("short", "long");
    named.pax.push(("path".into(), long.clone().into_bytes()));
    let items = [
        private,
        owned,
        hard_link("bin/same", "bin/tool"),
        fifo,
        soft,
        large,
        named,
    ];
    let root = unpacked(&store, &items).await.unwrap();
    let at = |path: &str| std::fs::symlink_metadata(root.join(path)).unwrap();
    let tool = at("bin/tool");
    assert_eq!(
        (tool.mode() & 0o7777, tool.uid(), tool.gid(), tool.nlink()),
        (0o6755, 1000, 1001, 2)
    );
    assert_eq!((tool.mtime(), tool.mtime_nsec()), (1_234_567, 250_000_000));
    assert_eq!(
        xattr(&root.join("bin/tool"), "security.capability").as_deref(),
        Some(&capability[..])
    );
    assert_eq!(at("bin/same").ino(), tool.ino());
    let private = at("private");
    assert_eq!(
        (private.mode() & 0o7777, private.uid(), private.gid(), private.mtime()),
        (0o1700, 7, 8, 99)
    );
    let fifo = at("private/fifo");
    assert!(fifo.file_type().is_fifo());
    assert_eq!((fifo.mode() & 0o7777, fifo.uid()), (0o640, 9));
    assert_eq!(
        (at("soft").uid(), std::fs::read_link(root.join("soft")).unwrap()),
        (5, "/nowhere".into())
    );
    assert_eq!(at("large").uid(), 4_000_000_000);
    assert!(root.join(long).is_file() && !root.join("short").exists());
    assert_eq!(
        at("bin").mode() & 0o7777,
        0o755,
        "a folder nobody mentions is everyone's"
    );
    assert_eq!(std::fs::metadata(&root).unwrap().mode() & 0o7777, 0o755);
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_and_attributes_of_the_file_system_are_left_out() {
    let store = store();
    let items = [
        folder("dev"),
        special("dev/null", EntryType::Char),
        special("dev/sda", EntryType::Block),
        folder("d")
            .xattr("trusted.overlay.opaque", b"y")
            .xattr("trusted.overlay.redirect", b"/etc"),
        file("f", "")
            .xattr("user.overlay.metacopy", b"")
            .xattr("user.own", b"1")
            .xattr("security.selinux", b"x"),
    ];
    let root = unpacked(&store, &items).await.unwrap();
    assert_eq!(super::store::names(&root.join("dev")), Vec::<String>::new());
    for name in ["trusted.overlay.opaque", "trusted.overlay.redirect"] {
        assert_eq!(xattr(&root.join("d"), name), None);
    }
    assert_eq!(xattr(&root.join("f"), "user.own").as_deref(), Some(&b"1"[..]));
    assert_eq!(xattr(&root.join("f"), "user.overlay.metacopy"), None);
    assert_ne!(xattr(&root.join("f"), "security.selinux").as_deref(), Some(&b"x"[..]));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_an_entry_that_is_there_twice_the_last_one_counts() {
    let store = store();
    let items = [
        file("f", "first"),
        file("f", "second"),
        folder("d"),
        file("d/inner", ""),
        file("d", "a file now"),
        link("l", "f"),
        folder("l"),
        file("l/inner", ""),
        hard_link("f", "f"),
    ];
    let root = unpacked(&store, &items).await.unwrap();
    assert_eq!(std::fs::read_to_string(root.join("f")).unwrap(), "second");
    assert_eq!(std::fs::read_to_string(root.join("d")).unwrap(), "a file now");
    assert!(std::fs::symlink_metadata(root.join("l")).unwrap().is_dir());
}

//! Decides whether the folders of layers, mounted as an overlay, show what the image means.

use super::build::{Built, Item, file, folder, link, tar};
use super::registry::Registry;
use super::store::{Store, store};
use miren_image::Image;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use std::collections::BTreeMap;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// What is at each path: its kind, permissions, and content or target.
pub type Tree = BTreeMap<String, String>;

/// The merged view of an image, mounted where only one thread sees it.
pub fn merged(store: &Store, image: &Image) -> Tree {
    let mut lower = store.images.lower_dirs(image).unwrap();
    let (bottom, place) = (store.folder.path().join("bottom"), store.folder.path().join("merged"));
    for folder in [&bottom, &place] {
        std::fs::create_dir_all(folder).unwrap();
    }
    // The kernel wants two of them.
    lower.push(bottom);
    let thread = std::thread::spawn(move || {
        privately();
        let lower: Vec<&str> = lower.iter().map(|path| path.to_str().unwrap()).collect();
        let options = format!("lowerdir={}", lower.join(":"));
        mount(
            Some("overlay"),
            &place,
            Some("overlay"),
            MsFlags::MS_RDONLY,
            Some(options.as_str()),
        )
        .unwrap();
        let mut tree = Tree::new();
        read(&place, &PathBuf::new(), &mut tree);
        tree
    });
    thread.join().unwrap()
}

/// Mounts of this thread, and of those it starts, are nobody else's, and end with them.
pub fn privately() {
    unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS).unwrap();
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
}

fn read(root: &Path, inner: &Path, tree: &mut Tree) {
    for entry in std::fs::read_dir(root.join(inner)).unwrap() {
        let inner = inner.join(entry.unwrap().file_name());
        let path = root.join(&inner);
        let metadata = std::fs::symlink_metadata(&path).unwrap();
        let (kind, mode) = (metadata.file_type(), metadata.mode() & 0o7777);
        let shown = if kind.is_dir() {
            read(root, &inner, tree);
            format!("folder {mode:o}")
        } else if kind.is_symlink() {
            format!("link {}", std::fs::read_link(&path).unwrap().display())
        } else if kind.is_file() {
            format!("file {mode:o} {}", std::fs::read_to_string(&path).unwrap())
        } else {
            assert!(!kind.is_char_device(), "a whiteout shows: {}", path.display());
            "other".to_owned()
        };
        tree.insert(inner.to_str().unwrap().to_owned(), shown);
    }
}

pub async fn image(store: &Store, layers: &[Vec<Item>]) -> Image {
    let registry = Registry::start().await;
    let layers: Vec<Vec<u8>> = layers.iter().map(|items| tar(items)).collect();
    store.pull(&registry.add("v1", &Built::new(&layers))).await.unwrap()
}

async fn view(layers: &[Vec<Item>]) -> Tree {
    let store = store();
    let image = image(&store, layers).await;
    merged(&store, &image)
}

fn tree(entries: &[(&str, &str)]) -> Tree {
    let entries = entries
        .iter()
        .map(|(path, shown)| ((*path).to_owned(), (*shown).to_owned()));
    entries.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn deletions_hide_what_lower_layers_have() {
    let seen = view(&[
        vec![
            folder("d"),
            file("d/kept", "1"),
            file("d/gone", "1"),
            folder("e"),
            file("e/gone", "1"),
            file("f", "1"),
        ],
        vec![
            folder("d"),
            file("d/.wh.gone", ""),
            folder("e"),
            file("e/.wh..wh..opq", ""),
            file("e/new", "2"),
            file(".wh.f", ""),
        ],
        vec![file(".wh..wh.aufs", ""), folder("d"), file("d/.wh..wh.plnk", "")],
    ])
    .await;
    let expected = [
        ("d", "folder 755"),
        ("d/kept", "file 644 1"),
        ("e", "folder 755"),
        ("e/new", "file 644 2"),
    ];
    assert_eq!(seen, tree(&expected));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_does_not_touch_its_own_layer_in_whatever_order_it_comes() {
    let base = vec![folder("d"), file("d/old", "1"), file("f", "1")];
    let after = vec![
        folder("d"),
        file("d/new", "2"),
        file(".wh.d", ""),
        file("f", "2"),
        file(".wh.f", ""),
    ];
    let before = vec![
        file(".wh.d", ""),
        folder("d"),
        file("d/new", "2"),
        file(".wh.f", ""),
        file("f", "2"),
    ];
    let implied = vec![file(".wh.d", ""), file("d/new", "2"), file("f", "2")];
    let expected = tree(&[("d", "folder 755"), ("d/new", "file 644 2"), ("f", "file 644 2")]);
    for layer in [after, before, implied] {
        assert_eq!(view(&[base.clone(), layer]).await, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_that_hides_everything_below_does() {
    let seen = view(&[
        vec![file("old", "1")],
        vec![file("f", "2"), file(".wh..wh..opq", "")],
        vec![file("top", "3")],
    ])
    .await;
    assert_eq!(seen, tree(&[("f", "file 644 2"), ("top", "file 644 3")]));
}

#[tokio::test(flavor = "multi_thread")]
async fn kinds_change_from_layer_to_layer_and_a_layer_may_come_twice() {
    let twice = vec![folder("a"), file("a/f", "1"), link("b", "a")];
    let seen = view(&[
        twice.clone(),
        vec![file("a", "2"), folder("b"), file("b/f", "2")],
        twice,
    ])
    .await;
    assert_eq!(
        seen,
        tree(&[("a", "folder 755"), ("a/f", "file 644 1"), ("b", "link a")])
    );
    let mut private = folder("a");
    private.mode = 0o700;
    let seen = view(&[vec![folder("a"), file("a/f", "1")], vec![private]]).await;
    assert_eq!(seen, tree(&[("a", "folder 700"), ("a/f", "file 644 1")]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_in_a_folder_that_hides_everything_is_not_listed() {
    let base = vec![folder("d"), folder("d/e"), file("d/e/gone", "1"), file("d/gone", "1")];
    let hiding = vec![
        folder("d"),
        file("d/.wh.gone", ""),
        folder("d/e"),
        file("d/e/.wh.gone", ""),
        file("d/.wh..wh..opq", ""),
    ];
    let seen = view(&[base, hiding]).await;
    assert_eq!(seen, tree(&[("d", "folder 755"), ("d/e", "folder 755")]));
}

//! Decides whether a collection removes all that nobody needs and nothing that anybody does.

use super::build::{Built, file, simple, tar};
use super::registry::{Registry, Wrong};
use super::store::{PATIENCE, kind, store};
use miren_image::{Auths, Digest, Images, Limits, Progress};
use std::collections::HashSet;
use std::sync::Arc;
use tokio::sync::{Semaphore, mpsc};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_stays_with_the_layers_it_shares() {
    let (registry, store) = (Registry::start().await, store());
    let base = tar(&[file("base", &"x".repeat(100_000))]);
    let (one, two) = (
        Built::new(&[base.clone(), tar(&[file("1", "")])]),
        Built::new(&[base, tar(&[file("2", "")])]),
    );
    drop(store.pull(&registry.add("one", &one)).await.unwrap());
    drop(store.pull(&registry.add("two", &two)).await.unwrap());
    let before = store.images.usage().unwrap();
    let collected = store.images.collect(&HashSet::from([one.digest])).await.unwrap();
    assert_eq!(collected.images, [two.digest]);
    assert_eq!(collected.layers, two.diff_ids[1..]);
    assert_eq!(collected.bytes, before - store.images.usage().unwrap());
    let kept = store.images.get(&one.digest).unwrap().unwrap();
    assert_eq!(store.images.lower_dirs(&kept).unwrap().len(), 2);
    assert!(store.images.get(&two.digest).unwrap().is_none());
    drop(kept);
    let rest = store.images.collect(&HashSet::new()).await.unwrap();
    assert!(rest.bytes > 100_000);
    assert!(store.names("images").is_empty() && store.names("layers").is_empty() && store.names("temp").is_empty());
    assert_eq!(store.images.usage().unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_in_someone_s_hands_stays() {
    let (registry, store) = (Registry::start().await, store());
    let built = simple("one");
    let image = store.pull(&registry.add("one", &built)).await.unwrap();
    let copy = image.clone();
    drop(image);
    assert_eq!(store.images.collect(&HashSet::new()).await.unwrap(), Default::default());
    drop(copy);
    assert_eq!(
        store.images.collect(&HashSet::new()).await.unwrap().images,
        [built.digest]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_that_goes_on_keeps_what_it_has_found_and_what_it_has_fetched() {
    let (registry, store) = (Registry::start().await, store());
    let base = tar(&[file("base", "")]);
    let one = Built::new(std::slice::from_ref(&base));
    let two = Built::new(&[base, tar(&[file("fetched", "")]), tar(&[file("waits", "")])]);
    drop(store.pull(&registry.add("one", &one)).await.unwrap());
    let gate = Arc::new(Semaphore::new(0));
    registry.wrong(&two.blob_digest(2), Wrong::Waits(gate.clone()));
    let (name, images) = (registry.add("two", &two), store.images.clone());
    let (steps, mut heard) = mpsc::unbounded_channel();
    let pull = tokio::spawn(async move {
        let watch = move |step| {
            let _ = steps.send(step);
        };
        images.pull(&name, &Auths::none(), &watch).await
    });
    let mut missing = vec![
        Progress::Kept { layer: two.diff_ids[0] },
        Progress::Unpacked { layer: two.diff_ids[1] },
    ];
    while !missing.is_empty() {
        let step: Progress = tokio::time::timeout(PATIENCE, heard.recv())
            .await
            .expect("a step")
            .expect("a pull");
        missing.retain(|other| *other != step);
    }
    let collected = store.images.collect(&HashSet::new()).await.unwrap();
    assert_eq!((collected.images, collected.layers), (vec![one.digest], vec![]));
    gate.add_permits(1);
    let image = pull.await.unwrap().unwrap();
    assert_eq!(store.images.lower_dirs(&image).unwrap().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_of_a_failed_pull_stay_for_the_next_one_until_they_are_collected() {
    let (registry, store) = (Registry::start().await, store());
    let built = simple("one");
    let name = registry.add("one", &built);
    let gate = Arc::new(Semaphore::new(0));
    registry.wrong(&built.blob_digest(1), Wrong::Waits(gate));
    let pulling = store.images.clone();
    let whole = store
        .path()
        .join("layers")
        .join(&built.diff_ids[0].to_string()["sha256:".len()..]);
    let pull = tokio::spawn(async move { pulling.pull(&name, &Auths::none(), &|_| {}).await });
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !whole.exists() {
        assert!(tokio::time::Instant::now() < deadline, "the first layer never came");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    pull.abort();
    assert!(pull.await.unwrap_err().is_cancelled());
    store.settled().await;
    assert_eq!(store.names("layers").len(), 1);
    registry.right();
    let image = store.pull(&registry.name("one")).await.unwrap();
    assert_eq!(registry.asked(&built.blob_digest(0)), 1);
    drop(image);
    assert_eq!(store.images.collect(&HashSet::new()).await.unwrap().layers.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_crash_left_is_removed_at_the_next_start() {
    let (registry, store) = (Registry::start().await, store());
    let (one, two) = (simple("one"), simple("two"));
    drop(store.pull(&registry.add("one", &one)).await.unwrap());
    drop(store.pull(&registry.add("two", &two)).await.unwrap());
    let path = store.path();
    let (images, folder) = (store.images, store.folder);
    drop(images);
    // In the middle of a download, of an unpacking, of writing a record, and of a collection after its records.
    std::fs::write(path.join("temp/blob"), "half").unwrap();
    std::fs::create_dir_all(path.join("temp/layer/fs/etc")).unwrap();
    std::os::unix::fs::symlink("/", path.join("temp/layer/fs/root")).unwrap();
    std::fs::write(path.join("temp/record"), "{").unwrap();
    let record = path
        .join("images")
        .join(format!("{}.json", &two.digest.to_string()["sha256:".len()..]));
    std::fs::remove_file(record).unwrap();
    let images = Images::open(&path, Limits::default()).unwrap();
    assert!(super::store::names(&path.join("temp")).is_empty());
    assert!(images.get(&one.digest).unwrap().is_some() && images.get(&two.digest).unwrap().is_none());
    let collected = images.collect(&HashSet::from([one.digest])).await.unwrap();
    let sorted = |layers: &[Digest]| layers.iter().copied().collect::<HashSet<_>>();
    assert_eq!(sorted(&collected.layers), sorted(&two.diff_ids));
    drop(folder);
}

#[tokio::test]
async fn a_store_has_one_owner() {
    let store = store();
    let error = Images::open(&store.path(), Limits::default()).unwrap_err();
    assert_eq!(kind(&error), "invalid", "{error}");
}

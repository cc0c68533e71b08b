//! Decides whether images arrive from a registry whole, once, and under the digest they have.

use super::build::{Built, architecture, descriptor, file, folder, gzip, simple, tar, zstd};
use super::registry::{Registry, Wrong};
use super::store::{PATIENCE, kind, store};
use miren_image::{Auths, Digest, Images, Limits, Progress};
use serde_json::json;
use std::sync::{Arc, Mutex};
use tokio::sync::Semaphore;

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_pulled_by_tag_and_kept_by_digest() {
    let (registry, store) = (Registry::start().await, store());
    let built = simple("one");
    let name = registry.add("v1", &built);
    let image = store.pull(&name).await.unwrap();
    assert_eq!((image.digest, &image.layers), (built.digest, &built.diff_ids));
    assert_eq!(image.reference.as_ref().unwrap().to_string(), name);
    assert_eq!(image.config.cmd, ["/bin/app"]);
    let dirs = store.images.lower_dirs(&image).unwrap();
    assert!(dirs[0].join("bin").is_file() && dirs[1].join("etc/name").is_file());
    assert_eq!(store.images.get(&built.digest).unwrap().unwrap().layers, image.layers);
    assert_eq!(store.images.list().unwrap().len(), 1);
    assert!(store.images.usage().unwrap() > 50_000);
    assert!(store.names("temp").is_empty());
    drop((image, store.images));
    let again = Images::open(&store.folder.path().join("images"), Limits::default()).unwrap();
    assert_eq!(again.get(&built.digest).unwrap().unwrap().config.cmd, ["/bin/app"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_by_a_known_digest_asks_nobody() {
    let (registry, store) = (Registry::start().await, store());
    let built = simple("one");
    registry.add("v1", &built);
    let pinned = format!("{}/app@{}", registry.address, built.digest);
    store.pull(&pinned).await.unwrap();
    let asked = registry.asked("");
    store.pull(&pinned).await.unwrap();
    assert_eq!(registry.asked(""), asked);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_leads_to_this_machine_s_image() {
    let (registry, store) = (Registry::start().await, store());
    let (ours, other) = (simple("ours"), simple("other"));
    registry.add("ours", &ours);
    let entry = |image: &Built, architecture: &str| {
        let mut entry = descriptor(&image.manifest);
        entry["platform"] = json!({ "os": "linux", "architecture": architecture });
        entry
    };
    let index = json!({ "manifests": [entry(&other, "pdp11"), entry(&ours, architecture())] });
    registry.manifest("multi", index.to_string().into_bytes());
    let image = store.pull(&registry.name("multi")).await.unwrap();
    assert_eq!(image.digest, ours.digest);
    let index = json!({ "manifests": [entry(&other, "pdp11")] });
    registry.manifest("foreign", index.to_string().into_bytes());
    let error = store.pull(&registry.name("foreign")).await.unwrap_err();
    assert_eq!(kind(&error), "unsupported");
    assert!(error.to_string().contains("linux/pdp11"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_that_is_there_is_not_fetched_again() {
    let (registry, store) = (Registry::start().await, store());
    let base = tar(&[file("base", "base")]);
    let (one, two) = (
        Built::new(&[base.clone(), tar(&[file("1", "")])]),
        Built::new(&[base, tar(&[file("2", "")])]),
    );
    store.pull(&registry.add("one", &one)).await.unwrap();
    let name = registry.add("two", &two);
    let steps = Mutex::new(Vec::new());
    let watch = |step| steps.lock().unwrap().push(step);
    store.images.pull(&name, &Auths::none(), &watch).await.unwrap();
    assert_eq!(registry.asked(&one.blob_digest(0)), 1);
    let steps = steps.into_inner().unwrap();
    assert_eq!(
        steps[0],
        Progress::Resolved {
            digest: two.digest,
            layers: 2
        }
    );
    assert!(steps.contains(&Progress::Kept { layer: two.diff_ids[0] }), "{steps:?}");
    assert!(
        steps.contains(&Progress::Unpacked { layer: two.diff_ids[1] }),
        "{steps:?}"
    );
    let of = two.blobs[1].len() as u64;
    let whole = Progress::Downloading {
        layer: two.diff_ids[1],
        bytes: of,
        of,
    };
    assert!(steps.contains(&whole), "{steps:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn pulls_at_once_fetch_a_layer_once() {
    let (registry, store) = (Registry::start().await, store());
    let base = tar(&[file("base", "base")]);
    let images: Vec<Built> = (0..6)
        .map(|at| Built::new(&[base.clone(), tar(&[file(&format!("f{at}"), "")])]))
        .collect();
    let gate = Arc::new(Semaphore::new(0));
    registry.wrong(&images[0].blob_digest(0), Wrong::Waits(gate.clone()));
    let pulls: Vec<_> = images
        .iter()
        .enumerate()
        .map(|(at, image)| {
            let (name, images) = (registry.add(&format!("v{at}"), image), store.images.clone());
            tokio::spawn(async move { images.pull(&name, &Auths::none(), &|_| {}).await })
        })
        .collect();
    // All of them have got past their configuration, so that they want the layer, before anyone gets it.
    let deadline = tokio::time::Instant::now() + PATIENCE;
    for image in &images {
        let own = store
            .path()
            .join("layers")
            .join(&image.diff_ids[1].to_string()["sha256:".len()..]);
        while !own.exists() {
            assert!(tokio::time::Instant::now() < deadline, "{} is not there", own.display());
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }
    gate.add_permits(100);
    for pull in pulls {
        pull.await.unwrap().unwrap();
    }
    assert_eq!(registry.asked(&images[0].blob_digest(0)), 1);
    assert_eq!(store.names("layers").len(), 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_compression_gives_the_same_layer() {
    let (registry, store) = (Registry::start().await, store());
    let layer = tar(&[folder("d"), file("d/f", &"text ".repeat(10_000))]);
    // Two members after each other are one gzip file.
    let members = |bytes: &[u8]| {
        let (one, two) = bytes.split_at(bytes.len() / 3);
        [gzip(one), gzip(two)].concat()
    };
    for (tag, compress) in [
        ("gz", gzip as fn(&[u8]) -> Vec<u8>),
        ("zst", zstd),
        ("tar", <[u8]>::to_vec),
        ("gzs", members),
    ] {
        let built = Built::with(
            std::slice::from_ref(&layer),
            &json!({ "Labels": { "as": tag } }),
            compress,
        );
        let image = store.pull(&registry.add(tag, &built)).await.unwrap();
        let dirs = store.images.lower_dirs(&image).unwrap();
        assert_eq!(std::fs::read(dirs[0].join("d/f")).unwrap().len(), 50_000);
        assert_eq!(store.images.list().unwrap().len(), store.names("images").len());
        drop(image);
        store.images.collect(&Default::default()).await.unwrap();
        assert!(store.names("layers").is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_loopback_and_listed_registries_are_spoken_to_without_tls() {
    let registry = Registry::start().await;
    let built = simple("one");
    registry.add("v1", &built);
    // No name of loopback, but an address of this very machine all the same.
    let name = format!("0.0.0.0:{}/app:v1", registry.address.port());
    let error = super::store::store().pull(&name).await.unwrap_err();
    assert_eq!((kind(&error), registry.asked("")), ("unreachable", 0), "{error}");
    let store = super::store::store_with(Limits {
        plain_http: vec![format!("0.0.0.0:{}", registry.address.port())],
        ..Limits::default()
    });
    assert_eq!(store.pull(&name).await.unwrap().digest, built.digest);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_moved_is_pulled_again() {
    let (registry, store) = (Registry::start().await, store());
    let name = registry.add("latest", &simple("one"));
    let one = store.pull(&name).await.unwrap();
    registry.add("latest", &simple("two"));
    let two = store.pull(&name).await.unwrap();
    assert_ne!(one.digest, two.digest);
    assert_eq!(store.images.list().unwrap().len(), 2);
    assert_eq!(two.digest, Digest::of(&simple("two").manifest));
}

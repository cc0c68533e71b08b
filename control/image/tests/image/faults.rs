//! Decides whether everything a registry can do wrong ends in a clear error and a clean store.

use super::build::{Built, descriptor, file, gzip, simple, tar};
use super::registry::{Registry, Wrong};
use super::store::{Store, kind, store, store_with};
use miren_image::{Auths, Digest, Limits, Progress};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// No image, nothing half written; and the same pull succeeds once the registry is right.
async fn leaves_nothing(store: &Store, registry: &Registry, name: &str) {
    store.settled().await;
    assert!(store.names("images").is_empty());
    registry.right();
    store.pull(name).await.unwrap();
}

fn impatient() -> Store {
    store_with(Limits {
        // Also long enough for what is right.
        idle: Duration::from_secs(3),
        ..Limits::default()
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn content_that_is_not_what_its_digest_says_is_refused() {
    let (registry, store) = (Registry::start().await, store());
    let built = simple("one");
    let name = registry.add("v1", &built);
    let other = simple("two");
    // As long as the right one, and a whole layer by itself.
    let mut same_size = built.blobs[1].clone();
    *same_size.last_mut().unwrap() ^= 1;
    // Unpacks to the very same layer: byte 9 of gzip names the system that wrote it.
    let mut same_layer = built.blobs[1].clone();
    same_layer[9] ^= 1;
    let config = Digest::of(&built.config).to_string();
    let same_facts = [&built.config[..], b" "].concat();
    for (end, content) in [
        (built.blob_digest(1), same_size),
        (built.blob_digest(1), same_layer),
        (built.blob_digest(1), other.blobs[1].clone()),
        (config.clone(), other.config.clone()),
        (config, same_facts),
    ] {
        registry.wrong(&end, Wrong::Content(content));
        let error = store.pull(&name).await.unwrap_err();
        assert_eq!(kind(&error), "corrupt", "{error}");
        assert!(error.to_string().starts_with(&format!("pulling {name}: ")), "{error}");
        store.settled().await;
        registry.right();
    }
    leaves_nothing(&store, &registry, &name).await;
    let pinned = format!("{}/app@{}", registry.address, other.digest);
    registry.add("two", &other);
    registry.wrong(
        &format!("manifests/{}", other.digest),
        Wrong::Content(built.manifest.clone()),
    );
    let error = store.pull(&pinned).await.unwrap_err();
    assert_eq!(kind(&error), "corrupt", "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_that_is_not_what_the_configuration_says_is_refused() {
    let (registry, store) = (Registry::start().await, store());
    let (one, two) = (simple("one"), simple("two"));
    // The manifest is right about its blobs; the diff ids are another image's.
    let mixed = Built::of(one.config.clone(), two.blobs.clone(), one.diff_ids.clone());
    let error = store.pull(&registry.add("v1", &mixed)).await.unwrap_err();
    assert_eq!(kind(&error), "corrupt", "{error}");
    let few = Built::of(one.config.clone(), one.blobs[..1].to_vec(), one.diff_ids.clone());
    let error = store.pull(&registry.add("v2", &few)).await.unwrap_err();
    assert_eq!(kind(&error), "corrupt", "{error}");
    store.settled().await;
    assert!(store.names("images").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_that_breaks_off_is_resumed_where_it_was() {
    let (registry, store) = (Registry::start().await, store());
    let built = simple("one");
    let name = registry.add("v1", &built);
    let blob = built.blob_digest(1);
    let gate = Arc::new(Semaphore::new(0));
    registry.wrong(&blob, Wrong::BreaksOnce(gate.clone()));
    let layer = built.diff_ids[1];
    let watch = move |step| {
        // It breaks off once some of it has arrived.
        if matches!(step, Progress::Downloading { layer: downloading, .. } if downloading == layer) {
            gate.add_permits(1);
        }
    };
    store.images.pull(&name, &Auths::none(), &watch).await.unwrap();
    let ranges: Vec<_> = registry
        .headers(&blob)
        .iter()
        .map(|headers| headers.contains_key("range"))
        .collect();
    assert_eq!(ranges, [false, true]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_always_breaks_off_or_fails_is_unreachable() {
    for wrong in [Wrong::Breaks, Wrong::Status(500), Wrong::Status(503)] {
        let (registry, store) = (Registry::start().await, store());
        let built = simple("one");
        let name = registry.add("v1", &built);
        let blob = built.blob_digest(0);
        registry.wrong(&blob, wrong);
        let error = store.pull(&name).await.unwrap_err();
        assert_eq!((kind(&error), registry.asked(&blob)), ("unreachable", 3), "{error}");
        leaves_nothing(&store, &registry, &name).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_ends_a_pull() {
    let (registry, store) = (Registry::start().await, impatient());
    let built = simple("one");
    let name = registry.add("v1", &built);
    for end in [built.blob_digest(1), "manifests/v1".into()] {
        registry.right();
        registry.wrong(&end, Wrong::Stalls);
        let error = store.pull(&name).await.unwrap_err();
        assert_eq!(kind(&error), "timed out", "{error}");
        store.settled().await;
    }
    leaves_nothing(&store, &registry, &name).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_lasts_no_longer_than_it_may() {
    let registry = Registry::start().await;
    let store = store_with(Limits {
        whole: Duration::from_millis(300),
        ..Limits::default()
    });
    let built = simple("one");
    let name = registry.add("v1", &built);
    registry.wrong(&built.blob_digest(1), Wrong::Stalls);
    let error = store.pull(&name).await.unwrap_err();
    assert_eq!(kind(&error), "timed out", "{error}");
    store.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_not_found() {
    let (registry, store) = (Registry::start().await, store());
    let error = store.pull(&registry.name("none")).await.unwrap_err();
    assert_eq!(kind(&error), "not found", "{error}");
    assert!(error.to_string().contains("manifest unknown"), "{error}");
    let closed = {
        tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .unwrap()
            .local_addr()
            .unwrap()
    };
    let error = store.pull(&format!("{closed}/app")).await.unwrap_err();
    assert_eq!(kind(&error), "unreachable", "{error}");
    let error = store.pull("No Name").await.unwrap_err();
    assert_eq!(kind(&error), "invalid", "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_size_has_a_bound() {
    let registry = Registry::start().await;
    let built = simple("one");
    let name = registry.add("v1", &built);
    let limits = Limits::default();
    let cases = [
        (
            "manifest",
            Limits {
                manifest: 100,
                ..limits.clone()
            },
        ),
        (
            "configuration",
            Limits {
                config: 100,
                ..limits.clone()
            },
        ),
        (
            "number of its layers",
            Limits {
                layers: 1,
                ..limits.clone()
            },
        ),
        (
            "bytes of its layers",
            Limits {
                compressed: 100,
                ..limits.clone()
            },
        ),
        (
            "unpacked",
            Limits {
                unpacked: 50_000,
                ..limits.clone()
            },
        ),
        (
            "files",
            Limits {
                files: 3,
                ..limits.clone()
            },
        ),
    ];
    for (what, limits) in cases {
        let store = store_with(limits);
        let error = store.pull(&name).await.unwrap_err();
        assert_eq!(kind(&error), "too large", "{error}");
        assert!(error.to_string().contains(what), "{what}: {error}");
        store.settled().await;
        assert!(store.names("images").is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_without_end_is_cut_at_its_bound() {
    let (registry, store) = (Registry::start().await, store());
    let built = simple("one");
    let name = registry.add("v1", &built);
    for (end, expected) in [
        ("manifests/v1".to_owned(), "too large"),
        (Digest::of(&built.config).to_string(), "too large"),
        (built.blob_digest(1), "corrupt"),
    ] {
        registry.right();
        registry.wrong(&end, Wrong::Endless);
        let error = store.pull(&name).await.unwrap_err();
        assert_eq!(kind(&error), expected, "{error}");
    }
    leaves_nothing(&store, &registry, &name).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_blob_that_unpacks_without_end_is_cut_at_its_bound() {
    let registry = Registry::start().await;
    let store = store_with(Limits {
        unpacked: 1 << 20,
        ..Limits::default()
    });
    let mut zeros = tar(&[file("f", "")]);
    // Behind the end of the archive, where no entry is.
    zeros.resize(64 << 20, 0);
    let built = Built::with(&[zeros], &json!({}), gzip);
    let error = store.pull(&registry.add("bomb", &built)).await.unwrap_err();
    assert_eq!(kind(&error), "too large", "{error}");
    store.settled().await;
    assert!(store.names("layers").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_image_is_refused() {
    let (registry, store) = (Registry::start().await, store());
    let chart = json!({ "config": descriptor(b"{}"), "layers": [] });
    for (tag, text) in [
        ("text", "hello".to_owned()),
        ("empty", "{}".into()),
        ("chart", chart.to_string()),
    ] {
        registry.manifest(tag, text.into_bytes());
        assert!(store.pull(&registry.name(tag)).await.is_err(), "{tag}");
    }
    assert!(store.names("images").is_empty());
}

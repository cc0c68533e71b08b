//! Decides whether images come out of archives of both kinds, and the right one of several.

use super::build::{Built, Item, architecture, descriptor, file, gzip, hard_link, link, simple, tar, zstd};
use super::store::{Store, kind, store, store_with};
use miren_image::{Digest, Image, ImageError, Limits};
use serde_json::{Value, json};
use std::io::Cursor;

fn blob(content: &[u8]) -> Item {
    let digest = Digest::of(content).to_string().replace(':', "/");
    Item {
        content: content.to_vec(),
        ..file(&format!("blobs/{digest}"), "")
    }
}

fn text(path: &str, value: &Value) -> Item {
    file(path, &value.to_string())
}

/// An OCI layout of images and their names, with what describes it at the end.
fn layout(images: &[(&Built, Option<&str>)]) -> Vec<Item> {
    let mut items = Vec::new();
    let mut entries = Vec::new();
    for (image, name) in images {
        items.extend(
            image
                .blobs
                .iter()
                .chain([&image.config, &image.manifest])
                .map(|bytes| blob(bytes)),
        );
        let mut entry = descriptor(&image.manifest);
        if let Some(name) = name {
            entry["annotations"] = json!({ "io.containerd.image.name": name });
        }
        entries.push(entry);
    }
    items.push(text("oci-layout", &json!({ "imageLayoutVersion": "1.0.0" })));
    items.push(text("index.json", &json!({ "schemaVersion": 2, "manifests": entries })));
    items
}

/// What `docker save` writes: plain layers, and links instead of layers it has written already.
fn saved(images: &[(&Built, &[Vec<u8>], Value)]) -> Vec<Item> {
    let mut items = Vec::new();
    let mut entries = Vec::new();
    for (at, (image, layers, tags)) in images.iter().enumerate() {
        let config = format!("{at}.json");
        items.push(Item {
            content: image.config.clone(),
            ..file(&config, "")
        });
        let paths: Vec<String> = (0..layers.len())
            .map(|layer| format!("{at}-{layer}/layer.tar"))
            .collect();
        for (path, layer) in paths.iter().zip(*layers) {
            items.push(Item {
                content: layer.clone(),
                ..file(path, "")
            });
        }
        entries.push(json!({ "Config": config, "RepoTags": tags, "Layers": paths }));
    }
    items.push(text("manifest.json", &Value::Array(entries)));
    items
}

async fn import(store: &Store, archive: Vec<u8>, name: Option<&str>) -> Result<Image, ImageError> {
    store.images.import(Cursor::new(archive), name, &|_| {}).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_oci_layout_is_imported_compressed_or_not() {
    let built = simple("one");
    let archive = tar(&layout(&[(&built, Some("docker.io/me/app:v1"))]));
    for archive in [gzip(&archive), zstd(&archive), archive] {
        let store = store();
        let image = import(&store, archive, None).await.unwrap();
        assert_eq!((image.digest, &image.layers), (built.digest, &built.diff_ids));
        assert_eq!(image.reference.unwrap().to_string(), "docker.io/me/app:v1");
        assert!(store.names("temp").is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_within_a_layout_leads_to_this_machine_s_image() {
    let (ours, store) = (simple("ours"), store());
    let mut entry = descriptor(&ours.manifest);
    entry["platform"] = json!({ "os": "linux", "architecture": architecture() });
    let attested =
        json!({ "digest": Digest::of(b"x"), "size": 1, "platform": { "os": "unknown", "architecture": "unknown" } });
    let inner = json!({ "manifests": [attested, entry] }).to_string();
    let mut items = layout(&[(&ours, None)]);
    items.pop();
    items.push(blob(inner.as_bytes()));
    items.push(text(
        "index.json",
        &json!({ "manifests": [descriptor(inner.as_bytes())] }),
    ));
    assert_eq!(import(&store, tar(&items), None).await.unwrap().digest, ours.digest);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_docker_save_archive_is_imported() {
    let layers = [tar(&[file("base", "base")]), tar(&[file("top", "top")])];
    let (built, store) = (Built::new(&layers), store());
    let mut items = saved(&[(&built, &layers, json!(["app:v1", "app:latest"]))]);
    // The first layer is a link to where it is.
    items[1].path = "elsewhere/layer.tar".into();
    items.insert(0, link("0-0/layer.tar", "../elsewhere/layer.tar"));
    let image = import(&store, tar(&items), None).await.unwrap();
    assert_eq!(image.digest, Digest::of(&built.config));
    assert_eq!(
        image.reference.as_ref().unwrap().to_string(),
        "docker.io/library/app:v1"
    );
    let dirs = store.images.lower_dirs(&image).unwrap();
    assert!(dirs[0].join("top").is_file() && dirs[1].join("base").is_file());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_images_the_named_one_is_taken() {
    let layers = [vec![tar(&[file("1", "")])], vec![tar(&[file("2", "")])]];
    let (one, two) = (Built::new(&layers[0]), Built::new(&layers[1]));
    let oci = tar(&layout(&[
        (&one, Some("docker.io/me/one:v1")),
        (&two, Some("docker.io/me/two:v1")),
    ]));
    let docker = tar(&saved(&[
        (&one, &layers[0], json!(["me/one:v1"])),
        (&two, &layers[1], json!(["me/two:v1"])),
    ]));
    for archive in [oci, docker] {
        let store = store();
        let error = import(&store, archive.clone(), None).await.unwrap_err();
        assert_eq!(kind(&error), "invalid", "{error}");
        assert!(
            error.to_string().contains("me/one:v1") && error.to_string().contains("me/two:v1"),
            "{error}"
        );
        let error = import(&store, archive.clone(), Some("me/three")).await.unwrap_err();
        assert_eq!(kind(&error), "not found", "{error}");
        let image = import(&store, archive, Some("me/two:v1")).await.unwrap();
        assert_eq!(image.layers, two.diff_ids);
        assert!(store.names("temp").is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_that_is_wrong_is_refused_and_leaves_nothing() {
    let (one, two) = (simple("one"), simple("two"));
    let right = layout(&[(&one, None)]);
    let mut swapped = right.clone();
    swapped[1].content = two.blobs[1].clone();
    let mut missing = right.clone();
    missing.remove(0);
    let mut recompressed = right.clone();
    // The right layer, but not the bytes that the manifest promises.
    recompressed[0].content = zstd(&tar(&[]));
    let cut = tar(&right);
    for archive in [
        tar(&swapped),
        tar(&missing),
        tar(&recompressed),
        cut[..cut.len() / 2].to_vec(),
        tar(&[file("readme", "hello")]),
        b"hello".to_vec(),
        Vec::new(),
        tar(&[hard_link("manifest.json", "manifest.json")]),
    ] {
        let store = store();
        let error = import(&store, archive, None).await.unwrap_err();
        assert!(matches!(kind(&error), "corrupt" | "unsupported"), "{error}");
        store.settled().await;
        assert!(store.names("images").is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_of_a_layout_has_to_be_what_its_name_says() {
    let layer = tar(&[file("f", "f")]);
    let (built, store) = (Built::with(std::slice::from_ref(&layer), &json!({}), gzip), store());
    let mut items = layout(&[(&built, None)]);
    let right: Vec<Vec<u8>> = items.iter().map(|item| item.content.clone()).collect();
    let more = |content: &[u8]| [content, b" "].concat();
    // Layer, configuration and manifest: each says the very same as what it is in place of.
    for (at, wrong) in [(0, zstd(&layer)), (1, more(&right[1])), (2, more(&right[2]))] {
        items[at].content = wrong;
        let error = import(&store, tar(&items), None).await.unwrap_err();
        assert_eq!(kind(&error), "corrupt", "{error}");
        items[at].content.clone_from(&right[at]);
    }
    import(&store, tar(&items), None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_has_a_bound() {
    let store = store_with(Limits {
        compressed: 10_000,
        ..Limits::default()
    });
    let layers = [tar(&[file("f", &"x".repeat(50_000))])];
    let docker = saved(&[(&Built::new(&layers), &layers, json!(null))]);
    let error = import(&store, gzip(&tar(&docker)), None).await.unwrap_err();
    assert_eq!(kind(&error), "too large", "{error}");
    assert!(store.names("temp").is_empty());
}

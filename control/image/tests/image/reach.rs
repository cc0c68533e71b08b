//! Decides that a pull leads to no service of this machine that the operator did not name, whoever sends it there.

use super::build::simple;
use super::registry::{Access, Registry, Wrong};
use super::store::{kind, store_naming};
use miren_image::ImageError;

/// That it was refused, with the remedy.
fn is_refused(error: &ImageError) -> bool {
    kind(error) == "unauthorized" && error.to_string().contains("images.registries")
}

#[tokio::test(flavor = "multi_thread")]
async fn f1_a_registry_of_this_machine_is_asked_only_if_it_is_named() {
    let registry = Registry::start().await;
    registry.add("v1", &simple("one"));
    let port = registry.address.port();
    let other = if port == 1 { 2 } else { 1 };
    for host in ["127.0.0.1", "0.0.0.0", "127.1", "2130706433", "0x7f.1", "localhost"] {
        // Another port of the same host is named.
        let store = store_naming(&[&format!("{host}:{other}")]);
        let error = store.pull(&format!("{host}:{port}/app:v1")).await.unwrap_err();
        assert!(is_refused(&error), "{host}: {error}");
    }
    assert_eq!(registry.asked(""), 0);
    let store = store_naming(&[&format!("127.0.0.1:{port}")]);
    store.pull(&registry.name("v1")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn f1_a_registry_sends_a_pull_to_nobody_who_is_not_named() {
    let (registry, elsewhere) = (Registry::start().await, Registry::start().await);
    let built = simple("one");
    let name = registry.add("v1", &built);
    elsewhere.add("v1", &built);
    let store = store_naming(&[&registry.address.to_string()]);
    let port = elsewhere.address.port();
    let blob = built.blob_digest(1);
    for (end, path) in [
        ("manifests/v1", "/v2/app/manifests/v1".to_owned()),
        (blob.as_str(), format!("/kept/{blob}")),
    ] {
        for host in ["127.0.0.1", "localhost", "0x7f000001", "[::ffff:127.0.0.1]", "127.1"] {
            registry.wrong(end, Wrong::Redirect(format!("http://{host}:{port}{path}")));
            let error = store.pull(&name).await.unwrap_err();
            assert!(is_refused(&error), "{end} at {host}: {error}");
        }
        registry.right();
    }
    assert_eq!(elsewhere.asked(""), 0);
    store.pull(&name).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn f1_a_registry_sends_for_tokens_to_nobody_who_is_not_named() {
    let (registry, elsewhere) = (Registry::start().await, Registry::start().await);
    let name = registry.add("v1", &simple("one"));
    registry.access(Access::Token {
        basic: None,
        uses: 1000,
    });
    registry.tokens_at(&elsewhere);
    let store = store_naming(&[&registry.address.to_string()]);
    let error = store.pull(&name).await.unwrap_err();
    assert!(is_refused(&error), "{error}");
    assert_eq!(elsewhere.asked(""), 0);
    registry.tokens_at(&registry);
    store.pull(&name).await.unwrap();
}

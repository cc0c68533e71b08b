//! Decides whether registries are shown the right credentials, and nobody else is.

use super::build::simple;
use super::registry::{Access, Registry, Wrong};
use super::store::{kind, store};
use axum::http::header::AUTHORIZATION;
use miren_image::Auths;

/// "me:secret" as a header has it.
const BASIC: &str = "bWU6c2VjcmV0";

fn auths(folder: &std::path::Path, registry: &Registry, encoded: &str) -> Auths {
    let file = folder.join("config.json");
    let text = format!(r#"{{"auths":{{"{}":{{"auth":"{encoded}"}}}}}}"#, registry.address);
    std::fs::write(&file, text).unwrap();
    Auths::from_file(&file)
}

#[tokio::test(flavor = "multi_thread")]
async fn basic_credentials_are_shown_when_they_are_asked_for() {
    let (registry, store) = (Registry::start().await, store());
    let name = registry.add("v1", &simple("one"));
    registry.access(Access::Basic(format!("Basic {BASIC}")));
    let error = store.pull(&name).await.unwrap_err();
    assert_eq!(kind(&error), "unauthorized", "{error}");
    let right = auths(store.folder.path(), &registry, BASIC);
    store.images.pull(&name, &right, &|_| {}).await.unwrap();
    let wrong = auths(store.folder.path(), &registry, "bWU6d3Jvbmc=");
    let error = store.images.pull(&name, &wrong, &|_| {}).await.unwrap_err();
    assert_eq!(kind(&error), "unauthorized", "{error}");
    assert!(!error.to_string().contains("wrong"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_got_with_credentials_or_without() {
    for basic in [None, Some(format!("Basic {BASIC}"))] {
        let (registry, store) = (Registry::start().await, store());
        let name = registry.add("v1", &simple("one"));
        let is_private = basic.is_some();
        registry.access(Access::Token { basic, uses: 1000 });
        let anonymous = store.pull(&name).await;
        assert_eq!(anonymous.is_err(), is_private);
        let auths = auths(store.folder.path(), &registry, BASIC);
        store.images.pull(&name, &auths, &|_| {}).await.unwrap();
        let asked = registry.headers("/token");
        assert_eq!(asked.len(), 2, "once for each pull");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_expires_in_the_middle_is_renewed() {
    let (registry, store) = (Registry::start().await, store());
    let name = registry.add("v1", &simple("one"));
    registry.access(Access::Token { basic: None, uses: 2 });
    store.pull(&name).await.unwrap();
    assert!(registry.asked("/token") >= 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_do_not_follow_a_redirect_to_another_host() {
    let (registry, elsewhere, store) = (Registry::start().await, Registry::start().await, store());
    let built = simple("one");
    let name = registry.add("v1", &built);
    elsewhere.add("v1", &built);
    registry.access(Access::Basic(format!("Basic {BASIC}")));
    let blob = built.blob_digest(1);
    registry.wrong(
        &blob,
        Wrong::Redirect(format!("http://{}/kept/{blob}", elsewhere.address)),
    );
    let auths = auths(store.folder.path(), &registry, BASIC);
    store.images.pull(&name, &auths, &|_| {}).await.unwrap();
    let seen = elsewhere.headers(&blob);
    assert_eq!(seen.len(), 1);
    assert!(seen[0].get(AUTHORIZATION).is_none(), "{seen:?}");
}

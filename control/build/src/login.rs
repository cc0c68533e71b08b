//! Decides which credentials a builder is handed: those for the registries that its Dockerfile names, and no others.

use crate::error::BuildError;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use miren_image::Auths;
use serde_json::{Map, Value, json};

/// A file of credentials that holds none.
pub(crate) const NONE: &str = r#"{"auths":{}}"#;

/// In the form of docker's `config.json`. A credential helper is asked here, and never by a builder.
pub(crate) async fn file(auths: &Auths, registries: &[&str]) -> Result<String, BuildError> {
    let mut entries = Map::new();
    for &registry in registries {
        if let Some((user, password)) = auths.login(registry).await.map_err(BuildError::Login)? {
            let login = json!({ "auth": STANDARD.encode(format!("{user}:{password}")) });
            let name = if registry == "docker.io" { HUB } else { registry };
            entries.insert(name.to_owned(), login);
        }
    }
    Ok(json!({ "auths": Value::Object(entries) }).to_string())
}

/// How clients name the registry that needs no name.
const HUB: &str = "https://index.docker.io/v1/";

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn f1_only_the_credentials_of_the_registries_that_are_named_are_handed_over() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("config.json");
        // "me:secret" and "hub:pass"
        let config =
            r#"{"auths":{"r.example":{"auth":"bWU6c2VjcmV0"},"https://index.docker.io/v1/":{"auth":"aHViOnBhc3M="}}}"#;
        std::fs::write(&path, config).expect("a file");
        let auths = Auths::from_file(&path);
        let given = |registry| {
            let auths = auths.clone();
            async move { file(&auths, &[registry]).await.expect("a file") }
        };
        assert_eq!(
            given("r.example").await,
            r#"{"auths":{"r.example":{"auth":"bWU6c2VjcmV0"}}}"#
        );
        assert_eq!(
            given("docker.io").await,
            r#"{"auths":{"https://index.docker.io/v1/":{"auth":"aHViOnBhc3M="}}}"#
        );
        assert_eq!(given("other.example").await, NONE);
    }
}

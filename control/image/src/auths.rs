//! Decides which credentials a registry is shown: those of docker's configuration file, or none.

use crate::error::{Fault, ImageError};
use docker_credential::{CredentialRetrievalError as Failure, DockerCredential};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// How the file names the registry that needs no name.
const HUB: [&str; 3] = ["https://index.docker.io/v1/", "index.docker.io", "docker.io"];

/// Where credentials are looked up, at each pull anew.
#[derive(Clone, Debug, Default)]
pub struct Auths {
    file: Option<PathBuf>,
}

/// What a registry is shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Credentials {
    Anonymous,
    Basic { user: String, password: String },
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => f.write_str("Anonymous"),
            Self::Basic { user, .. } => write!(f, "Basic({user:?})"),
        }
    }
}

impl Auths {
    /// No credentials for anyone.
    pub fn none() -> Self {
        Self::default()
    }

    /// A file in the form of docker's `config.json`; one that is not there holds nothing.
    pub fn from_file(path: &Path) -> Self {
        Self {
            file: Some(path.to_owned()),
        }
    }

    /// `$DOCKER_CONFIG/config.json`, else `~/.docker/config.json`.
    pub fn from_env() -> Self {
        let folder = std::env::var_os("DOCKER_CONFIG").map(PathBuf::from);
        let home = || Some(Path::new(&std::env::var_os("HOME")?).join(".docker"));
        Self {
            file: folder.or_else(home).map(|folder| folder.join("config.json")),
        }
    }

    /// User and password for a registry, for somebody else to show there. May run a credential helper.
    ///
    /// # Errors
    /// When the file or the helper cannot be understood.
    pub async fn login(&self, registry: &str) -> Result<Option<(String, String)>, ImageError> {
        match self.of(registry).await {
            Ok(Credentials::Anonymous) => Ok(None),
            Ok(Credentials::Basic { user, password }) => Ok(Some((user, password))),
            Err(fault) => Err(fault.during(format_args!("looking for credentials for {registry}"))),
        }
    }

    /// May run a credential helper.
    pub(crate) async fn of(&self, registry: &str) -> Result<Credentials, Fault> {
        let Some(file) = self.file.clone() else {
            return Ok(Credentials::Anonymous);
        };
        let registry = registry.to_owned();
        let looking = tokio::task::spawn_blocking(move || look_up(&file, &registry));
        looking.await.map_err(|error| Fault::Io(io::Error::other(error)))?
    }
}

fn look_up(file: &Path, registry: &str) -> Result<Credentials, Fault> {
    let text = match std::fs::read(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Credentials::Anonymous),
        Err(error) => return Err(error.into()),
    };
    let names = if registry == "docker.io" { &HUB[..] } else { &[registry] };
    for name in names {
        match docker_credential::get_credential_from_reader(text.as_slice(), name) {
            Ok(DockerCredential::UsernamePassword(user, password)) => return Ok(Credentials::Basic { user, password }),
            Ok(DockerCredential::IdentityToken(_)) => {
                let why = format!("the credentials for {registry} are an identity token, not a user and a password");
                return Err(Fault::Unsupported(why));
            }
            Err(Failure::NoCredentialConfigured) => {}
            Err(Failure::HelperFailure { stdout, .. }) if stdout.contains("credentials not found") => {}
            Err(failure) => {
                let why = format!("{}, for {registry}: {failure}", file.display());
                return Err(Fault::Unauthorized(why));
            }
        }
    }
    Ok(Credentials::Anonymous)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(config: &str, registry: &str) -> Result<Credentials, Fault> {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("config.json");
        std::fs::write(&file, config).expect("a file");
        look_up(&file, registry)
    }

    #[test]
    fn each_registry_has_its_own() {
        // "me:secret:too" and "hub:pass"
        let config = r#"{"auths":{"r.example":{"auth":"bWU6c2VjcmV0OnRvbw=="},
            "https://index.docker.io/v1/":{"auth":"aHViOnBhc3M="},"empty.example":{}}}"#;
        let basic = |user: &str, password: &str| Credentials::Basic {
            user: user.into(),
            password: password.into(),
        };
        assert_eq!(of(config, "r.example").expect("one"), basic("me", "secret:too"));
        assert_eq!(of(config, "docker.io").expect("one"), basic("hub", "pass"));
        for other in ["other.example", "empty.example", "r.example:5000"] {
            assert_eq!(of(config, other).expect("none"), Credentials::Anonymous, "{other}");
        }
    }

    #[test]
    fn without_a_file_there_are_none_and_a_broken_one_is_an_error() {
        let missing = look_up(Path::new("/nonexistent/config.json"), "r.example");
        assert_eq!(missing.expect("none"), Credentials::Anonymous);
        assert!(matches!(of("{", "r.example"), Err(Fault::Unauthorized(_))));
        let token = r#"{"auths":{"r.example":{"identitytoken":"x"}}}"#;
        assert!(matches!(of(token, "r.example"), Err(Fault::Unsupported(_))));
    }

    #[test]
    fn secrets_are_not_shown() {
        let credentials = Credentials::Basic {
            user: "me".into(),
            password: "secret".into(),
        };
        assert!(!format!("{credentials:?}").contains("secret"));
    }
}

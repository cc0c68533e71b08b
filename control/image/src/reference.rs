//! Decides which image a name means, as other tools read it: `nginx` is `docker.io/library/nginx:latest`.

use crate::digest::Digest;
use crate::error::{Fault, ImageError};
use crate::registries::Authority;
use std::fmt;
use std::str::FromStr;

/// The full name of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    pub(crate) name: crate::registry::Name,
    digest: Option<Digest>,
}

impl Reference {
    /// The registry as it is written: host and, if it has one, port.
    pub fn registry(&self) -> &str {
        self.name.registry()
    }

    pub fn repository(&self) -> &str {
        self.name.repository()
    }

    pub fn tag(&self) -> Option<&str> {
        self.name.tag()
    }

    /// The content this name is bound to; it counts more than the tag.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// Whether the registry is on this machine, where there is nothing on the way to protect from.
    pub(crate) fn is_loopback(&self) -> bool {
        Authority(self.registry()).is_loopback()
    }
}

impl FromStr for Reference {
    type Err = ImageError;

    fn from_str(text: &str) -> Result<Self, ImageError> {
        let wrong = |fault: Fault| fault.during(format_args!("reading the image name {text:?}"));
        let name = crate::registry::Name::parse(text).map_err(wrong)?;
        let digest = name.digest().map(str::parse).transpose().map_err(wrong)?;
        Ok(Self { name, digest })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.name, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full(text: &str) -> String {
        text.parse::<Reference>().expect(text).to_string()
    }

    #[test]
    fn short_names_are_completed() {
        assert_eq!(full("nginx"), "docker.io/library/nginx:latest");
        assert_eq!(full("library/nginx:1"), "docker.io/library/nginx:1");
        assert_eq!(full("index.docker.io/me/app"), "docker.io/me/app:latest");
        assert_eq!(full("ghcr.io/a/b/c:v1"), "ghcr.io/a/b/c:v1");
        assert_eq!(full("localhost:5000/app"), "localhost:5000/app:latest");
        let pinned = format!("app@sha256:{}", "a".repeat(64));
        assert_eq!(full(&pinned), format!("docker.io/library/{pinned}"));
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let short = "app@sha256:abc";
        for wrong in ["", "App", "a b", "a//b", "../etc", "app:", "http://app", short] {
            let error = wrong.parse::<Reference>().expect_err(wrong);
            assert!(matches!(error.fault, Fault::Invalid(_)), "{error}");
        }
    }

    #[test]
    fn only_this_machine_is_loopback() {
        let is_loopback = |text: &str| text.parse::<Reference>().expect(text).is_loopback();
        assert!(is_loopback("localhost:5000/app") && is_loopback("127.0.0.1:5000/app"));
        for other in [
            "nginx",
            "localhost.example.com/app",
            "10.0.0.1:5000/app",
            "127.0.0.1.example.com/app",
        ] {
            assert!(!is_loopback(other), "{other}");
        }
    }
}

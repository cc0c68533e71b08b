//! Decides which registries a Dockerfile may name, and through which network each is reached.
//!
//! A name is a tenant's. One that could mean this machine or its own network is refused unless the operator has named
//! that registry; all others are reached as a step of the build would reach them, never from the host's network.

use crate::error::BuildError;
use miren_image::{Reference, Registries};

/// An image that a build stands on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Base {
    /// As the Dockerfile has it.
    pub(crate) image: String,
    /// Host and, if it has one, port.
    pub(crate) registry: String,
    /// The operator named its registry: it is reached through the host's network.
    pub(crate) is_named: bool,
}

/// The bases that can be fetched ahead. What is no name of an image is left to the builder, in its own network.
pub(crate) fn admit(images: &[String], registries: &Registries) -> Result<Vec<Base>, BuildError> {
    let mut bases = Vec::new();
    for image in images {
        let Ok(reference) = image.parse::<Reference>() else {
            continue;
        };
        let registry = reference.registry().to_owned();
        if !registries.admits(&registry) {
            return Err(BuildError::Registry {
                image: image.clone(),
                registry,
            });
        }
        bases.push(Base {
            image: image.clone(),
            is_named: registries.is_named(&registry),
            registry,
        });
    }
    Ok(bases)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(image: &str, named: &[&str]) -> Result<Vec<Base>, BuildError> {
        let named: Vec<String> = named.iter().map(|name| (*name).to_owned()).collect();
        admit(&[image.to_owned()], &Registries::new(named))
    }

    #[test]
    fn f1_names_that_could_mean_this_machine_are_refused() {
        for registry in [
            "127.0.0.1:5000",
            "127.1:5000",
            "127.0.0.2",
            "localhost",
            "localhost:9090",
            "a.localhost:1",
            "0.0.0.0:80",
            "0:80",
            "2130706433:80",
            "0x7f000001:80",
            "0x7f.1:80",
            "0177.0.0.1:80",
            "169.254.169.254",
            "169.254.1.1:80",
            "10.0.0.1:5000",
            "172.17.0.1:2375",
            "192.168.1.1:443",
            "100.64.0.1:80",
            "224.0.0.1:80",
            "registry:5000",
            "metadata.google.internal",
            "printer.local:80",
            "[::1]:5000",
            "[::ffff:127.0.0.1]:5000",
            "[fe80::1]:80",
        ] {
            let image = format!("{registry}/a/b:1");
            match admitted(&image, &[]) {
                Err(error) => assert!(error.to_string().contains("images.registries"), "{error}"),
                // The builder knows no image by that name either.
                Ok(bases) => assert_eq!(bases, [], "{registry}"),
            }
        }
    }

    #[test]
    fn f1_registries_of_the_world_are_reached_through_the_network_of_the_build() {
        for (image, registry) in [
            ("debian:12", "docker.io"),
            ("library/debian", "docker.io"),
            ("ghcr.io/a/b:1", "ghcr.io"),
            ("r.example.com:5000/a", "r.example.com:5000"),
            ("127.0.0.1.example.com/a", "127.0.0.1.example.com"),
            ("8.8.8.8:5000/a", "8.8.8.8:5000"),
        ] {
            let base = admitted(image, &["127.0.0.1"]).expect(image).remove(0);
            assert_eq!((base.registry.as_str(), base.is_named), (registry, false), "{image}");
        }
    }

    #[test]
    fn f1_only_what_the_operator_named_is_reached_through_the_network_of_the_host() {
        let is_named = |image, named: &[&str]| admitted(image, named).map(|bases| bases[0].is_named);
        assert!(is_named("127.0.0.1:5000/a", &["127.0.0.1:5000"]).expect("named"));
        assert!(is_named("127.0.0.1:5000/a", &["127.0.0.1"]).expect("named with any port"));
        assert!(is_named("registry.lan/a", &["registry.lan"]).expect("named"));
        for named in ["127.0.0.1:5001", "localhost", "127.0.0.2", "127.0.0.1:500"] {
            is_named("127.0.0.1:5000/a", &[named]).expect_err(named);
        }
    }
}

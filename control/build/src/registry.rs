//! Decides which registries a Dockerfile may name, and through which network each is reached.
//!
//! A name is a tenant's. One that could mean this machine or its own network is refused unless the operator has named
//! that registry; all others are reached as a step of the build would reach them, never from the host's network.

use crate::error::BuildError;
use miren_image::Reference;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

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
pub(crate) fn admit(images: &[String], named: &[String]) -> Result<Vec<Base>, BuildError> {
    let mut bases = Vec::new();
    for image in images {
        let Ok(reference) = image.parse::<Reference>() else {
            continue;
        };
        let registry = reference.registry().to_owned();
        let is_named = named.iter().any(|named| is_meant(named, &registry));
        if !is_named && is_private(host(&registry)) {
            return Err(BuildError::Registry {
                image: image.clone(),
                registry,
            });
        }
        bases.push(Base {
            image: image.clone(),
            registry,
            is_named,
        });
    }
    Ok(bases)
}

/// Whether an entry of the operator's is this registry: without a port it is every port of a host.
pub(crate) fn is_meant(named: &str, registry: &str) -> bool {
    named == registry || (port(named).is_none() && named == host(registry))
}

/// Without the port.
pub(crate) fn host(registry: &str) -> &str {
    match port(registry) {
        Some(port) => &registry[..registry.len() - port.len() - 1],
        None => registry,
    }
}

/// What follows the host, if anything does.
pub(crate) fn port(registry: &str) -> Option<&str> {
    let (_, port) = registry.rsplit_once(':')?;
    port.bytes().all(|byte| byte.is_ascii_digit()).then_some(port)
}

/// Whether it is on this machine, where there is nothing on the way to protect from.
pub(crate) fn is_loopback(registry: &str) -> bool {
    let host = host(registry).trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Whether a host could mean this machine or one near it: by a name without a domain, by a name that is nobody's in the
/// world, or by any form of an address that is not one of the world's.
fn is_private(host: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    if let Ok(address) = host.parse::<Ipv4Addr>() {
        return !is_of_the_world(address);
    }
    if host.starts_with('[') || host.parse::<Ipv6Addr>().is_ok() {
        return true;
    }
    match host.rsplit_once('.') {
        None => true,
        Some((_, last)) => is_number(last) || NOBODYS.contains(&last),
    }
}

/// Last labels of names that only a machine or its network knows (RFC 6761, RFC 6762, RFC 9476, ICANN's `internal`).
const NOBODYS: [&str; 5] = ["localhost", "local", "internal", "lan", "alt"];

/// Whether a resolver would take a name that ends so for an address: `127.1`, `2130706433`, `0x7f.1`, `0177.0.0.1`.
fn is_number(label: &str) -> bool {
    let digits = |text: &str, radix: u32| text.chars().all(|c| c.is_digit(radix));
    match label.strip_prefix("0x") {
        Some(hex) => digits(hex, 16),
        None => !label.is_empty() && digits(label, 10),
    }
}

fn is_of_the_world(address: Ipv4Addr) -> bool {
    let [first, second, ..] = address.octets();
    let is_shared = first == 100 && (64..128).contains(&second);
    let is_benchmark = first == 198 && (18..20).contains(&second);
    let is_near = address.is_loopback() || address.is_private() || address.is_link_local();
    // 224 and more: groups, nobody, everybody.
    !(is_near || is_shared || is_benchmark || first == 0 || first >= 224 || address.is_documentation())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(image: &str, named: &[&str]) -> Result<Vec<Base>, BuildError> {
        let named: Vec<String> = named.iter().map(|name| (*name).to_owned()).collect();
        admit(&[image.to_owned()], &named)
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
            assert!(is_private(host(registry)), "{registry}");
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

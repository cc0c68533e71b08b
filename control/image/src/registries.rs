//! Decides which registries may be asked: those of the world, and those of this machine and its network that the operator named.
//!
//! A name is a tenant's. One that could mean this machine or one near it is refused unless it is named, whoever is to ask
//! there: a build, or control for a deploy.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Registries that the operator named, as host or host:port. Without a port it is every port of a host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registries(Vec<String>);

/// It may be near, and nobody named it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0} may be this machine or its own network; if it is to be used, name it in images.registries of the server's control.toml (miren dev --registry)"
)]
pub(crate) struct Unnamed(pub(crate) String);

impl Registries {
    pub fn new(named: Vec<String>) -> Self {
        Self(named)
    }

    /// Whether the operator named this registry, given as host or host:port.
    pub fn is_named(&self, registry: &str) -> bool {
        let is_every_port =
            |named: &str| Authority(named).port().is_none() && host(registry).eq_ignore_ascii_case(named);
        let mut names = self.0.iter();
        names.any(|named| named.eq_ignore_ascii_case(registry) || is_every_port(named))
    }

    /// Whether it may be asked, as far as its name tells. A host of which another port is named is one that may be near.
    pub fn admits(&self, registry: &str) -> bool {
        let host = host(registry);
        self.is_named(registry) || !(self.knows(host) || is_private(host))
    }

    /// Whether any port of a host is named.
    pub(crate) fn knows(&self, host: &str) -> bool {
        self.0.iter().any(|named| self::host(named).eq_ignore_ascii_case(host))
    }
}

/// A host and, if it has one, a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Authority<'t>(pub &'t str);

impl<'t> Authority<'t> {
    /// Without the port.
    pub fn host(self) -> &'t str {
        match self.port() {
            Some(port) => &self.0[..self.0.len() - port.len() - 1],
            None => self.0,
        }
    }

    /// What follows the host, if anything does.
    pub fn port(self) -> Option<&'t str> {
        let (_, port) = self.0.rsplit_once(':')?;
        port.bytes().all(|byte| byte.is_ascii_digit()).then_some(port)
    }

    /// Whether it is on this machine, where there is nothing on the way to protect from.
    pub fn is_loopback(self) -> bool {
        let host = self.host().trim_matches(['[', ']']);
        host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

fn host(registry: &str) -> &str {
    Authority(registry).host()
}

/// Whether a host could mean this machine or one near it: by a name without a domain, by a name that is nobody's in the
/// world, or by any form of an address that is not one of the world's.
fn is_private(host: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    if let Ok(address) = host.parse::<Ipv4Addr>() {
        return !is_of_the_world(address.into());
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

/// Whether an address is one that means the same machine everywhere.
pub(crate) fn is_of_the_world(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_v4_of_the_world(address),
        IpAddr::V6(address) => match inner(address) {
            Some(inner) => is_v4_of_the_world(inner),
            // Global unicast (RFC 4291, RFC 9637), without documentation and benchmarks.
            None => {
                let [first, second, ..] = address.segments();
                let is_example = (first, second) == (0x2001, 0xdb8) || first & 0xfff0 == 0x3ff0;
                first & 0xe000 == 0x2000 && !is_example && (first, second) != (0x2001, 2)
            }
        },
    }
}

/// The address of version 4 that one of version 6 leads to: mapped, compatible, by a translator (RFC 6052, RFC 8215) or by 6to4.
fn inner(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [first, second, ..] = address.segments();
    let [.., a, b, c, d] = address.octets();
    let last = Ipv4Addr::new(a, b, c, d);
    match (first, second) {
        (0, 0) | (0x64, 0xff9b) => Some(last),
        (0x2002, _) => {
            let [_, _, a, b, c, d, ..] = address.octets();
            Some(Ipv4Addr::new(a, b, c, d))
        }
        _ => None,
    }
}

fn is_v4_of_the_world(address: Ipv4Addr) -> bool {
    let [first, second, third, _] = address.octets();
    let is_shared = first == 100 && (64..128).contains(&second);
    let is_benchmark = first == 198 && (18..20).contains(&second);
    let is_near = address.is_loopback() || address.is_private() || address.is_link_local();
    // 192.0.0.0/24 is for protocols; the other is Azure's metadata, in an address of the world.
    let is_metadata = (first, second, third) == (192, 0, 0) || address == Ipv4Addr::new(168, 63, 129, 16);
    // 224 and more: groups, nobody, everybody.
    !(is_near || is_shared || is_benchmark || is_metadata || first == 0 || first >= 224 || address.is_documentation())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(names: &[&str]) -> Registries {
        Registries::new(names.iter().map(|name| (*name).to_owned()).collect())
    }

    #[test]
    fn f1_names_that_could_mean_this_machine_are_refused() {
        for registry in [
            "127.0.0.1:5000",
            "127.1:5000",
            "127.0.0.2",
            "localhost",
            "localhost:9090",
            "LOCALHOST.:9090",
            "a.localhost:1",
            "0.0.0.0:80",
            "0:80",
            "2130706433:80",
            "0x7f000001:80",
            "0x7f.1:80",
            "0177.0.0.1:80",
            "169.254.169.254",
            "169.254.1.1:80",
            "168.63.129.16",
            "192.0.0.192",
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
            assert!(!named(&[]).admits(registry), "{registry}");
            assert!(named(&[registry]).admits(registry), "{registry}, named");
        }
    }

    #[test]
    fn f1_registries_of_the_world_need_no_name() {
        for registry in [
            "docker.io",
            "ghcr.io",
            "r.example.com:5000",
            "127.0.0.1.example.com",
            "8.8.8.8:5000",
        ] {
            assert!(named(&["127.0.0.1"]).admits(registry), "{registry}");
        }
    }

    #[test]
    fn f1_a_name_is_for_one_port_or_for_all() {
        assert!(named(&["127.0.0.1:5000"]).admits("127.0.0.1:5000"));
        assert!(named(&["127.0.0.1"]).admits("127.0.0.1:5000"));
        for other in ["127.0.0.1:5001", "localhost", "127.0.0.2", "127.0.0.1:500"] {
            assert!(!named(&[other]).admits("127.0.0.1:5000"), "{other}");
        }
        // Nobody knows where a name leads that looks like the world's. The operator knows of one that it may be near.
        assert!(!named(&["r.example.com:5000"]).admits("r.example.com:22"));
    }

    #[test]
    fn f1_addresses_of_the_world_are_told_from_all_others() {
        let is_of_the_world = |text: &str| super::is_of_the_world(text.parse().expect(text));
        for near in [
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::10.0.0.1",
            "64:ff9b::10.0.0.1",
            "64:ff9b:1::1",
            "2002:a00:1::1",
            "fe80::1",
            "fec0::1",
            "fd00:ec2::254",
            "ff02::1",
            "2001:db8::1",
            "2001:2::1",
            "3fff::1",
            "127.8.8.8",
        ] {
            assert!(!is_of_the_world(near), "{near}");
        }
        for far in ["1.1.1.1", "2606:4700::1111", "64:ff9b::1.1.1.1", "2a00:1450::1"] {
            assert!(is_of_the_world(far), "{far}");
        }
    }
}

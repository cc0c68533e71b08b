//! Whom a connection is counted for: an IPv4 address, or the /64 of an IPv6 one, which one client has for itself.

use crate::config::Network;
use std::net::IpAddr;

/// A client as limits know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Client {
    V4(u32),
    V6(u64),
}

/// How many connections one client may have open, and what happens to further ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    /// The operator's number: they are refused.
    Fixed(usize),
    /// A part of all places: each takes the place of the client's own oldest one without a request.
    Part(usize),
}

impl Limit {
    /// `limits.connections_per_ip`, where all together have `places`.
    ///
    /// Three quarters when nothing is set: an office or a carrier behind one address is no attack, and what one address keeps
    /// open without asking for anything is given up whenever it wants more; but a quarter is left for everybody else.
    pub fn of(per_ip: u32, places: usize) -> Self {
        match usize::try_from(per_ip).unwrap_or(usize::MAX) {
            0 => Self::Part((places - places / 4).max(1)),
            fixed => Self::Fixed(fixed),
        }
    }

    pub fn most(self) -> usize {
        match self {
            Self::Fixed(most) | Self::Part(most) => most,
        }
    }
}

impl Client {
    /// `None` for who is trusted to speak for many clients.
    pub fn of(address: IpAddr, trusted: &[Network]) -> Option<Self> {
        if trusted.iter().any(|network| network.contains(address)) {
            return None;
        }
        Some(match address.to_canonical() {
            IpAddr::V4(v4) => Self::V4(v4.to_bits()),
            IpAddr::V6(v6) => Self::V6((v6.to_bits() >> 64) as u64),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(address: &str) -> Option<Client> {
        let trusted = [
            Network::parse("10.1.0.0/16").unwrap(),
            Network::parse("2001:db8:f::/48").unwrap(),
        ];
        Client::of(address.parse().unwrap(), &trusted)
    }

    #[test]
    fn f13_a_client_is_an_ipv4_address_or_a_64_of_ipv6() {
        assert_eq!(client("192.0.2.1"), client("192.0.2.1"));
        assert_ne!(client("192.0.2.1"), client("192.0.2.2"));
        assert_eq!(
            client("192.0.2.1"),
            client("::ffff:192.0.2.1"),
            "as a dual-stack listener shows it"
        );
        assert_eq!(client("2001:db8:0:1::1"), client("2001:db8:0:1:ffff::9"));
        assert_ne!(client("2001:db8:0:1::1"), client("2001:db8:0:2::1"));
    }

    #[test]
    fn f13_who_is_trusted_is_not_counted() {
        assert_eq!(client("10.1.2.3"), None);
        assert_eq!(client("::ffff:10.1.2.3"), None);
        assert_eq!(client("2001:db8:f:1::1"), None);
        assert!(client("10.2.0.1").is_some());
    }

    #[test]
    fn f13_one_client_never_has_all_places_unless_told_so() {
        assert_eq!(Limit::of(0, 16_000), Limit::Part(12_000));
        assert_eq!(Limit::of(0, 1), Limit::Part(1));
        for places in 2..100 {
            assert!(Limit::of(0, places).most() <= places, "{places}");
        }
        assert!(Limit::of(0, 4).most() < 4);
        assert_eq!(Limit::of(2, 16_000), Limit::Fixed(2));
    }
}

//! Decides what the operator may say about where sandboxes and builds may go, and how that is written.

use std::fmt;
use std::net::Ipv4Addr;
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// Which destinations outside this machine are open to sandboxes and builds. The ingress and the name servers always are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Egress {
    /// Public addresses.
    #[default]
    Internet,
    /// Private ranges too.
    Open,
    /// Nothing but what is allowed by name.
    Deny,
}

/// Which connections the kernel keeps track of because of this node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tracking {
    /// Those that leave sandboxes for other machines.
    #[default]
    Egress,
    /// Every one, as the kernel does by itself.
    All,
}

/// How many connections and flows of one sandbox or build the kernel tracks at a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Connections {
    /// A thirty-second of what it tracks at most.
    #[default]
    Share,
    AtMost(NonZeroU32),
    /// As many as there is room for: a kernel that cannot count them.
    Uncounted,
}

/// Addresses that share a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Range {
    pub(super) network: Ipv4Addr,
    pub(super) prefix: u8,
}

impl Range {
    pub(super) const fn new(network: [u8; 4], prefix: u8) -> Self {
        let [a, b, c, d] = network;
        Self {
            network: Ipv4Addr::new(a, b, c, d),
            prefix,
        }
    }

    fn mask(self) -> u32 {
        u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0)
    }

    /// Whether all of `other` is in it.
    pub(super) fn covers(self, other: Self) -> bool {
        self.prefix <= other.prefix && u32::from(other.network) & self.mask() == u32::from(self.network)
    }

    fn has_host_bits(self) -> bool {
        u32::from(self.network) & !self.mask() != 0
    }
}

impl fmt::Display for Range {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.prefix {
            32 => write!(out, "{}", self.network),
            prefix => write!(out, "{}/{prefix}", self.network),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Tcp,
    Udp,
}

impl Protocol {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// A destination that is open whatever [`Egress`] says: `ADDRESS[/BITS][:PORT[-PORT]][/tcp|/udp]`.
///
/// It opens what it names and not all that it contains: addresses of this machine are opened by an entry that is one of
/// them, link-local addresses and other bridges of this machine by an entry that lies within them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    pub(super) range: Range,
    /// None: all.
    pub(super) ports: Option<RangeInclusive<u16>>,
    /// None: TCP and UDP where there are ports, else everything.
    pub(super) protocol: Option<Protocol>,
}

/// Why text is not a destination.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DestinationError {
    #[error("{0:?} is no destination; write it like \"10.0.0.0/8:5432\", \"192.0.2.7:53/udp\" or \"192.0.2.0/24\"")]
    Form(String),
    #[error("{0:?} is IPv6, which sandboxes do not have; write an IPv4 network")]
    V6(String),
    #[error("{given:?} has bits of a host below its prefix; write {network}")]
    HostBits { given: String, network: String },
    #[error("{0:?} is no range of ports: two numbers from 1 to 65535, the lower one first")]
    Ports(String),
}

impl Destination {
    /// Whether it is one address.
    pub(super) fn is_one_address(&self) -> bool {
        self.range.prefix == 32
    }

    /// `80` or `8000-8999`, if it names ports.
    pub(super) fn port_text(&self) -> Option<String> {
        let ports = self.ports.as_ref()?;
        Some(match ports.start() == ports.end() {
            true => ports.start().to_string(),
            false => format!("{}-{}", ports.start(), ports.end()),
        })
    }

    /// Whether TCP is among what it opens.
    pub(super) fn has_tcp(&self) -> bool {
        self.protocol != Some(Protocol::Udp)
    }
}

impl FromStr for Destination {
    type Err = DestinationError;

    fn from_str(text: &str) -> Result<Self, DestinationError> {
        let form = || DestinationError::Form(text.to_owned());
        if text.contains("::") || text.starts_with('[') {
            return Err(DestinationError::V6(text.to_owned()));
        }
        let (rest, protocol) = match text.rsplit_once('/') {
            Some((rest, "tcp")) => (rest, Some(Protocol::Tcp)),
            Some((rest, "udp")) => (rest, Some(Protocol::Udp)),
            _ => (text, None),
        };
        let (range, ports) = match rest.split_once(':') {
            Some((range, ports)) => (range, Some(parse_ports(ports)?)),
            None => (rest, None),
        };
        let range = parse_range(range).ok_or_else(form)?;
        if range.has_host_bits() {
            let network = Range {
                network: Ipv4Addr::from(u32::from(range.network) & range.mask()),
                ..range
            };
            return Err(DestinationError::HostBits {
                given: text.to_owned(),
                network: network.to_string(),
            });
        }
        Ok(Self { range, ports, protocol })
    }
}

fn parse_range(text: &str) -> Option<Range> {
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, decimal(prefix)?),
        None => (text, 32),
    };
    let prefix = u8::try_from(prefix).ok().filter(|prefix| *prefix <= 32)?;
    Some(Range {
        network: address.parse().ok()?,
        prefix,
    })
}

fn parse_ports(text: &str) -> Result<RangeInclusive<u16>, DestinationError> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (decimal(first), decimal(last)) {
        (Some(first), Some(last)) if first != 0 && first <= last => Ok(first..=last),
        _ => Err(DestinationError::Ports(text.to_owned())),
    }
}

/// Digits only: no sign, no blank.
fn decimal(text: &str) -> Option<u16> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

impl fmt::Display for Destination {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.range)?;
        if let Some(ports) = self.port_text() {
            write!(out, ":{ports}")?;
        }
        match self.protocol {
            Some(protocol) => write!(out, "/{}", protocol.name()),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Destination, String> {
        text.parse().map_err(|error: DestinationError| error.to_string())
    }

    #[test]
    fn f3_a_destination_is_read_as_it_is_written() {
        for text in [
            "10.0.0.0/8:5432",
            "10.0.0.0/8",
            "192.0.2.7",
            "192.0.2.7:53/udp",
            "192.0.2.0/24:8000-8999/tcp",
            "0.0.0.0/0:443",
            "192.0.2.7/tcp",
        ] {
            assert_eq!(
                parse(text).map(|destination| destination.to_string()),
                Ok(text.to_owned())
            );
        }
        assert_eq!(parse("192.0.2.7/32:80"), parse("192.0.2.7:80"));
    }

    #[test]
    fn f3_what_is_no_destination_is_refused_with_the_reason() {
        for (text, why) in [
            ("", "is no destination"),
            ("db.internal:5432", "is no destination"),
            ("10.0.0.0/33", "is no destination"),
            ("10.0.0.0/+8", "is no destination"),
            ("10.0.0.0 /8", "is no destination"),
            ("10.0.0/8", "is no destination"),
            ("10.0.0.0/8/sctp", "is no destination"),
            ("10.0.0.0/8:5432/tcp/udp", "range of ports"),
            ("10.0.0.1/8:5432", "write 10.0.0.0/8"),
            ("10.0.0.0/8:0", "range of ports"),
            ("10.0.0.0/8:", "range of ports"),
            ("10.0.0.0/8:65536", "range of ports"),
            ("10.0.0.0/8:9-8", "range of ports"),
            ("10.0.0.0/8:+9", "range of ports"),
            ("10.0.0.0/8:1-2-3", "range of ports"),
            ("fd00::/8", "IPv6"),
            ("[fd00::1]:80", "IPv6"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(why), "{text:?}: {error}");
        }
    }

    #[test]
    fn f3_a_range_covers_what_lies_within_it() {
        let range = |text: &str| parse(text).expect(text).range;
        assert!(range("169.254.0.0/16").covers(range("169.254.169.254")));
        assert!(range("0.0.0.0/0").covers(range("10.0.0.0/8")));
        assert!(!range("10.0.0.0/8").covers(range("0.0.0.0/0")));
        assert!(!range("10.0.0.0/8").covers(range("11.0.0.0/8")));
    }
}

//! Which client addresses a network written as `10.0.0.0/8` or `192.0.2.7` covers.

use std::net::{IpAddr, Ipv6Addr};

/// Addresses that share a prefix. IPv4 is compared in its form mapped into IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    prefix: u128,
    mask: u128,
}

/// Bits in front of an IPv4 address that is mapped into IPv6.
const MAPPED_BITS: u32 = 96;

impl Network {
    /// Parses `ADDRESS` or `ADDRESS/BITS`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("{text:?} is not an address or a network; write it like \"192.0.2.7\" or \"10.0.0.0/8\"");
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse::<u32>().map_err(|_| wrong())?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(longest);
        if bits > longest {
            return Err(wrong());
        }
        let bits = if address.is_ipv4() { bits + MAPPED_BITS } else { bits };
        let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
        Ok(Self {
            prefix: number(address) & mask,
            mask,
        })
    }

    /// Whether `address` is in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        number(address) & self.mask == self.prefix
    }
}

fn number(address: IpAddr) -> u128 {
    let mapped: Ipv6Addr = match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    mapped.to_bits()
}

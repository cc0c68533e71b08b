//! Decides which addresses a node's subnet has and which of them belongs to which slot.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// An IPv4 network of sandboxes. Its first address is the bridge's, slot `n` has the `n + 2`nd.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Subnet {
    network: Ipv4Addr,
    prefix: u8,
}

/// Longest prefix with room for the bridge and one sandbox.
const LONGEST_PREFIX: u8 = 30;
/// Shortest prefix: `10.0.0.0/8` is the largest private network.
const SHORTEST_PREFIX: u8 = 8;

/// Why text is not a subnet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubnetError {
    #[error("{0:?} is not an IPv4 network; write it like \"10.88.0.0/16\"")]
    Form(String),
    #[error("/{0} does not work: the prefix is from /{SHORTEST_PREFIX} to /{LONGEST_PREFIX}")]
    Prefix(u8),
    #[error("{given} is an address inside {network}; write the network itself")]
    HostBits { given: String, network: Subnet },
}

impl Subnet {
    /// The bridge's address, which is every sandbox's gateway.
    pub fn gateway(&self) -> Ipv4Addr {
        self.nth(1)
    }

    /// The address without host bits.
    pub fn network(&self) -> Ipv4Addr {
        self.network
    }

    /// Length of the network part, in bits.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// How many sandboxes it has addresses for: all but the network, the gateway and the broadcast address.
    pub fn sandboxes(&self) -> u32 {
        (1_u32 << (32 - self.prefix)) - 3
    }

    /// The address that belongs to a slot.
    pub fn address(&self, slot: u32) -> Option<Ipv4Addr> {
        (slot < self.sandboxes()).then(|| self.nth(slot + 2))
    }

    fn nth(&self, number: u32) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.network) + number)
    }
}

impl FromStr for Subnet {
    type Err = SubnetError;

    fn from_str(text: &str) -> Result<Self, SubnetError> {
        let wrong = || SubnetError::Form(text.to_owned());
        let (address, prefix) = text.split_once('/').ok_or_else(wrong)?;
        let address: Ipv4Addr = address.parse().map_err(|_| wrong())?;
        let prefix: u8 = prefix.parse().map_err(|_| wrong())?;
        if !(SHORTEST_PREFIX..=LONGEST_PREFIX).contains(&prefix) {
            return Err(SubnetError::Prefix(prefix));
        }
        let network = Ipv4Addr::from(u32::from(address) & (u32::MAX << (32 - prefix)));
        let subnet = Self { network, prefix };
        if network != address {
            return Err(SubnetError::HostBits {
                given: address.to_string(),
                network: subnet,
            });
        }
        Ok(subnet)
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.network, self.prefix)
    }
}

impl TryFrom<String> for Subnet {
    type Error = SubnetError;

    fn try_from(text: String) -> Result<Self, SubnetError> {
        text.parse()
    }
}

impl From<Subnet> for String {
    fn from(subnet: Subnet) -> Self {
        subnet.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn k5_every_slot_has_an_address_of_its_own() {
        let subnet: Subnet = "10.200.8.0/29".parse().expect("a subnet");
        assert_eq!(subnet.gateway(), Ipv4Addr::new(10, 200, 8, 1));
        assert_eq!(subnet.sandboxes(), 5);
        assert_eq!(subnet.address(0), Some(Ipv4Addr::new(10, 200, 8, 2)));
        assert_eq!(subnet.address(4), Some(Ipv4Addr::new(10, 200, 8, 6)));
        assert_eq!(subnet.address(5), None, "the broadcast address belongs to no slot");
    }

    #[test]
    fn what_is_no_network_is_refused_with_the_reason() {
        let parse = |text: &str| text.parse::<Subnet>().map_err(|error| error.to_string());
        assert!(parse("10.88.0.0").is_err_and(|e| e.contains("10.88.0.0/16")));
        assert!(parse("10.88.0.0/31").is_err_and(|e| e.contains("/30")));
        assert!(parse("10.88.0.7/16").is_err_and(|e| e.contains("10.88.0.0/16")));
        assert_eq!(
            parse("10.88.0.0/16").map(|subnet| subnet.to_string()),
            Ok("10.88.0.0/16".to_owned())
        );
    }
}

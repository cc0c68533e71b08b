//! Decides what the rules have to know of the machine around: its name servers, and which of its bridges lead where.

use super::egress::{Destination, Range};
use crate::bundle::resolvers;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

/// `RTF_UP` (linux/route.h).
const UP: u32 = 1;

/// What is read anew before each boot and when routes change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Surroundings {
    /// Name servers that sandboxes are told of.
    pub(super) resolvers: Vec<Ipv4Addr>,
    /// Bridges that a default route leads through.
    pub(super) uplinks: Vec<String>,
    /// Networks that are reached through bridges which are not.
    pub(super) bridged: Vec<Range>,
    /// Connections that the kernel tracks at most. None: it tracks none yet.
    pub(super) table: Option<u32>,
}

impl Surroundings {
    /// Of the namespace of the calling thread, whose bridges these are.
    pub(super) fn read(bridges: &[String]) -> std::io::Result<Self> {
        let routes = std::fs::read_to_string("/proc/thread-self/net/route")?;
        let table = std::fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_max").ok();
        Ok(Self {
            table: table.and_then(|text| text.trim().parse().ok()),
            ..Self::of(&resolvers(Path::new("/")), &routes, bridges)
        })
    }

    /// Without the networks that no entry lies within: other bridges come and go.
    pub(super) fn limited_to(mut self, allow: &[Destination]) -> Self {
        self.bridged
            .retain(|range| allow.iter().any(|entry| range.covers(entry.range)));
        self
    }

    fn of(resolvers: &str, routes: &str, bridges: &[String]) -> Self {
        let routes: Vec<(String, Range)> = routes.lines().skip(1).filter_map(route).collect();
        let through_bridges = || routes.iter().filter(|(name, _)| bridges.contains(name));
        let mut uplinks: Vec<String> = through_bridges()
            .filter(|(_, range)| range.prefix == 0)
            .map(|(name, _)| name.clone())
            .collect();
        uplinks.sort_unstable();
        uplinks.dedup();
        let mut bridged: Vec<Range> = through_bridges()
            .filter(|(name, _)| !uplinks.contains(name))
            .map(|(_, range)| *range)
            .collect();
        bridged.sort_unstable();
        bridged.dedup();
        Self {
            resolvers: name_servers(resolvers),
            uplinks,
            bridged,
            table: None,
        }
    }
}

/// In the form of `resolv.conf`. IPv6 ones cannot be reached.
fn name_servers(text: &str) -> Vec<Ipv4Addr> {
    let servers = text.lines().filter_map(|line| line.strip_prefix("nameserver"));
    let mut servers: Vec<Ipv4Addr> = servers
        .filter_map(|server| match server.trim().parse() {
            Ok(IpAddr::V4(server)) => Some(server),
            _ => None,
        })
        .collect();
    servers.sort_unstable();
    servers.dedup();
    servers
}

/// Fields: interface, destination, gateway, flags, …, mask; numbers in hexadecimal, addresses in network byte order.
fn route(line: &str) -> Option<(String, Range)> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let number = |at: usize| u32::from_str_radix(fields.get(at)?, 16).ok();
    if number(3)? & UP == 0 {
        return None;
    }
    let (network, mask) = (u32::from_be(number(1)?), u32::from_be(number(7)?));
    let range = Range {
        network: Ipv4Addr::from(network),
        prefix: u8::try_from(mask.leading_ones()).ok()?,
    };
    Some(((*fields.first()?).to_owned(), range))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTES: &str = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
        br0\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
        br0\t0000000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n\
        docker0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n\
        eth1\t0000A8C0\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n\
        *\t00004C0A\t00000000\t0200\t0\t0\t9999\t0000FFFF\t0\t0\t0\n";

    #[test]
    fn f3_a_bridge_with_the_default_route_is_no_other_bridge() {
        let seen = Surroundings::of("", ROUTES, &["br0".to_owned(), "docker0".to_owned()]);
        assert_eq!(seen.uplinks, ["br0"]);
        assert_eq!(seen.bridged, [Range::new([172, 17, 0, 0], 16)]);
    }

    #[test]
    fn f3_name_servers_are_those_that_sandboxes_are_told_of() {
        let text =
            "search example.com\nnameserver 10.0.0.2\nnameserver fd00::1\nnameserver 1.1.1.1\nnameserver 10.0.0.2\n";
        let seen = Surroundings::of(text, ROUTES, &[]);
        assert_eq!(seen.resolvers, [Ipv4Addr::new(1, 1, 1, 1), Ipv4Addr::new(10, 0, 0, 2)]);
    }
}

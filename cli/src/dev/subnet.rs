//! Which addresses a dev node's sandboxes get: derived from its name, next to what the machine routes already.

use std::net::Ipv4Addr;

/// Sandboxes of dev nodes are in 10.64.0.0/10, clear of the default of production (10.88.0.0/16 is skipped when routed).
const RANGE: u32 = 0x0a40_0000;
/// Each dev node gets a /20: 4096 addresses, as many as the slot table has slots by default.
const PREFIX: u8 = 20;
const SIZE: u32 = 1 << (32 - PREFIX);
/// How many /20 fit in a /10.
const COUNT: u32 = 1 << (PREFIX - 10);
/// What production uses unless told otherwise; never taken, whether or not it is up right now.
const PRODUCTION: Network = Network {
    address: 0x0a58_0000,
    mask: 0xffff_0000,
};

/// An IPv4 network of the routing table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    address: u32,
    mask: u32,
}

impl Network {
    fn overlaps(self, other: Self) -> bool {
        let mask = self.mask & other.mask;
        self.address & mask == other.address & mask
    }
}

/// The same number for the same text, on every machine and with every version: FNV-1a (32 bits).
pub fn name_hash(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}

/// Flag of a route that only refuses packets (RTF_REJECT, linux/route.h): it carries nobody's traffic.
const REJECT: u32 = 0x200;

/// One line of `/proc/net/route`.
struct Route<'t> {
    interface: &'t str,
    network: Network,
}

/// The subnet for `name`: the one its bridge still has from an earlier run, else its own place in the range, or the next
/// one that `routes` leaves free.
///
/// `routes` is the text of `/proc/net/route`. `None`: every place is taken.
pub fn choose(name: &str, bridge: &str, routes: &str) -> Option<String> {
    let routes: Vec<Route<'_>> = routes.lines().filter_map(parse).collect();
    let (own, others): (Vec<_>, Vec<_>) = routes.into_iter().partition(|route| route.interface == bridge);
    let first = name_hash(name) % COUNT;
    let places = (0..COUNT).map(|step| Network {
        address: RANGE + (first + step) % COUNT * SIZE,
        mask: !(SIZE - 1),
    });
    let is_free =
        |place: &Network| !place.overlaps(PRODUCTION) && !others.iter().any(|route| route.network.overlaps(*place));
    let place = own
        .first()
        .map(|route| route.network)
        .or_else(|| places.into_iter().find(is_free))?;
    Some(format!("{}/{}", Ipv4Addr::from(place.address), place.mask.count_ones()))
}

/// Fields: interface, destination, gateway, flags, …, mask; numbers in hexadecimal, addresses in network byte order.
fn parse(line: &str) -> Option<Route<'_>> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let number = |index: usize| u32::from_str_radix(fields.get(index)?, 16).ok();
    let network = Network {
        address: u32::from_be(number(1)?),
        mask: u32::from_be(number(7)?),
    };
    // The default route covers everything and says nothing about what is in use here.
    let counts = network.mask != 0 && number(3)? & REJECT == 0;
    counts.then_some(Route {
        interface: fields[0],
        network,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n";

    fn routes(lines: &[(&str, &str, u32)]) -> String {
        let rows = lines.iter().map(|(interface, address, bits)| {
            let address = u32::from(address.parse::<Ipv4Addr>().unwrap()).to_be();
            let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0).to_be();
            format!("{interface}\t{address:08X}\t00000000\t0001\t0\t0\t0\t{mask:08X}\t0\t0\t0\n")
        });
        HEADER.to_owned() + &rows.collect::<String>()
    }

    #[test]
    fn a_name_has_one_place_and_names_differ() {
        let free = routes(&[("eth0", "0.0.0.0", 0), ("eth0", "192.168.1.0", 24)]);
        assert_eq!(choose("dev", "mi-x", &free), choose("dev", "mi-x", &free));
        assert_ne!(choose("dev", "mi-x", &free), choose("other", "mi-y", &free));
        let place = choose("dev", "mi-x", &free).unwrap();
        let address: Ipv4Addr = place.strip_suffix("/20").unwrap().parse().unwrap();
        assert_eq!(u32::from(address) & 0xffc0_0000, RANGE);
        assert_eq!(u32::from(address) % SIZE, 0);
    }

    #[test]
    fn a_routed_place_is_left_for_the_next() {
        let place = choose("dev", "mi-x", HEADER).unwrap();
        let address: Ipv4Addr = place.strip_suffix("/20").unwrap().parse().unwrap();
        let inside = Ipv4Addr::from(u32::from(address) + 256).to_string();
        let next = choose("dev", "mi-x", &routes(&[("eth1", &inside, 24)])).unwrap();
        assert_ne!(next, place);
    }

    #[test]
    fn the_bridge_of_an_earlier_run_keeps_its_subnet() {
        let left = routes(&[("mi-x", "10.70.16.0", 20), ("mi-y", "10.71.0.0", 20)]);
        assert_eq!(choose("dev", "mi-x", &left).unwrap(), "10.70.16.0/20");
    }

    #[test]
    fn a_route_that_only_refuses_takes_no_place() {
        let place = choose("dev", "mi-x", HEADER).unwrap();
        let refusing = routes(&[("*", place.strip_suffix("/20").unwrap(), 20)]).replace("\t0001\t", "\t0201\t");
        assert_eq!(choose("dev", "mi-x", &refusing).unwrap(), place);
    }

    #[test]
    fn a_machine_that_routes_all_of_it_leaves_none() {
        assert_eq!(choose("dev", "mi-x", &routes(&[("vpn", "10.0.0.0", 8)])), None);
    }

    #[test]
    fn productions_subnet_is_never_taken() {
        for number in 0..5_000 {
            let place = choose(&format!("n{number}"), "mi-x", HEADER).unwrap();
            assert!(!place.starts_with("10.88."), "{place}");
        }
    }
}

//! Decides what can be set of the sandboxes' network.

use miren_api::settings::Table;
use miren_sandbox::{Connections, Destination, Egress, Subnet, Tracking};
use std::net::SocketAddr;
use std::num::NonZeroU32;

/// The sandboxes' network.
#[derive(Clone, Debug)]
pub struct Network {
    pub bridge: String,
    pub subnet: Subnet,
    pub egress: Egress,
    pub allow: Vec<Destination>,
    /// Where the proxy of this machine listens; empty: as the URLs of apps say.
    pub ingress: Vec<SocketAddr>,
    pub tracking: Tracking,
    pub connections: Connections,
}

/// A name of a network device has at most 15 characters (IFNAMSIZ less the end).
const DEVICE_NAME_MAX: usize = 15;

pub(super) fn declare(network: &mut Table<'_, '_, '_>) -> Network {
    Network {
        bridge: network.parsed("bridge", "miren0", "Bridge of the sandboxes; made if absent.", |text| {
            let fits = (1..=DEVICE_NAME_MAX).contains(&text.len());
            let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
            match fits && plain && text != "." && text != ".." {
                true => Ok(text.to_owned()),
                false => Err(format!(
                    "{text:?} is no name for a bridge: 1 to {DEVICE_NAME_MAX} letters, digits, '-', '_', '.'"
                )),
            }
        }),
        subnet: network.parsed("subnet", "10.88.0.0/16", "Addresses of the sandboxes.", |text| {
            text.parse::<Subnet>().map_err(|why| why.to_string())
        }),
        egress: network.choice(
            "egress",
            "internet",
            "What sandboxes and builds reach besides the ingress and the name servers: `internet`: public addresses; `open`: private ranges too; `deny`: nothing.",
            &[("internet", Egress::Internet), ("open", Egress::Open), ("deny", Egress::Deny)],
        ),
        allow: network.list(
            "allow",
            &[],
            "What they reach whatever `egress` says, as `ADDRESS[/BITS][:PORT[-PORT]][/tcp|/udp]`: `10.0.0.0/8:5432`. An address of this machine is opened by an entry of its own, link-local addresses and other bridges by one that lies within them.",
            |text| text.parse::<Destination>().map_err(|why| why.to_string()),
        ),
        ingress: network.list(
            "ingress",
            &[],
            "Where the proxy on this machine listens (its `listen.http`): open to sandboxes, not tracked. Every address, at `ingress.port` or the usual ports of `ingress.scheme`, unless set.",
            |text| text.parse().map_err(|_| format!("{text:?} is not ADDRESS:PORT")),
        ),
        tracking: network.choice(
            "tracking",
            "egress",
            "Connections that the kernel tracks because of this node: `egress`: those that leave sandboxes; `all`: every one, for machines whose own rules lead connections from the ingress elsewhere.",
            &[("egress", Tracking::Egress), ("all", Tracking::All)],
        ),
        connections: connections(network),
    }
}

/// More than the kernel tracks on any machine.
const CONNECTIONS_MAX: i64 = 1 << 30;

fn connections(network: &mut Table<'_, '_, '_>) -> Connections {
    let doc = "Connections and flows of one sandbox or build that the kernel tracks at a time, and a twentieth of that many new ones a second \
               once as many have been opened; others are refused. 0: a thirty-second of `net.netfilter.nf_conntrack_max`, 8,192 of 262,144.";
    let most = network.integer("connections", 0, 0..=CONNECTIONS_MAX, doc);
    let most = u32::try_from(most).ok().and_then(NonZeroU32::new);
    most.map_or(Connections::Share, Connections::AtMost)
}

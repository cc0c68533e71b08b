//! Decides which rules the kernel gets: what sandboxes and builds may reach, and which connections are tracked.
//!
//! Two tables that are this node's alone. `ip`: who may be reached, tracking, masquerading. `bridge`: who may claim an address.
//! What is not tracked is told by its packets alone.

use super::chain::{Chain, Family, Hook, Rule};
use super::egress::{Connections, Destination, Egress, Protocol, Range, Tracking};
use super::surroundings::Surroundings;
use super::{Subnet, names};
use std::fmt::Write;
use std::net::{Ipv4Addr, SocketAddrV4};

mod bounds;

/// Ahead of connection tracking, which is at -200 (`NF_IP_PRI_CONNTRACK`).
const RAW: i32 = -300;
const FILTER: i32 = 0;
/// `NF_IP_PRI_NAT_SRC`.
const SOURCE_NAT: i32 = 100;

/// Never a destination: this host, loopback, link-local and with it metadata services, multicast, reserved; and the
/// metadata services that have addresses of other kinds (Azure, Alibaba, Oracle).
const NEVER: [Range; 8] = [
    Range::new([0, 0, 0, 0], 8),
    Range::new([100, 100, 100, 200], 32),
    Range::new([127, 0, 0, 0], 8),
    Range::new([168, 63, 129, 16], 32),
    Range::new([169, 254, 0, 0], 16),
    Range::new([192, 0, 0, 0], 24),
    Range::new([224, 0, 0, 0], 4),
    Range::new([240, 0, 0, 0], 4),
];
/// RFC 1918, RFC 6598, RFC 2544.
const PRIVATE: [Range; 5] = [
    Range::new([10, 0, 0, 0], 8),
    Range::new([100, 64, 0, 0], 10),
    Range::new([172, 16, 0, 0], 12),
    Range::new([192, 168, 0, 0], 16),
    Range::new([198, 18, 0, 0], 15),
];

/// Flows to this machine that are tracked although their like are not: somebody's rule has rewritten their destination.
/// By the other end's address and port. 120 bytes each at most.
const TRACKED: &str =
    "set ip TABLE tracked { type ipv4_addr . inet_service; size 524288; flags dynamic,timeout; timeout 2m; }";
const PORTS: &str = "set bridge TABLE ports { typeof iifname . ether saddr . ip saddr; }";

/// Everything the rules are made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) node: String,
    pub(super) bridge: String,
    pub(super) subnet: Subnet,
    /// Slots, from 0 on, whose interface may claim its address.
    pub(super) ports: u32,
    pub(super) egress: Egress,
    pub(super) allow: Vec<Destination>,
    /// Where the proxy of this machine listens.
    pub(super) ingress: Vec<SocketAddrV4>,
    pub(super) tracking: Tracking,
    pub(super) connections: Connections,
    pub(super) around: Surroundings,
}

impl Wanted {
    /// The chains, in an order in which each is there before another jumps to it.
    pub(super) fn chains(&self) -> Vec<Chain> {
        let [incoming, outgoing] = self.untracked();
        let mut chains = vec![
            note(),
            self.to_host(),
            self.out(),
            self.inward(),
            incoming,
            outgoing,
            self.input(),
            self.forward(),
            self.postrouting(),
            self.identities(),
        ];
        chains.extend(self.begin());
        chains
    }

    /// One transaction: there is no moment without the rules. What is in the sets stays, unless it is made `anew`.
    pub(super) fn script(&self, anew: bool) -> String {
        let table = names::table(&self.node);
        let mut script = String::new();
        for family in [Family::Ip, Family::Bridge] {
            let family = family.name();
            // Adding first makes the deletion work when there is none.
            let again = if anew {
                format!("delete table {family} {table}\nadd table {family} {table}\n")
            } else {
                String::new()
            };
            let _ = write!(script, "add table {family} {table}\n{again}");
        }
        let sets = [TRACKED, PORTS].map(|set| set.replace("TABLE", &table));
        for set in sets.into_iter().chain(self.counters(&table)) {
            let _ = writeln!(script, "add {set}");
        }
        let chains = self.chains();
        for Chain { family, name, hook, .. } in &chains {
            let hook = hook.map(|Hook { kind, at, priority }| {
                format!(" {{ type {kind} hook {at} priority {priority}; policy accept; }}")
            });
            let _ = writeln!(
                script,
                "add chain {} {table} {name}{}",
                family.name(),
                hook.unwrap_or_default()
            );
        }
        let _ = write!(
            script,
            "flush table ip {table}\nflush table bridge {table}\n{}",
            self.elements(&table)
        );
        for chain in &chains {
            for Rule { text, comment } in &chain.rules {
                let (family, name) = (chain.family.name(), chain.name);
                let _ = writeln!(script, "add rule {family} {table} {name} {text} comment \"{comment}\"");
            }
        }
        script
    }

    /// Which interface has which hardware address and which address.
    fn elements(&self, table: &str) -> String {
        let element = |slot| {
            let address = self.subnet.address(slot)?;
            let hardware: Vec<String> = names::hardware_address(address)
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            Some(format!(
                "{} . {} . {address}",
                names::veth(&self.node, slot),
                hardware.join(":")
            ))
        };
        let elements: Vec<String> = (0..self.ports).filter_map(element).collect();
        match elements.is_empty() {
            true => String::new(),
            false => format!("add element bridge {table} ports {{ {} }}\n", elements.join(", ")),
        }
    }

    /// What is exempt from tracking, as it comes and as it goes. Answers of sandboxes are what is no first packet of TCP.
    fn untracked(&self) -> [Chain; 2] {
        let mut incoming = Chain::new("untrack_in").at("filter", "prerouting", RAW);
        let mut outgoing = Chain::new("untrack_out").at("filter", "output", RAW);
        if self.tracking == Tracking::All {
            return [incoming, outgoing];
        }
        let bridge = &self.bridge;
        outgoing.rule("tracked as an exception", "ip daddr . tcp dport @tracked accept");
        for listener in &self.ingress {
            incoming.rule("to the ingress", format!("{} notrack", to(listener)));
            outgoing.rule("to the ingress", format!("{} notrack", to(listener)));
            outgoing.rule("from the ingress", format!("{} notrack", from(listener)));
        }
        incoming.rule(
            "tracked as an exception",
            format!("iifname \"{bridge}\" ip saddr . tcp sport @tracked accept"),
        );
        incoming.rule(
            "sandboxes connect",
            format!("iifname \"{bridge}\" tcp flags & (syn | ack) == syn accept"),
        );
        incoming.rule(
            "sandboxes answer",
            format!("iifname \"{bridge}\" meta l4proto tcp fib daddr type local notrack"),
        );
        outgoing.rule("to sandboxes", format!("oifname \"{bridge}\" meta l4proto tcp notrack"));
        [incoming, outgoing]
    }

    /// What comes to this machine.
    fn input(&self) -> Chain {
        let mut chain = Chain::new("input").at("filter", "input", FILTER);
        chain.rule("around the bridge", self.around_bridge());
        for listener in &self.ingress {
            chain.rule(
                "led to the ingress",
                format!("{} ct status dnat jump note", to(listener)),
            );
        }
        chain.rule("from sandboxes", format!("iifname \"{}\" jump to_host", self.bridge));
        chain
    }

    /// Frames to the groups of a link (01-80-C2-00-00-0X) are not for bridges: the kernel takes them as come from the port itself.
    fn around_bridge(&self) -> String {
        format!("iifname \"{}*\" drop", names::veth_prefix(&self.node))
    }

    /// What sandboxes send to this machine.
    fn to_host(&self) -> Chain {
        let mut chain = Chain::new("to_host");
        chain.rule("not ours", format!("ip saddr != {} drop", self.subnet));
        for listener in &self.ingress {
            chain.rule("the ingress", format!("{} accept", to(listener)));
        }
        for entry in self.allow.iter().filter(|entry| entry.is_one_address()) {
            let address = format!("ip daddr {}", entry.range);
            if entry.has_tcp() {
                let tcp = Destination {
                    protocol: Some(Protocol::Tcp),
                    ..entry.clone()
                };
                chain.rule(format!("allow {entry}"), format!("{address}{} jump note", what(&tcp)));
            }
            chain.rule(format!("allow {entry}"), format!("{address}{} accept", what(entry)));
        }
        if let Some(servers) = self.resolvers() {
            chain.rule("name servers", format!("ip daddr {servers} tcp dport 53 jump note"));
            chain.rule(
                "name servers",
                format!("ip daddr {servers} meta l4proto {{ tcp, udp }} th dport 53 accept"),
            );
        }
        chain.rule("answers", "meta l4proto != tcp ct state established,related accept");
        chain.rule("answers", "tcp flags & (syn | ack) != syn accept");
        chain.rule("this machine", "meta l4proto tcp reject with tcp reset");
        chain.rule("this machine", "reject with icmp admin-prohibited");
        chain
    }

    fn forward(&self) -> Chain {
        let mut chain = Chain::new("forward").at("filter", "forward", FILTER);
        chain.rule("around the bridge", self.around_bridge());
        chain.rule("from sandboxes", format!("iifname \"{}\" jump out", self.bridge));
        chain.rule("to sandboxes", format!("oifname \"{}\" jump inward", self.bridge));
        chain
    }

    /// What sandboxes send to other machines. All of it is tracked: only answers go by what was tracked, the rest is
    /// judged packet by packet, so that a change holds for what is open already.
    fn out(&self) -> Chain {
        let mut chain = Chain::new("out");
        chain.rule("not ours", format!("ip saddr != {} drop", self.subnet));
        chain.rule("answers", "ct direction reply accept");
        chain.rule("answers", "ct state related accept");
        chain.rule("belongs to nothing", "ct state invalid drop");
        chain.rule("led elsewhere", "meta l4proto tcp ct status dnat jump note");
        chain.rule("other sandboxes", format!("oifname \"{}\" {REFUSED}", self.bridge));
        if let Some(servers) = self.resolvers() {
            chain.rule(
                "name servers",
                format!("ip daddr {servers} meta l4proto {{ tcp, udp }} th dport 53 accept"),
            );
        }
        for entry in self.allow.iter().filter(|entry| entry.is_one_address()) {
            chain.rule(format!("allow {entry}"), led_elsewhere(entry));
        }
        let (named, others): (Vec<_>, Vec<_>) = self.allow.iter().partition(|entry| self.is_named(entry));
        let allow = |entry: &Destination| format!("ip daddr {}{} accept", entry.range, what(entry));
        for entry in named {
            chain.rule(format!("allow {entry}"), allow(entry));
        }
        chain.rule("never", format!("ip daddr {} {REFUSED}", list(&NEVER)));
        let uplinks: String = self
            .around
            .uplinks
            .iter()
            .map(|name| format!("oifname != \"{name}\" "))
            .collect();
        chain.rule("other bridges", format!("meta oifkind \"bridge\" {uplinks}{REFUSED}"));
        for entry in others {
            chain.rule(format!("allow {entry}"), allow(entry));
        }
        match self.egress {
            Egress::Internet => chain.rule("egress is internet", format!("ip daddr {} {REFUSED}", list(&PRIVATE))),
            Egress::Deny => chain.rule("egress is deny", REFUSED),
            Egress::Open => {}
        }
        chain
    }

    /// Whether an entry lies within what is closed to wider ones.
    fn is_named(&self, entry: &Destination) -> bool {
        let closed = NEVER.iter().chain(&self.around.bridged);
        closed.into_iter().any(|range| range.covers(entry.range))
    }

    fn postrouting(&self) -> Chain {
        let mut chain = Chain::new("postrouting").at("nat", "postrouting", SOURCE_NAT);
        let subnet = self.subnet;
        chain.rule("leaves", format!("ip saddr {subnet} ip daddr != {subnet} masquerade"));
        chain
    }

    /// A port of the bridge sends from the addresses of its slot, IPv4 and ARP, and nothing else.
    fn identities(&self) -> Chain {
        let mut chain = Chain::new("identities").at("filter", "prerouting", RAW);
        chain.family = Family::Bridge;
        let prefix = names::veth_prefix(&self.node);
        chain.rule("not ours", format!("iifname != \"{prefix}*\" accept"));
        chain.rule("IPv4", "iifname . ether saddr . ip saddr @ports accept");
        chain.rule(
            "ARP",
            "arp htype 1 arp ptype ip arp hlen 6 arp plen 4 iifname . ether saddr . arp saddr ip @ports \
             iifname . arp saddr ether . arp saddr ip @ports accept",
        );
        chain.rule("anything else", "drop");
        chain
    }

    fn resolvers(&self) -> Option<String> {
        let servers: Vec<String> = self.around.resolvers.iter().map(Ipv4Addr::to_string).collect();
        (!servers.is_empty()).then(|| format!("{{ {} }}", servers.join(", ")))
    }
}

const REFUSED: &str = "reject with icmp admin-prohibited";

/// Remembers the flow of a packet as one that is tracked: for as long as it is established, else for as long as an end takes.
/// 125 s are more than any state of a connection that is not established lasts by default.
fn note() -> Chain {
    let mut chain = Chain::new("note");
    chain.rule(
        "established",
        "ct expiration > 125s update @tracked { ip saddr . tcp sport timeout 1d } return",
    );
    chain.rule("begins or ends", "update @tracked { ip saddr . tcp sport timeout 2m }");
    chain
}

/// To a listener of this machine.
fn to(listener: &SocketAddrV4) -> String {
    let port = listener.port();
    match listener.ip() {
        ip if ip.is_unspecified() => format!("tcp dport {port} fib daddr type local"),
        ip => format!("ip daddr {ip} tcp dport {port}"),
    }
}

/// From a listener of this machine.
fn from(listener: &SocketAddrV4) -> String {
    let port = listener.port();
    match listener.ip() {
        ip if ip.is_unspecified() => format!("tcp sport {port} fib saddr type local"),
        ip => format!("ip saddr {ip} tcp sport {port}"),
    }
}

/// The ports and protocol of an entry.
fn what(entry: &Destination) -> String {
    match (entry.protocol, entry.port_text()) {
        (None, None) => String::new(),
        (None, Some(ports)) => format!(" meta l4proto {{ tcp, udp }} th dport {ports}"),
        (Some(protocol), None) => format!(" meta l4proto {}", protocol.name()),
        (Some(protocol), Some(ports)) => format!(" {} dport {ports}", protocol.name()),
    }
}

/// A destination that is allowed and that somebody's rule has led elsewhere, as a published port of a container is.
fn led_elsewhere(entry: &Destination) -> String {
    let protocol = match entry.protocol {
        None => "meta l4proto { tcp, udp }".to_owned(),
        Some(protocol) => format!("meta l4proto {}", protocol.name()),
    };
    let ports = entry.port_text().map(|ports| format!(" ct original proto-dst {ports}"));
    let (address, ports) = (entry.range, ports.unwrap_or_default());
    format!("{protocol} ct status dnat ct original ip daddr {address}{ports} accept")
}

fn list(ranges: &[Range]) -> String {
    let ranges: Vec<String> = ranges.iter().map(Range::to_string).collect();
    format!("{{ {} }}", ranges.join(", "))
}

#[cfg(test)]
mod tests;

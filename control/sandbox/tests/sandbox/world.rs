//! Decides what there is around a node of a test: everything that a sandbox could try to reach.

use crate::node::{SOON, TestNode, with_config};
use crate::outside::{Listeners, Outside, run, within};
use crate::probes::{self, Outcome};
use miren_sandbox::{NodeConfig, SandboxChange};
use std::cell::OnceCell;
use std::fmt::Write;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, SocketAddrV6, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

/// `IFA_F_TENTATIVE` (linux/if_addr.h).
const TENTATIVE: u32 = 0x40;
pub const PUBLIC: &str = "203.0.113.2";
pub const PRIVATE: &str = "10.55.0.2";
pub const SHARED: &str = "100.64.7.2";
pub const METADATA: &str = "169.254.169.254";
pub const AZURE: &str = "168.63.129.16";
pub const CONTAINER: &str = "172.30.0.2";
pub const PUBLISHED: &str = "198.51.100.2";
pub const HOSTS_OWN: &str = "203.0.113.1";

/// Everything there is to be reached.
pub struct World {
    _outside: Outside,
    pub far: Listeners,
    pub contained: Listeners,
    pub host: Listeners,
    loopback: TcpListener,
    ingress: TcpListener,
    /// The first name server that sandboxes are told of on this machine.
    resolver: Option<(Ipv4Addr, Listeners)>,
    _containers: Outside,
}

impl World {
    fn new() -> Self {
        // Else refusals that come fast are not told, and each is waited for.
        std::fs::write("/proc/sys/net/ipv4/icmp_ratelimit", "0").expect("a switch");
        let near = [
            "203.0.113.1/24",
            "10.55.0.1/24",
            "100.64.7.1/24",
            "169.254.169.1/24",
            "168.63.129.1/24",
        ];
        let far = [PUBLIC, PRIVATE, SHARED, METADATA, AZURE].map(|address| format!("{address}/24"));
        let far: Vec<&str> = far.iter().map(String::as_str).collect();
        let outside = Outside::new("out", &near, &far);
        let near = ["172.30.0.1/24", "198.51.100.1/24"];
        let containers = Outside::behind_bridge("box", &near, &["172.30.0.2/24", "198.51.100.2/24"]);
        let resolver = resolver().map(|address| {
            run(&format!(
                "nsenter --net={} ip addr add {address}/32 dev lo",
                outside.path().display()
            ));
            run(&format!("ip route replace {address}/32 via {PUBLIC}"));
            (address, outside.listen(53))
        });
        Self {
            far: outside.listen(0),
            contained: containers.listen(0),
            host: Listeners::new(0),
            loopback: TcpListener::bind("127.0.0.1:0").expect("a listener"),
            ingress: TcpListener::bind("0.0.0.0:0").expect("a listener"),
            resolver,
            _outside: outside,
            _containers: containers,
        }
    }

    pub fn ingress(&self) -> u16 {
        self.ingress.local_addr().expect("an address").port()
    }

    /// What is there, where it is, and who sees what arrives.
    fn targets(&self, gateway: Ipv4Addr) -> Vec<(&'static str, SocketAddrV4, &Listeners)> {
        let gateway = gateway.to_string();
        let mut targets = vec![
            ("internet", self.far.at(PUBLIC), &self.far),
            ("private", self.far.at(PRIVATE), &self.far),
            ("shared", self.far.at(SHARED), &self.far),
            ("metadata", self.far.at(METADATA), &self.far),
            ("azure", self.far.at(AZURE), &self.far),
            ("container", self.contained.at(CONTAINER), &self.contained),
            ("bridged", self.contained.at(PUBLISHED), &self.contained),
        ];
        for (name, address) in [
            ("host by gateway", gateway.as_str()),
            ("host by public", HOSTS_OWN),
            ("host by bridge", "172.30.0.1"),
        ] {
            targets.push((name, self.host.at(address), &self.host));
        }
        targets
    }

    /// A line for each target and kind of packet.
    pub fn matrix(&self, from: &Path, gateway: Ipv4Addr) -> String {
        let mut matrix = String::new();
        let mut line = |name: &str, kind: &str, outcome: Outcome| {
            let _ = writeln!(matrix, "{name}, {kind}: {outcome:?}");
        };
        for (name, to, listeners) in self.targets(gateway) {
            line(name, "tcp", probes::tcp(from, to.into()));
            line(name, "udp", probes::udp(from, to, listeners));
            line(name, "icmp", probes::icmp(from, *to.ip()));
        }
        let loopback = self.loopback.local_addr().expect("an address").port();
        line("host's loopback", "tcp", probes::tcp(from, (gateway, loopback).into()));
        line("host by fe80", "tcp v6", v6(gateway, from));
        let public: Ipv4Addr = HOSTS_OWN.parse().expect("an address");
        line(
            "ingress by gateway",
            "tcp",
            probes::tcp(from, (gateway, self.ingress()).into()),
        );
        line(
            "ingress by public",
            "tcp",
            probes::tcp(from, (public, self.ingress()).into()),
        );
        if let Some((address, listeners)) = &self.resolver {
            let to = SocketAddrV4::new(*address, 53);
            line("resolver", "tcp", probes::tcp(from, to.into()));
            line("resolver", "udp", probes::udp(from, to, listeners));
            line("resolver", "icmp", probes::icmp(from, *address));
        }
        matrix
    }
}

/// As in `resolv.conf` of sandboxes: IPv4, and not on loopback.
pub fn resolver() -> Option<Ipv4Addr> {
    let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let mut servers = text
        .lines()
        .filter_map(|line| line.strip_prefix("nameserver")?.trim().parse::<Ipv4Addr>().ok());
    servers.find(|server| !server.is_loopback())
}

pub fn expected(open: &[&str], resolver: Option<Ipv4Addr>) -> String {
    let mut all: Vec<(String, &str)> = Vec::new();
    for name in [
        "internet",
        "private",
        "shared",
        "metadata",
        "azure",
        "container",
        "bridged",
        "host by gateway",
        "host by public",
        "host by bridge",
    ] {
        all.extend(["tcp", "udp", "icmp"].map(|kind| (name.to_owned(), kind)));
    }
    all.push(("host's loopback".into(), "tcp"));
    all.push(("host by fe80".into(), "tcp v6"));
    let is_open = |name: &str, kind: &str| open.contains(&name) || open.contains(&format!("{name}, {kind}").as_str());
    let mut lines: String = all
        .iter()
        .map(|(name, kind)| format!("{name}, {kind}: {:?}\n", Outcome::when(is_open(name, kind))))
        .collect();
    lines.push_str("ingress by gateway, tcp: Reached\ningress by public, tcp: Reached\n");
    if let Some(address) = resolver {
        // Whether it answers more than questions depends on where it is.
        let is_private = address.is_private() || address.is_link_local();
        let icmp = Outcome::when(open.contains(&if is_private { "private" } else { "internet" }));
        let _ = writeln!(
            lines,
            "resolver, tcp: Reached\nresolver, udp: Reached\nresolver, icmp: {icmp:?}"
        );
    }
    lines
}

pub fn namespace(node: &TestNode, sandbox: &SandboxChange) -> PathBuf {
    node.config.run_dir.join("netns").join(sandbox.id.as_str())
}

pub fn hardware(address: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = address.octets();
    [0x02, 0x4d, a, b, c, d]
}

/// The link-local address that an interface of this hardware address has.
fn link_local(hardware: [u8; 6]) -> std::net::Ipv6Addr {
    let [a, b, c, d, e, f] = hardware.map(u16::from);
    std::net::Ipv6Addr::new(0xfe80, 0, 0, 0, (a ^ 2) << 8 | b, c << 8 | 0xff, 0xfe00 | d, e << 8 | f)
}

/// A root that switches IPv6 on again, and a listener of this machine at every address.
fn v6(gateway: Ipv4Addr, from: &Path) -> Outcome {
    let listener = TcpListener::bind(("::", 0)).expect("a listener");
    let port = listener.local_addr().expect("an address").port();
    let deadline = Instant::now() + SOON;
    while has_tentative_addresses() {
        assert!(
            Instant::now() < deadline,
            "an address of this machine stays tentative for {SOON:?}"
        );
        std::thread::yield_now();
    }
    within(from, || {
        for name in ["all", "default", "eth0"] {
            let _ = std::fs::write(format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6"), "0");
        }
        let mut add = Command::new("ip");
        let _ = add
            .args(["addr", "add", "fe80::99/64", "dev", "eth0", "nodad"])
            .output();
        // SAFETY: the name ends with a NUL.
        let index = unsafe { libc::if_nametoindex(c"eth0".as_ptr()) };
        let to = SocketAddrV6::new(link_local(hardware(gateway)), port, 0, index);
        Outcome::when(TcpStream::connect_timeout(&to.into(), probes::SILENCE).is_ok())
    })
}

/// Whether an interface of this machine is about to have an IPv6 address, at which it does not answer yet.
fn has_tentative_addresses() -> bool {
    let addresses = std::fs::read_to_string("/proc/thread-self/net/if_inet6").unwrap_or_default();
    let flags = addresses.lines().filter_map(|line| line.split_whitespace().nth(4));
    flags
        .filter_map(|flags| u32::from_str_radix(flags, 16).ok())
        .any(|flags| flags & TENTATIVE != 0)
}

/// Runs a test with a node around which there is everything, configured so.
pub fn in_world(change: impl FnOnce(&mut NodeConfig, &World), test: impl AsyncFnOnce(&mut TestNode, &World)) {
    let made = OnceCell::new();
    let configure = |config: &mut NodeConfig| {
        let world = made.get_or_init(World::new);
        config.ingress = vec![SocketAddr::from((Ipv4Addr::UNSPECIFIED, world.ingress()))];
        change(config, world);
    };
    with_config(configure, async |node| {
        test(node, made.get().expect("it was made")).await;
    });
}

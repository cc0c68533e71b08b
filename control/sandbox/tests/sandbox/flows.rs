//! Decides how much of the machine's table of connections one sandbox fills, and that nothing leads around the rules.

use crate::client::ask;
use crate::node::{TestNode, eventually, with_config};
use crate::outside::{Outside, nft, run, within};
use crate::probes::{self, Frame, Outcome};
use crate::world::{HOSTS_OWN, PUBLIC, hardware, in_world, namespace};
use miren_api::resource::SandboxState;
use miren_sandbox::{Connections, NodeConfig, SandboxChange, StartOrder};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::time::Duration;

/// Of one sandbox, in the tests that fill it.
const MOST: u32 = 64;
/// Far more.
const FLOWS: usize = 2_000;
const CONNECTIONS: u64 = 1_000;
const SHORTLY: Duration = Duration::from_millis(4);
/// What probes and the like may leave.
const FEW: u64 = 16;

fn entries() -> u64 {
    let count = std::fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_count").expect("connection tracking");
    count.trim().parse().expect("a number")
}

fn bounded(config: &mut NodeConfig) {
    config.connections = Connections::AtMost(MOST.try_into().expect("a bound"));
}

fn flows_of_udp(from: &Path, to: SocketAddr) {
    within(from, || {
        for _ in 0..FLOWS {
            let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
            // What is refused is told at once, or with the next one.
            let _ = socket.send_to(b"flow", to);
        }
    });
}

/// Each is closed at once, and stays in the table for two minutes.
fn connections(from: &Path, to: SocketAddr) {
    within(from, || {
        for _ in 0..CONNECTIONS {
            // One that is not there by then has its place in the table all the same, or none.
            drop(TcpStream::connect_timeout(&to, SHORTLY));
        }
    });
}

#[test]
fn f2_one_sandbox_fills_its_share_of_the_table_and_another_is_served_on() {
    in_world(
        |config, _| bounded(config),
        async |node, world| {
            let (greedy, modest) = (node.order("listen 0.0.0.0"), node.order("listen 0.0.0.0"));
            let (from, other) = (node.run(&greedy).await, node.run(&modest).await);
            let (from, other) = (namespace(node, &from), namespace(node, &other));
            let to = SocketAddr::from(world.far.at(PUBLIC));
            let before = entries();
            flows_of_udp(&from, to);
            let seen = entries() - before;
            assert!(seen <= u64::from(MOST) + FEW, "{seen} entries of {FLOWS} flows");
            assert!(
                seen >= u64::from(MOST) / 2,
                "{seen} entries: the bound is lower than it says"
            );
            // One packet of a flow that is there counts no more: it is the first that does.
            while world.far.udp.recv(&mut [0; 16]).is_ok() {}
            assert_eq!(probes::udp(&other, world.far.at(PUBLIC), &world.far), Outcome::Reached);
            assert_eq!(probes::tcp(&other, to), Outcome::Reached);
            for order in [&greedy, &modest] {
                stop(node, order).await;
            }
        },
    );
}

#[test]
fn f2_connections_that_are_closed_do_not_fill_the_table_either() {
    in_world(
        |config, _| bounded(config),
        async |node, world| {
            let order = node.order("listen 0.0.0.0");
            let from = node.run(&order).await;
            let before = entries();
            connections(&namespace(node, &from), world.far.at(PUBLIC).into());
            let seen = entries() - before;
            // What is open, what came at once, and what two minutes bring.
            assert!(
                seen <= 8 * u64::from(MOST),
                "{seen} entries of {CONNECTIONS} connections"
            );
            stop(node, &order).await;
        },
    );
}

#[test]
fn f2_a_flow_that_is_open_goes_on_when_no_new_one_is_admitted() {
    in_world(
        |config, _| bounded(config),
        async |node, world| {
            let order = node.order("listen 0.0.0.0");
            let from = node.run(&order).await;
            let from = namespace(node, &from);
            let to = SocketAddr::from(world.far.at(PUBLIC));
            let early = within(&from, || {
                let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
                socket.connect(to).expect("a route");
                socket.send(b"early").expect("a datagram");
                socket
            });
            flows_of_udp(&from, to);
            while world.far.udp.recv(&mut [0; 16]).is_ok() {}
            // More of one flow, none of which was answered, than there may be flows.
            let mut arrived = 0;
            eventually("all of an open flow", || {
                if arrived < 4 * MOST {
                    let _ = early.send(b"early");
                    arrived += u32::from(world.far.udp.recv(&mut [0; 16]).is_ok());
                }
                arrived == 4 * MOST
            })
            .await;
            stop(node, &order).await;
        },
    );
}

#[test]
fn f3_other_machines_reach_no_sandbox_around_the_ingress_but_where_the_operator_leads_them() {
    let outside = std::cell::OnceCell::new();
    let around = |_: &mut NodeConfig| {
        outside.get_or_init(|| Outside::new("out", &["203.0.113.1/24"], &["203.0.113.2/24"]));
    };
    with_config(around, async |node| {
        let outside = outside.get().expect("it was made");
        let order = node.order("listen 0.0.0.0");
        let running = node.run(&order).await;
        let (address, port) = place(&running);
        let there = outside.path();
        run(&format!(
            "nsenter --net={} ip route add {} via {HOSTS_OWN}",
            there.display(),
            node.config.subnet
        ));
        assert_eq!(
            probes::tcp(&there, (address, port).into()),
            Outcome::Refused,
            "by its own address"
        );
        assert_eq!(probes::icmp(&there, address), Outcome::Refused, "an echo");
        nft("add table ip operator");
        nft("add chain ip operator prerouting { type nat hook prerouting priority -100; }");
        nft(&format!(
            "add rule ip operator prerouting tcp dport 8880 dnat to {address}:{port}"
        ));
        let led = SocketAddr::from((HOSTS_OWN.parse::<Ipv4Addr>().expect("an address"), 8880));
        assert_eq!(
            probes::tcp(&there, led),
            Outcome::Reached,
            "where the operator leads them"
        );
        assert_eq!(ask(&running, "cwd"), "/app", "this machine reaches it");
        stop(node, &order).await;
    });
}

/// 01-80-C2-00-00-0X: a bridge hands them to the port that they came in by, past what it asks its own rules.
#[test]
fn f3_frames_to_the_groups_of_a_link_lead_around_no_rule() {
    in_world(
        |_, _| (),
        async |node, world| {
            let order = node.order("listen 0.0.0.0");
            let running = node.run(&order).await;
            let (own, _) = place(&running);
            let (from, gateway) = (namespace(node, &running), node.config.subnet.gateway());
            let honest = Frame {
                source: (hardware(own), own),
                gateway: hardware(gateway),
                to: world.far.at(PUBLIC),
                text: b"honest",
            };
            let forged = Ipv4Addr::new(203, 0, 113, 77);
            for last in 0..16 {
                for to in [
                    world.host.at(HOSTS_OWN),
                    world.host.at(&gateway.to_string()),
                    world.far.at(PUBLIC),
                ] {
                    for source in [own, forged] {
                        Frame {
                            source: (hardware(own), source),
                            gateway: [0x01, 0x80, 0xc2, 0, 0, last],
                            to,
                            text: b"around",
                        }
                        .send(&from);
                    }
                }
            }
            honest.send(&from);
            let mut seen = [0; 16];
            // They go the same way, one after the other.
            eventually("the honest frame arrives", || world.far.udp.recv(&mut seen).is_ok()).await;
            assert_eq!(&seen[..6], b"honest");
            assert!(
                world.host.udp.recv(&mut seen).is_err(),
                "a service of the machine was reached"
            );
            let switch = format!("/proc/sys/net/ipv6/conf/{}/disable_ipv6", port_of(node));
            assert_eq!(
                std::fs::read_to_string(switch).expect("a switch").trim(),
                "1",
                "IPv6 of the port"
            );
            stop(node, &order).await;
        },
    );
}

/// The host's end of the only sandbox.
fn port_of(node: &TestNode) -> String {
    let listed = std::process::Command::new("ip")
        .args(["-o", "link", "show", "master", &node.config.bridge])
        .output();
    let listed = String::from_utf8_lossy(&listed.expect("ip").stdout).into_owned();
    let name = listed.split_whitespace().nth(1).expect("a port").split('@').next();
    name.expect("a name").trim_end_matches(':').to_owned()
}

fn place(running: &SandboxChange) -> (Ipv4Addr, u16) {
    match (running.facts.ip, running.facts.port) {
        (Some(IpAddr::V4(address)), Some(port)) => (address, port),
        _ => panic!("{running:?}"),
    }
}

async fn stop(node: &mut TestNode, order: &StartOrder) {
    node.drain_now(&order.id, "test over");
    node.until(&order.id, SandboxState::Stopped).await;
}

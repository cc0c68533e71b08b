//! Decides what is reached from inside a sandbox, by every kind of packet, under each setting.

use crate::client::ask;
use crate::node::{TestNode, eventually, with_node};
use crate::outside::{nft, run};
use crate::probes::Frame;
use crate::world::{HOSTS_OWN, METADATA, PUBLIC, World, expected, hardware, in_world, namespace, resolver};
use miren_api::resource::SandboxState;
use miren_sandbox::{Egress, NodeConfig, StartOrder};
use std::net::{IpAddr, Ipv4Addr};

/// What a sandbox reaches when the node is configured so: what is named, with all kinds of packets or one.
fn reaches(change: impl FnOnce(&mut NodeConfig, &World), open: &[&str]) {
    in_world(change, async |node, world| {
        let order = node.order("listen 0.0.0.0");
        let running = node.run(&order).await;
        let matrix = world.matrix(&namespace(node, &running), node.config.subnet.gateway());
        compare(&matrix, &expected(open, resolver()));
        stop(node, &order).await;
    });
}

fn compare(matrix: &str, expected: &str) {
    let wrong: Vec<&str> = matrix
        .lines()
        .filter(|line| !expected.lines().any(|other| other == *line))
        .collect();
    assert!(matrix == expected, "{wrong:#?} are wrong in:\n{matrix}");
}

#[test]
fn f3_by_default_the_internet_is_reached_and_the_ingress() {
    reaches(|_, _| (), &["internet"]);
}

#[test]
fn f3_open_adds_private_ranges_and_no_more() {
    reaches(
        |config, _| config.egress = Egress::Open,
        &["internet", "private", "shared"],
    );
}

#[test]
fn f3_deny_leaves_the_ingress_and_the_resolvers() {
    reaches(|config, _| config.egress = Egress::Deny, &[]);
}

#[test]
fn f3_allow_opens_what_it_names() {
    let allow = |config: &mut NodeConfig, world: &World| {
        config.egress = Egress::Deny;
        let (far, host, gateway) = (world.far.port(), world.host.port(), config.subnet.gateway());
        let entries = [
            // Too wide for a metadata service, another bridge and this machine.
            "0.0.0.0/0/udp".to_owned(),
            format!("10.0.0.0/8:{far}"),
            format!("{METADATA}:{far}/tcp"),
            format!("172.30.0.0/24:{}/tcp", world.contained.port()),
            format!("{gateway}:{host}/tcp"),
            format!("{HOSTS_OWN}:{host}/udp"),
        ];
        config.allow = entries
            .iter()
            .map(|entry| entry.parse().expect("a destination"))
            .collect();
    };
    let open = [
        "internet, udp",
        "private, udp",
        "private, tcp",
        "shared, udp",
        "metadata, tcp",
        "container, tcp",
        "host by gateway, tcp",
        "host by public, udp",
    ];
    reaches(allow, &open);
}

#[test]
fn f3_a_build_reaches_what_a_sandbox_does() {
    in_world(
        |_, _| (),
        async |node, world| {
            let outlet = node.sandboxes().outlet().await.expect("an outlet");
            let matrix = world.matrix(&outlet.network, node.config.subnet.gateway());
            compare(&matrix, &expected(&["internet"], resolver()));
        },
    );
}

#[test]
fn f3_a_flushed_rule_set_is_put_back() {
    in_world(
        |_, _| (),
        async |node, world| {
            let order = node.order("listen 0.0.0.0");
            let running = node.run(&order).await;
            let from = namespace(node, &running);
            let table = format!("miren_{}", node.config.name.replace('-', "_"));
            for (number, removal) in [
                "nft flush ruleset".to_owned(),
                format!("nft flush chain ip {table} out"),
                format!("nft flush set bridge {table} ports"),
                format!("nft delete table bridge {table}"),
            ]
            .iter()
            .enumerate()
            {
                run(removal);
                let wanted = u64::try_from(number + 1).expect("a number");
                let restored = || node.sandboxes().network_rules().restored >= wanted;
                eventually(&format!("the rules are back after {removal}"), restored).await;
                let matrix = world.matrix(&from, node.config.subnet.gateway());
                compare(&matrix, &expected(&["internet"], resolver()));
            }
            assert!(node.sandboxes().network_rules().applied);
            stop(node, &order).await;
        },
    );
}

#[test]
fn f3_no_port_of_the_bridge_sends_from_addresses_of_another() {
    in_world(
        |_, _| (),
        async |node, world| {
            let order = node.order("listen 0.0.0.0");
            let running = node.run(&order).await;
            let (from, gateway) = (namespace(node, &running), node.config.subnet.gateway());
            let Some(IpAddr::V4(own)) = running.facts.ip else {
                panic!("{running:?}")
            };
            let other = Ipv4Addr::from(u32::from(own) + 1);
            let honest = Frame {
                source: (hardware(own), own),
                gateway: hardware(gateway),
                to: world.far.at(PUBLIC),
                text: b"honest",
            };
            let forged = [
                (hardware(own), other),
                (hardware(other), own),
                (hardware(other), other),
                (hardware(gateway), gateway),
            ];
            for source in forged {
                Frame {
                    source,
                    text: b"forged",
                    ..honest
                }
                .send(&from);
            }
            honest.send(&from);
            let mut seen = [0; 16];
            eventually("the honest frame arrives", || world.far.udp.recv(&mut seen).is_ok()).await;
            assert_eq!(&seen[..6], b"honest");
            // One for want of the right to it, the other as a family that there is not.
            for (call, error) in [("raw-socket", libc::EPERM), ("packet-socket", libc::EAFNOSUPPORT)] {
                let refused = ask(&running, &format!("call/{call}"));
                assert_eq!(refused, error.to_string(), "{call} inside a sandbox");
            }
            stop(node, &order).await;
        },
    );
}

#[test]
fn f3_sandboxes_have_no_ipv6_but_on_loopback() {
    with_node(async |node| {
        let order = node.order("listen ::");
        let running = node.run(&order).await;
        let addresses = ask(&running, "read/proc/net/if_inet6");
        assert!(addresses.lines().all(|line| line.ends_with(" lo")), "{addresses}");
        let bridge = std::fs::read_to_string(format!("/proc/sys/net/ipv6/conf/{}/disable_ipv6", node.config.bridge));
        assert_eq!(bridge.expect("a switch").trim(), "1");
        stop(node, &order).await;
    });
}

#[test]
fn hazard_17_a_table_that_is_left_over_in_another_shape_is_replaced_and_others_are_left_alone() {
    let left_over = |config: &mut NodeConfig, _: &World| {
        let table = format!("miren_{}", config.name.replace('-', "_"));
        for family in ["ip", "bridge"] {
            run(&format!("nft add table {family} {table}"));
            nft(&format!(
                "add chain {family} {table} input {{ type filter hook input priority 7; policy drop; }}"
            ));
            nft(&format!("add set {family} {table} tracked {{ type mark; }}"));
            nft(&format!("add rule {family} {table} input drop"));
        }
        nft("add table inet others");
        nft("add chain inet others input { type filter hook input priority 0; }");
        nft("add rule inet others input counter accept");
    };
    in_world(left_over, async |node, world| {
        let order = node.order("listen 0.0.0.0");
        let running = node.run(&order).await;
        let matrix = world.matrix(&namespace(node, &running), node.config.subnet.gateway());
        compare(&matrix, &expected(&["internet"], resolver()));
        let others = std::process::Command::new("nft")
            .args(["list", "table", "inet", "others"])
            .output();
        let others = String::from_utf8_lossy(&others.expect("nft").stdout).into_owned();
        assert!(
            others.contains("counter packets") && others.contains("accept"),
            "{others}"
        );
        stop(node, &order).await;
    });
}

async fn stop(node: &mut TestNode, order: &StartOrder) {
    node.drain_now(&order.id, "test over");
    node.until(&order.id, SandboxState::Stopped).await;
}

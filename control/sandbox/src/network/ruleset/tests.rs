//! The text of the rules, and what counts as their being there.

use super::*;

fn wanted(egress: Egress, allow: &[&str]) -> Wanted {
    Wanted {
        node: "my-node".into(),
        bridge: "miren0".into(),
        subnet: "10.200.8.0/24".parse().expect("a subnet"),
        ports: 2,
        egress,
        allow: allow.iter().map(|text| text.parse().expect("a destination")).collect(),
        ingress: vec![
            "0.0.0.0:80".parse().expect("an address"),
            "203.0.113.1:443".parse().expect("an address"),
        ],
        tracking: Tracking::Egress,
        connections: Connections::Share,
        around: Surroundings {
            resolvers: vec![Ipv4Addr::new(10, 0, 0, 2)],
            uplinks: vec!["br0".into()],
            bridged: vec![Range::new([172, 17, 0, 0], 16)],
            table: Some(65_536),
        },
    }
}

/// The rules of a chain, a line each.
fn rules(wanted: &Wanted, name: &str) -> Vec<String> {
    let chains = wanted.chains();
    let chain = chains.iter().find(|chain| chain.name == name).expect("a chain");
    chain.rules.iter().map(|rule| rule.text.clone()).collect()
}

/// Where the first rule with these words is.
fn place(rules: &[String], words: &str) -> usize {
    let place = rules.iter().position(|rule| rule.contains(words));
    place.unwrap_or_else(|| panic!("{words:?} is not in {rules:#?}"))
}

#[test]
fn only_what_leaves_the_subnet_is_masqueraded() {
    let rules = rules(&wanted(Egress::Internet, &[]), "postrouting");
    assert_eq!(rules, ["ip saddr 10.200.8.0/24 ip daddr != 10.200.8.0/24 masquerade"]);
}

#[test]
fn f3_a_wide_entry_opens_neither_this_machine_nor_link_local_addresses_nor_other_bridges() {
    let wanted = wanted(Egress::Deny, &["0.0.0.0/0:80"]);
    let (out, host) = (rules(&wanted, "out"), rules(&wanted, "to_host"));
    let opened = place(&out, "ip daddr 0.0.0.0/0 meta l4proto { tcp, udp } th dport 80 accept");
    assert!(place(&out, "169.254.0.0/16") < opened);
    assert!(place(&out, "meta oifkind \"bridge\"") < opened);
    assert!(!host.iter().any(|rule| rule.contains("0.0.0.0/0")), "{host:#?}");
    assert_eq!(out.last().map(String::as_str), Some(REFUSED));
}

#[test]
fn f3_an_entry_opens_what_it_lies_within() {
    let entries = ["169.254.169.254:80/tcp", "172.17.0.0/24:5432", "10.200.8.1:9000"];
    let wanted = wanted(Egress::Internet, &entries);
    let (out, host) = (rules(&wanted, "out"), rules(&wanted, "to_host"));
    assert!(place(&out, "ip daddr 169.254.169.254 tcp dport 80 accept") < place(&out, "127.0.0.0/8"));
    assert!(place(&out, "ip daddr 172.17.0.0/24 ") < place(&out, "meta oifkind \"bridge\""));
    place(
        &host,
        "ip daddr 10.200.8.1 meta l4proto { tcp, udp } th dport 9000 accept",
    );
    assert_eq!(
        place(&out, "oifname \"miren0\" reject"),
        5,
        "no entry opens other sandboxes: {out:#?}"
    );
}

#[test]
fn f3_the_bridge_with_the_default_route_is_no_other_bridge() {
    let out = rules(&wanted(Egress::Open, &[]), "out");
    place(&out, "meta oifkind \"bridge\" oifname != \"br0\" reject");
    assert!(!out.iter().any(|rule| rule.contains("172.16.0.0/12")), "open: {out:#?}");
}

#[test]
fn f2_nothing_that_is_untracked_is_judged_by_what_was_tracked() {
    let wanted = wanted(Egress::Internet, &[]);
    let host = rules(&wanted, "to_host");
    for rule in host
        .iter()
        .filter(|rule| rule.contains(" ct ") || rule.starts_with("ct "))
    {
        assert!(
            rule.starts_with("meta l4proto != tcp "),
            "TCP with this machine is untracked: {rule}"
        );
    }
    let incoming = rules(&wanted, "untrack_in");
    assert!(place(&incoming, "@tracked accept") < place(&incoming, "fib daddr type local notrack") + 4);
    assert!(place(&incoming, "tcp flags & (syn | ack) == syn accept") < incoming.len() - 1);
}

#[test]
fn f2_with_tracking_of_all_nothing_is_exempt() {
    let wanted = Wanted {
        tracking: Tracking::All,
        ..wanted(Egress::Internet, &[])
    };
    assert!(!wanted.script(false).contains("notrack"));
}

#[test]
fn f2_a_sandbox_has_a_thirty_second_of_the_table_unless_it_is_said_otherwise() {
    let at_most = |most: u32| Connections::AtMost(most.try_into().expect("a bound"));
    for (connections, table, share, pace) in [
        (Connections::Share, Some(65_536), 2048, 103),
        (Connections::Share, None, 8192, 410),
        (Connections::Share, Some(100), 20, 1),
        (at_most(64), Some(65_536), 64, 4),
    ] {
        let mut wanted = wanted(Egress::Internet, &[]);
        (wanted.connections, wanted.around.table) = (connections, table);
        let bounds = rules(&wanted, "bounds");
        place(&bounds, &format!("limit rate over {pace}/second burst {share} packets"));
        place(&bounds, &format!("ct count over {share} "));
        for set in ["flows", "paces"] {
            let declared = format!(
                "add set ip miren_my_node {set}_{share} {{ type ipv4_addr; size {}; flags dynamic; }}",
                wanted.subnet.sandboxes()
            );
            assert!(wanted.script(false).contains(&declared), "{}", wanted.script(false));
        }
    }
}

#[test]
fn f2_where_the_kernel_cannot_count_nothing_is_counted_and_the_rest_is_there() {
    let counted = wanted(Egress::Internet, &[]);
    let uncounted = Wanted {
        connections: Connections::Uncounted,
        ..counted.clone()
    };
    let script = uncounted.script(false);
    assert!(
        !script.contains("ct count") && !script.contains("limit rate"),
        "{script}"
    );
    let others = |wanted: &Wanted| {
        let names: Vec<&str> = wanted.chains().iter().map(|chain| chain.name).collect();
        names
            .into_iter()
            .filter(|name| !["bounds", "begin_in", "begin_out"].contains(name))
            .collect::<Vec<_>>()
    };
    assert_eq!(others(&uncounted), others(&counted));
}

#[test]
fn f3_each_port_may_claim_the_addresses_of_its_slot() {
    let script = wanted(Egress::Internet, &[]).script(false);
    let second = format!("{} . 02:4d:0a:c8:08:03 . 10.200.8.3", names::veth("my-node", 1));
    assert!(script.contains(&second), "{script}");
}

#[test]
fn hazard_17_a_repetition_takes_the_place_of_what_there_is() {
    let wanted = wanted(Egress::Internet, &[]);
    let (kept, anew) = (wanted.script(false), wanted.script(true));
    assert!(
        kept.contains("flush table ip miren_my_node\n") && !kept.contains("delete"),
        "{kept}"
    );
    assert!(
        anew.starts_with("add table ip miren_my_node\ndelete table ip miren_my_node\nadd table ip miren_my_node\n")
    );
    for script in [kept, anew] {
        let foreign = script.lines().find(|line| !line.contains(" miren_my_node"));
        assert_eq!(foreign, None, "something that is not the node's");
    }
}

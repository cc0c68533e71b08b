//! What a sandbox reaches of the machine it runs on, as its user sees it, with another node beside.

use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::process::Command;
use std::time::Duration;

use miren_blackbox::{AppFolder, Node, NodeOptions, wait_until};

const LIMIT: Duration = Duration::from_secs(20);

/// Whether a TCP connection from inside the app's sandbox comes about.
fn reaches(node: &Node, app: &str, to: (Ipv4Addr, u16)) -> bool {
    let id = node.running(app)[0].id.to_string();
    let script = format!("exec 3<>/dev/tcp/{}/{}", to.0, to.1);
    let output = node
        .cli
        .call(&["sandbox", "exec", &id, "--", "timeout", "5", "bash", "-c", &script]);
    output.code == 0
}

/// The first address of the node's subnet, which is the node's own.
fn gateway(node: &Node, app: &str) -> Ipv4Addr {
    match node.running(app)[0].ip.expect("an address") {
        IpAddr::V4(address) => Ipv4Addr::from((u32::from(address) & 0xffff_f000) | 1),
        IpAddr::V6(address) => panic!("{address} is no IPv4 address"),
    }
}

fn rules(node: &Node) -> String {
    let table = format!("miren_{}", node.name());
    let list = |family: &str| {
        let output = Command::new("nft")
            .args(["-t", "list", "table", family, &table])
            .output();
        String::from_utf8_lossy(&output.expect("nft").stdout).into_owned()
    };
    [list("ip"), list("bridge")].concat()
}

#[test]
fn f3_a_sandbox_reaches_the_ingress_and_no_other_port_of_its_machine_nor_of_a_node_beside() {
    let start = || NodeOptions::unique().http("0.0.0.0:0").start();
    let (one, other) = (start(), start());
    for node in [&one, &other] {
        node.deploy(&AppFolder::rust("shop").fixed(1));
    }
    let service = TcpListener::bind("0.0.0.0:0").expect("a service of this machine");
    let port = service.local_addr().expect("an address").port();
    let (own, beside) = (gateway(&one, "shop"), gateway(&other, "shop"));
    let neighbour = other.running("shop").remove(0);
    let Some(IpAddr::V4(neighbour_address)) = neighbour.ip else {
        panic!("an address")
    };
    assert!(reaches(&one, "shop", (own, one.http.port())), "its ingress");
    for (what, to) in [
        ("a service, by its own gateway", (own, port)),
        ("a service, by the other gateway", (beside, port)),
        ("the other node's ingress", (beside, other.http.port())),
        (
            "the other node's sandbox",
            (neighbour_address, neighbour.port.expect("a port")),
        ),
    ] {
        assert!(!reaches(&one, "shop", to), "{what} is reached at {to:?}");
    }
    let before = rules(&one);
    other.stop();
    assert_eq!(rules(&one), before, "the end of a node beside changed the rules");
    assert!(reaches(&one, "shop", (own, one.http.port())), "its ingress, still");
    one.stop();
}

#[test]
fn f3_rules_that_somebody_removes_are_back_before_the_next_sandbox() {
    let node = NodeOptions::unique().http("0.0.0.0:0").start();
    node.deploy(&AppFolder::rust("shop").fixed(1));
    let service = TcpListener::bind("0.0.0.0:0").expect("a service of this machine");
    let port = service.local_addr().expect("an address").port();
    let before = rules(&node);
    for family in ["ip", "bridge"] {
        let removal = format!("delete table {family} miren_{}", node.name());
        let status = Command::new("nft").args(removal.split(' ')).status().expect("nft");
        assert!(status.success(), "{removal}");
    }
    wait_until("the rules", LIMIT, || match rules(&node) {
        now if now == before => Ok(()),
        now => Err(now),
    });
    node.deploy(&AppFolder::rust("shop").fixed(1).release("two"));
    let own = gateway(&node, "shop");
    assert!(reaches(&node, "shop", (own, node.http.port())), "its ingress");
    assert!(!reaches(&node, "shop", (own, port)), "a service of this machine");
    node.stop();
}

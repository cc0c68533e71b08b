//! Decides whether new connections are refused exactly when they should be (K3).

use std::{
    io::ErrorKind,
    net::{IpAddr, SocketAddr, SocketAddrV6, TcpListener, TcpStream},
};

use miren_loader::{FastPath, State};

use crate::{
    lab::{Lab, begin},
    network::{Namespace, address_of},
    roles::{Player, listen, say},
};

/// A node's namespace, with a live listener on an IPv4 and an IPv6 address.
fn network() -> (Namespace, [TcpListener; 2]) {
    let network = Namespace::new();
    network.ip("address add 198.51.100.100/32 dev lo");
    network.ip("address add 2001:db8::100/128 dev lo nodad");
    let listeners = [network.listen("198.51.100.100:0"), network.listen("[2001:db8::100]:0")];
    (network, listeners)
}

fn connect(network: &Namespace, to: SocketAddr) -> Result<(), ErrorKind> {
    network.run(|| TcpStream::connect(to).map(drop).map_err(|error| error.kind()))
}

fn check(network: &Namespace, fast_path: &FastPath, listener: &TcpListener, slot: u32) {
    let endpoint = address_of(listener);
    let refused = Err(ErrorKind::ConnectionRefused);
    assert_eq!(connect(network, endpoint), Ok(()), "unknown addresses pass");
    let generation = begin(fast_path, slot, &endpoint.to_string(), State::Pending);
    assert_eq!(connect(network, endpoint), Ok(()), "PENDING is probed");
    let states = [
        (State::Running, Ok(())),
        (State::Draining, refused),
        (State::Stopping, refused),
        (State::Stopped, refused),
    ];
    for (state, expected) in states {
        fast_path.advance(slot, generation, state).expect("advance");
        assert_eq!(connect(network, endpoint), expected, "{state}");
    }
    fast_path.release(slot, generation).expect("release");
    assert_eq!(connect(network, endpoint), Ok(()), "a released address is unknown");
    let generation = begin(fast_path, slot, &endpoint.to_string(), State::Dead);
    assert_eq!(connect(network, endpoint), refused, "DEAD");
    fast_path.release(slot, generation).expect("release");
}

#[test]
fn k3_draining_and_later_is_refused_over_both_families() {
    let lab = Lab::new();
    let (network, listeners) = network();
    let fast_path = network.run(|| lab.kernel());
    for (slot, listener) in (7..).zip(&listeners) {
        check(&network, &fast_path, listener, slot);
    }
    assert_eq!(fast_path.status().refused_connects, 8);
}

#[test]
fn k3_a_mapped_address_is_the_same_address() {
    let lab = Lab::new();
    let (network, [listener, _]) = network();
    let fast_path = network.run(|| lab.kernel());
    let endpoint = address_of(&listener);
    let IpAddr::V4(plain) = endpoint.ip() else {
        panic!("{endpoint} is not an IPv4 address")
    };
    let mapped = plain.to_ipv6_mapped();
    let mapped = SocketAddr::V6(SocketAddrV6::new(mapped, endpoint.port(), 0, 0));
    let generation = begin(&fast_path, 0, &mapped.to_string(), State::Running);
    assert_eq!(
        fast_path.slot(0).endpoint,
        Some(endpoint),
        "it is kept in its plain form"
    );
    assert_eq!(connect(&network, mapped), Ok(()));
    fast_path.advance(0, generation, State::Draining).expect("advance");
    for address in [endpoint, mapped] {
        assert_eq!(
            connect(&network, address),
            Err(ErrorKind::ConnectionRefused),
            "{address}"
        );
    }
}

#[test]
fn k3_only_the_configured_cgroup_is_covered() {
    let lab = Lab::without_connect_hook();
    let (network, [listener, _]) = network();
    let fast_path = network.run(|| lab.kernel());
    let endpoint = address_of(&listener);
    begin(&fast_path, 0, &endpoint.to_string(), State::Dead);
    assert_eq!(connect(&network, endpoint), Ok(()), "this process is not in the cgroup");

    let mut client = network.run(|| Player::start("client", &endpoint.to_string()));
    let ask = |client: &mut Player| {
        client.tell("connect");
        client.hear()
    };
    assert_eq!(ask(&mut client), "Ok(())");
    let cgroup = lab.cgroup.as_ref().expect("a cgroup");
    std::fs::write(cgroup.join("cgroup.procs"), client.pid().to_string()).expect("moving the client");
    assert_eq!(ask(&mut client), "Err(ConnectionRefused)");
    client.kill();
}

/// Connects whenever it is told to and says how that went.
pub fn play_client(argument: &str) {
    let to: SocketAddr = argument.parse().expect("an address");
    loop {
        listen();
        say(&format!(
            "{:?}",
            TcpStream::connect(to).map(drop).map_err(|error| error.kind())
        ));
    }
}

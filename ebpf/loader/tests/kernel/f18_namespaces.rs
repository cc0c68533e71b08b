//! Decides whether an address means a sandbox only where it is that sandbox's address (F18).

use std::{
    io::{ErrorKind, Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
};

use miren_loader::{FastPath, Mode, State};

use crate::{
    lab::{DEADLINE, Lab, Victim, begin, occupy},
    network::{Host, Namespace, Sandbox, address_of},
};

type Connected = Result<(), ErrorKind>;
pub const REFUSED: Connected = Err(ErrorKind::ConnectionRefused);

/// A node with two sandboxes of its own, whose inits are where sandboxes have them.
pub struct Node {
    pub host: Host,
    pub sandboxes: [Sandbox; 2],
    pub listeners: [TcpListener; 2],
    pub inits: [Victim; 2],
}

impl Node {
    /// The second sandbox is there, and serves; of the first, `listeners` has both families.
    pub fn new() -> Self {
        let host = Host::new();
        let sandboxes = [host.sandbox(18), host.sandbox(19)];
        let listeners = sandboxes[0].listen();
        let inits = [0, 1].map(|which: usize| sandboxes[which].namespace.run(Victim::start));
        Self {
            host,
            sandboxes,
            listeners,
            inits,
        }
    }

    pub fn open(&self, lab: &Lab, mode: Mode) -> FastPath {
        self.host.namespace.run(|| lab.open(mode))
    }

    /// Begins both; gives the generation of the first, which is PENDING.
    pub fn begin(&self, fast_path: &FastPath, listener: &TcpListener) -> u64 {
        let endpoint = address_of(listener).to_string();
        let first = occupy(fast_path, 0, &endpoint, self.inits[0].pid(), State::Pending);
        occupy(fast_path, 1, "198.51.100.19:80", self.inits[1].pid(), State::Running);
        first
    }
}

/// connect(2) over TCP, and over UDP.
pub fn connect(namespace: &Namespace, to: SocketAddr) -> [Connected; 2] {
    let any = match to.ip() {
        IpAddr::V4(_) => "0.0.0.0:0",
        IpAddr::V6(_) => "[::]:0",
    };
    namespace.run(|| {
        let udp = UdpSocket::bind(any).expect("a socket");
        [TcpStream::connect_timeout(&to, DEADLINE).map(drop), udp.connect(to)]
            .map(|connected| connected.map_err(|error| error.kind()))
    })
}

/// The ways to write an address: an IPv4 one is also an IPv6 one.
fn spellings(listener: &TcpListener) -> Vec<SocketAddr> {
    let plain = address_of(listener);
    match plain.ip() {
        IpAddr::V4(address) => vec![plain, SocketAddr::new(address.to_ipv6_mapped().into(), plain.port())],
        IpAddr::V6(_) => vec![plain],
    }
}

/// A namespace that has nothing to do with the node and uses the same address for a listener of its own.
fn stranger(address: SocketAddr) -> (Namespace, TcpListener) {
    let namespace = Namespace::new();
    match address.ip() {
        IpAddr::V4(ip) => namespace.ip(&format!("address add {ip}/32 dev lo")),
        IpAddr::V6(ip) => namespace.ip(&format!("address add {ip}/128 dev lo nodad")),
    }
    let listener = namespace.listen(&address.to_string());
    (namespace, listener)
}

#[test]
fn f18_a_sandbox_reaches_itself_and_a_stranger_its_own_listener() {
    for mode in [Mode::Kernel, Mode::Off] {
        let node = Node::new();
        for listener in &node.listeners {
            let lab = Lab::new();
            let fast_path = node.open(&lab, mode);
            let generation = node.begin(&fast_path, listener);
            let (elsewhere, _listener) = stranger(address_of(listener));
            for state in [State::Running, State::Draining, State::Stopping, State::Stopped] {
                fast_path.advance(0, generation, state).expect("advance");
                for to in spellings(listener) {
                    let own = &node.sandboxes[0].namespace;
                    assert_eq!(connect(own, to), [Ok(()); 2], "{mode:?}, {state}: itself at {to}");
                    assert_eq!(
                        connect(&elsewhere, to),
                        [Ok(()); 2],
                        "{mode:?}, {state}: a stranger at {to}"
                    );
                }
            }
            assert_eq!(fast_path.status().refused_connects, 0);
            fast_path.remove().expect("remove");
        }
    }
}

#[test]
fn f18_the_node_and_its_other_sandboxes_are_refused() {
    let node = Node::new();
    for listener in &node.listeners {
        let lab = Lab::new();
        let fast_path = node.open(&lab, Mode::Kernel);
        let generation = node.begin(&fast_path, listener);
        let others = [&node.host.namespace, &node.sandboxes[1].namespace];
        fast_path.advance(0, generation, State::Running).expect("advance");
        for to in spellings(listener) {
            assert_eq!(others.map(|other| connect(other, to)), [[Ok(()); 2]; 2], "{to}");
        }
        for state in [State::Draining, State::Stopping, State::Stopped] {
            fast_path.advance(0, generation, state).expect("advance");
            for to in spellings(listener) {
                assert_eq!(
                    others.map(|other| connect(other, to)),
                    [[REFUSED; 2]; 2],
                    "{state}: {to}"
                );
            }
        }
        fast_path.remove().expect("remove");
    }
}

#[test]
fn f18_another_bridge_with_the_same_addresses_is_undisturbed() {
    let node = Node::new();
    // As a container engine's, whose subnet happens to be ours.
    let other = Host::new();
    let container = other.sandbox(18);
    for (listener, theirs) in node.listeners.iter().zip(container.listen()) {
        let lab = Lab::new();
        let fast_path = node.open(&lab, Mode::Kernel);
        node.host
            .namespace
            .run(|| fast_path.attach_packet_hook("br0"))
            .expect("the packet hook");
        let generation = node.begin(&fast_path, listener);
        for state in [State::Draining, State::Dead] {
            fast_path.advance(0, generation, state).expect("advance");
            for namespace in [&other.namespace, &container.namespace] {
                let to = address_of(&theirs);
                assert_eq!(connect(namespace, to), [Ok(()); 2], "{state}: {to}");
            }
        }
        fast_path.remove().expect("remove");
    }
}

/// A namespace that is routed through the node: `192.0.2.2` and `2001:db8:1::2`.
fn routed(node: &Node) -> Namespace {
    let namespace = Namespace::new();
    let host = &node.host.namespace;
    host.ip("link add out0 type veth peer name out1");
    namespace.run(|| {
        // SAFETY: no arguments.
        let tid = unsafe { libc::gettid() };
        host.ip(&format!("link set out1 netns {tid}"));
    });
    host.run(|| {
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").expect("forwarding");
        std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").expect("forwarding");
    });
    host.ip("link set out0 up");
    namespace.ip("link set out1 up");
    host.ip("address add 192.0.2.1/24 dev out0");
    host.ip("address add 2001:db8:1::1/64 dev out0 nodad");
    namespace.ip("address add 192.0.2.2/24 dev out1");
    namespace.ip("address add 2001:db8:1::2/64 dev out1 nodad");
    namespace.ip("route add default via 192.0.2.1");
    namespace.ip("-6 route add default via 2001:db8:1::1");
    let sandbox = &node.sandboxes[0].namespace;
    sandbox.ip("route add default via 198.51.100.1");
    sandbox.ip("-6 route add default via 2001:db8::1");
    namespace
}

#[test]
fn f18_who_comes_through_the_bridge_opens_nothing_new_and_keeps_what_is_open() {
    let node = Node::new();
    let elsewhere = routed(&node);
    for listener in &node.listeners {
        let lab = Lab::new();
        let fast_path = node.open(&lab, Mode::Kernel);
        node.host
            .namespace
            .run(|| fast_path.attach_packet_hook("br0"))
            .expect("the packet hook");
        let generation = node.begin(&fast_path, listener);
        let to = address_of(listener);
        let connect = || elsewhere.run(|| TcpStream::connect_timeout(&to, DEADLINE));
        let mut open = connect().expect("a sandbox that is booting");
        let mut theirs = listener.accept().expect("accept").0;
        for state in [State::Draining, State::Stopping] {
            fast_path.advance(0, generation, state).expect("advance");
            assert_eq!(
                connect().map(drop).map_err(|error| error.kind()),
                REFUSED,
                "{state}: {to}"
            );
            open.write_all(b"request").expect("write");
            theirs.read_exact(&mut [0; 7]).expect("the request arrives");
            theirs.write_all(b"answer").expect("answer");
            open.read_exact(&mut [0; 6]).expect("the answer arrives");
        }
        send_datagram(&elsewhere, &node.sandboxes[0].namespace, to.ip());
        assert_eq!(fast_path.status().reset_packets, 2);
        fast_path.remove().expect("remove");
    }
}

/// What is no TCP opens nothing.
fn send_datagram(from: &Namespace, to: &Namespace, address: IpAddr) {
    let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let theirs = to
        .run(|| UdpSocket::bind(SocketAddr::new(address, 0)))
        .expect("a socket");
    theirs.set_read_timeout(Some(DEADLINE)).expect("timeout");
    let port = theirs.local_addr().expect("an address");
    // Where a SYN has its flags, were this TCP.
    let sent = from.run(|| UdpSocket::bind(any)?.send_to(&[2; 64], port));
    assert_eq!(sent.expect("sending"), 64);
    assert_eq!(theirs.recv(&mut [0; 64]).expect("the datagram arrives"), 64);
}

#[test]
fn f18_each_life_of_a_slot_has_its_own_namespace() {
    let lab = Lab::new();
    let node = Namespace::new();
    node.ip("address add 198.51.100.18/32 dev lo");
    let mut fast_path = node.run(|| lab.kernel());
    let mut earlier: Option<Namespace> = None;
    // More lives than the map has places.
    for life in 0..70 {
        let namespace = Namespace::new();
        namespace.ip("address add 198.51.100.18/32 dev lo");
        let listener = namespace.listen("198.51.100.18:0");
        let init = namespace.run(Victim::start);
        let endpoint = address_of(&listener);
        let generation = occupy(&fast_path, 0, &endpoint.to_string(), init.pid(), State::Draining);
        if life % 8 == 0 {
            // The next daemon finds it, and can take it away again.
            drop(fast_path);
            fast_path = node.run(|| lab.kernel());
        }
        assert_eq!(connect(&namespace, endpoint)[0], Ok(()), "life {life}: itself");
        assert_eq!(connect(&node, endpoint)[0], REFUSED, "life {life}: the node");
        init.end();
        if life % 2 == 0 {
            fast_path.release(0, generation).expect("release");
        }
        earlier = Some(namespace);
    }
    // A namespace whose life is over is a stranger's.
    begin(&fast_path, 0, "198.51.100.18:80", State::Dead);
    let earlier = earlier.expect("the last one");
    let listener = earlier.listen("198.51.100.18:0");
    assert_eq!(connect(&earlier, address_of(&listener))[0], Ok(()));
}

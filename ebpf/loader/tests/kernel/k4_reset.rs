//! Decides whether an established connection to an ended sandbox fails at once (K4).

use std::{
    io::{ErrorKind, Read, Write},
    net::{TcpListener, TcpStream},
};

use miren_loader::{FastPath, State};

use crate::{
    lab::{DEADLINE, Lab, begin},
    network::{Host, Sandbox, address_of},
};

/// Connections over both families, and the sandbox's ends of them, which nobody reads or writes.
fn connect(host: &Host, listeners: &[TcpListener]) -> Vec<(TcpStream, TcpStream)> {
    let connect = |listener: &TcpListener| {
        let ours = host
            .namespace
            .run(|| TcpStream::connect_timeout(&address_of(listener), DEADLINE))
            .expect("connect");
        let theirs = listener.accept().expect("accept").0;
        ours.set_read_timeout(Some(DEADLINE)).expect("timeout");
        (ours, theirs)
    };
    listeners.iter().map(connect).collect()
}

fn begin_both(fast_path: &FastPath, listeners: &[TcpListener], state: State) -> Vec<u64> {
    let begin = |(slot, listener)| begin(fast_path, slot, &address_of(listener).to_string(), state);
    (0..).zip(listeners).map(begin).collect()
}

/// Writes, then waits for what comes back.
fn write_and_read(stream: &mut TcpStream) -> Result<usize, ErrorKind> {
    stream.write_all(b"request").map_err(|error| error.kind())?;
    stream.read(&mut [0; 16]).map_err(|error| error.kind())
}

fn end(fast_path: &FastPath, generations: &[u64], state: State) {
    for (slot, generation) in (0..).zip(generations) {
        fast_path.advance(slot, *generation, state).expect("advance");
    }
}

fn start(host: &Host) -> (Lab, FastPath) {
    let lab = Lab::new();
    let fast_path = lab.kernel();
    host.namespace
        .run(|| fast_path.attach_packet_hook("br0"))
        .expect("the packet hook");
    (lab, fast_path)
}

fn expect_resets(connections: &mut [(TcpStream, TcpStream)], why: &str) {
    for (ours, _) in connections {
        let peer = ours.peer_addr().expect("a peer");
        assert_eq!(write_and_read(ours), Err(ErrorKind::ConnectionReset), "{why}: {peer}");
    }
}

#[test]
fn k4_a_frozen_sandbox_is_reset_when_it_is_stopped_or_dead() {
    let host = Host::new();
    let sandbox = host.sandbox(40);
    let listeners = sandbox.listen();
    for state in [State::Stopped, State::Dead] {
        let (_lab, fast_path) = start(&host);
        let generations = begin_both(&fast_path, &listeners, State::Running);
        let mut connections = connect(&host, &listeners);
        end(&fast_path, &generations, state);
        expect_resets(&mut connections, state.name());
        assert!(fast_path.status().reset_packets >= 2, "{:?}", fast_path.status());
        fast_path.remove().expect("remove");
    }
}

#[test]
fn k4_in_flight_requests_of_a_draining_sandbox_go_on() {
    let host = Host::new();
    let sandbox = host.sandbox(41);
    let listeners = sandbox.listen();
    let (_lab, fast_path) = start(&host);
    let generations = begin_both(&fast_path, &listeners, State::Running);
    let mut connections = connect(&host, &listeners);
    for state in [State::Draining, State::Stopping] {
        end(&fast_path, &generations, state);
        for (ours, theirs) in &mut connections {
            ours.write_all(b"request").expect("write");
            theirs.read_exact(&mut [0; 7]).expect("the request arrives");
            theirs.write_all(b"answer").expect("answer");
            ours.read_exact(&mut [0; 6]).expect("the answer arrives");
        }
    }
    assert_eq!(fast_path.status().reset_packets, 0);
}

#[test]
fn k4_a_sandbox_whose_network_vanished_is_reset() {
    let host = Host::new();
    let sandbox = host.sandbox(42);
    let listeners = sandbox.listen();
    let (_lab, fast_path) = start(&host);
    let generations = begin_both(&fast_path, &listeners, State::Running);
    let mut connections = connect(&host, &listeners);
    // Answered once, so that the neighbour is known.
    for (ours, theirs) in &mut connections {
        ours.write_all(b"x").expect("write");
        theirs.read_exact(&mut [0]).expect("read");
    }
    vanish(&host, sandbox);
    end(&fast_path, &generations, State::Dead);
    expect_resets(&mut connections, "no network");
}

#[test]
fn k4_a_sandbox_that_was_silent_for_long_is_reset_if_its_neighbour_entry_is_permanent() {
    let host = Host::new();
    let sandbox = host.sandbox(44);
    let listeners = sandbox.listen();
    let (_lab, fast_path) = start(&host);
    let generations = begin_both(&fast_path, &listeners, State::Running);
    for address in ["198.51.100.44", "2001:db8::44"] {
        host.namespace.ip(&format!(
            "neighbour replace {address} lladdr {} dev br0 nud permanent",
            sandbox.hardware()
        ));
    }
    let mut connections = connect(&host, &listeners);
    vanish(&host, sandbox);
    host.namespace.ip("neighbour flush dev br0");
    end(&fast_path, &generations, State::Dead);
    expect_resets(&mut connections, "no network, and nobody to ask where it was");
}

/// The cable goes before the sockets do, so that no FIN gets out.
fn vanish(host: &Host, sandbox: Sandbox) {
    host.namespace.ip(&format!("link delete {}", sandbox.port()));
}

#[test]
fn k4_a_large_write_in_flight_is_reset() {
    let host = Host::new();
    let sandbox = host.sandbox(45);
    let listeners = sandbox.listen();
    let (_lab, fast_path) = start(&host);
    let generations = begin_both(&fast_path, &listeners, State::Running);
    let mut connections = connect(&host, &listeners);
    end(&fast_path, &generations, State::Dead);
    for (ours, _) in &mut connections {
        ours.set_write_timeout(Some(DEADLINE)).expect("timeout");
        let written = ours.write_all(&vec![7; 8 << 20]).map_err(|error| error.kind());
        assert!(
            matches!(written, Err(ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)),
            "{written:?}"
        );
    }
}

#[test]
fn k4_a_syn_to_an_ended_sandbox_is_refused_without_the_connect_hook() {
    let host = Host::new();
    let sandbox = host.sandbox(46);
    let listeners = sandbox.listen();
    let lab = Lab::without_connect_hook();
    let fast_path = lab.kernel();
    host.namespace
        .run(|| fast_path.attach_packet_hook("br0"))
        .expect("the packet hook");
    let generations = begin_both(&fast_path, &listeners, State::Running);
    drop(connect(&host, &listeners));
    end(&fast_path, &generations, State::Stopped);
    for listener in &listeners {
        let to = address_of(listener);
        let connected = host.namespace.run(|| {
            TcpStream::connect_timeout(&to, DEADLINE)
                .map(drop)
                .map_err(|error| error.kind())
        });
        assert_eq!(connected, Err(ErrorKind::ConnectionRefused), "{to}");
    }
}

#[test]
fn k4_the_hook_comes_back_with_a_bridge_that_was_made_anew() {
    let host = Host::new();
    let (lab, fast_path) = start(&host);
    host.namespace.ip("link delete br0");
    let gone = fast_path.status().programs;
    assert!(
        gone.iter().any(|program| program.attached_to == "br0 (gone)"),
        "{gone:?}"
    );
    host.namespace.ip("link add br0 type bridge");
    host.namespace
        .run(|| fast_path.attach_packet_hook("br0"))
        .expect("the packet hook");
    let back = fast_path.status().programs;
    assert!(back.iter().any(|program| program.attached_to == "br0"), "{back:?}");
    host.namespace.ip("link delete br0");
    drop(fast_path);
    let adopted = lab.kernel().status().programs;
    assert_eq!(adopted.len(), 3, "a severed hook is not kept: {adopted:?}");
    let missing = lab
        .kernel()
        .attach_packet_hook("no-such-device")
        .expect_err("no interface");
    assert!(
        missing.to_string().contains("no-such-device does not exist"),
        "{missing}"
    );
}

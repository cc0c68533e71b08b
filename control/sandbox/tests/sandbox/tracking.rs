//! Decides which connections the kernel keeps track of because of a node, and that rules of others go on working.

use crate::client::ask;
use crate::node::{TestNode, with_config};
use crate::outside::{Listeners, Outside, nft, run, within};
use crate::probes::{self, Outcome};
use miren_api::resource::SandboxState;
use miren_sandbox::{NodeConfig, SandboxChange, Tracking};
use nix::sys::resource::{Usage, UsageWho, getrusage};
use nix::sys::socket::{setsockopt, sockopt::Linger};
use nix::sys::time::TimeValLike;
use std::cell::OnceCell;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;

/// Of the whole test; most of them over loopback, where they are cheapest.
const LOCAL: usize = 256_000;
const FROM_OUTSIDE: usize = 40_960;
const TO_SANDBOX: usize = 5_000;
/// Less than half of what std lets wait in the queue of a listener.
const BATCH: usize = 32;
const ROUNDS: usize = 20;
/// What a few probes of name servers and the like may leave.
const FEW: u64 = 32;

fn entries() -> u64 {
    let count = std::fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_count").expect("connection tracking");
    count.trim().parse().expect("a number")
}

/// Ends with a reset: what waits after an orderly end would use up the ports.
fn connect_shortly(to: SocketAddr) {
    let stream = TcpStream::connect(to).expect("a connection");
    let at_once = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    setsockopt(&stream, Linger, &at_once).expect("an option");
}

/// Makes connections from a namespace and takes them, as many at a time as wait in the queue of the listener.
fn batch(listener: &TcpListener, to: SocketAddr) {
    (0..BATCH).for_each(|_| connect_shortly(to));
    (0..BATCH).for_each(|_| drop(listener.accept().expect("a connection")));
}

/// Makes so many connections, by two threads; the most entries that were seen meanwhile.
fn flood(from: &Path, listener: &TcpListener, to: SocketAddr, count: usize) -> u64 {
    let mut most = 0;
    for _ in 0..ROUNDS {
        std::thread::scope(|scope| {
            for _ in 0..2 {
                let batches = count / (2 * ROUNDS * BATCH);
                scope.spawn(move || within(from, || (0..batches).for_each(|_| batch(listener, to))));
            }
        });
        most = most.max(entries());
    }
    most
}

/// Runs a test with an ingress, and the namespace of clients outside.
fn with_ingress(change: impl FnOnce(&mut NodeConfig), test: impl AsyncFnOnce(&mut TestNode, &TcpListener, &Outside)) {
    let made = OnceCell::new();
    let configure = |config: &mut NodeConfig| {
        let (ingress, _) = made.get_or_init(|| {
            let outside = Outside::new("out", &["203.0.113.1/24"], &["203.0.113.2/24"]);
            (TcpListener::bind("0.0.0.0:0").expect("a listener"), outside)
        });
        config.ingress = vec![ingress.local_addr().expect("an address")];
        change(config);
    };
    with_config(configure, async |node| {
        let (ingress, outside) = made.get().expect("they were made");
        test(node, ingress, outside).await;
    });
}

fn port(listener: &TcpListener) -> u16 {
    listener.local_addr().expect("an address").port()
}

fn here() -> &'static Path {
    Path::new("/proc/thread-self/ns/net")
}

fn namespace(node: &TestNode, sandbox: &SandboxChange) -> std::path::PathBuf {
    node.config.run_dir.join("netns").join(sandbox.id.as_str())
}

fn processor_time() -> i64 {
    let used = |usage: Usage| usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    used(getrusage(UsageWho::RUSAGE_SELF).expect("usage"))
}

#[test]
fn f2_300_000_short_connections_are_not_tracked_and_a_sandbox_starts_after_them() {
    with_ingress(
        |_| (),
        async |node, ingress, outside| {
            let order = node.order("listen 0.0.0.0");
            let running = node.run(&order).await;
            let own = std::fs::File::open(here()).expect("a namespace");
            let here = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&own));
            let (local, public) = (Ipv4Addr::LOCALHOST, Ipv4Addr::new(203, 0, 113, 1));
            let mut seen = vec![
                (
                    "local",
                    flood(here.as_ref(), ingress, (local, port(ingress)).into(), LOCAL),
                ),
                (
                    "from outside",
                    flood(&outside.path(), ingress, (public, port(ingress)).into(), FROM_OUTSIDE),
                ),
            ];
            (0..TO_SANDBOX).for_each(|_| assert_eq!(ask(&running, "cwd"), "/app"));
            seen.push(("to the sandbox", entries()));
            for (kind, most) in &seen {
                assert!(*most <= FEW, "{most} entries: {seen:?}; {kind} is tracked");
            }
            let next = node.order("listen 0.0.0.0");
            node.run(&next).await;
            for order in [order, next] {
                node.drain_now(&order.id, "test over");
                node.until(&order.id, SandboxState::Stopped).await;
            }
        },
    );
}

/// Prints what a connection costs; nothing is asserted of it but that the setting does what it says.
#[test]
fn f2_tracking_of_all_is_a_setting() {
    const COUNT: usize = 64_000;
    for (tracking, name) in [(Tracking::Egress, "egress"), (Tracking::All, "all")] {
        std::thread::spawn(move || {
            with_ingress(
                |config| config.tracking = tracking,
                async |_, ingress, _| {
                    let own = std::fs::File::open(here()).expect("a namespace");
                    let here = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&own));
                    let to = (Ipv4Addr::LOCALHOST, port(ingress)).into();
                    let before = processor_time();
                    let most = flood(here.as_ref(), ingress, to, COUNT);
                    let used = (processor_time() - before) as f64 / COUNT as f64;
                    println!(
                        "network.tracking = {name:?}: {used:.2} µs of processor time a connection, {most} entries"
                    );
                    assert_eq!(most > FEW, tracking == Tracking::All, "{most} entries");
                },
            );
        })
        .join()
        .expect("a measurement");
    }
}

/// More than fits into any buffer, there and back, in pieces that cross.
fn converse(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_read_timeout(Some(crate::node::SOON))?;
    stream.set_nodelay(true)?;
    for round in 0..20_u8 {
        let sent = vec![round; 16 << 10];
        stream.write_all(&sent)?;
        let mut back = vec![0; sent.len()];
        stream.read_exact(&mut back)?;
        assert!(back == sent, "something else came back");
    }
    Ok(())
}

/// Sends back what one client sends.
fn echo(listener: &TcpListener) {
    let (mut stream, _) = listener.accept().expect("a client");
    stream.set_nodelay(true).expect("an option");
    let mut there = stream.try_clone().expect("a stream");
    let _ = std::io::copy(&mut stream, &mut there);
}

fn conversation(from: &Path, to: impl Into<SocketAddr>, listener: &TcpListener) -> Result<(), String> {
    let to = to.into();
    std::thread::scope(|scope| {
        let stream = within(from, || TcpStream::connect_timeout(&to, probes::SILENCE));
        let stream = stream.map_err(|error| format!("connecting to {to}: {error}"))?;
        scope.spawn(|| echo(listener));
        converse(stream).map_err(|error| format!("talking with {to}: {error}"))
    })
}

#[test]
fn f2_a_port_that_the_operator_leads_to_the_ingress_goes_on_working() {
    with_ingress(
        |_| (),
        async |node, ingress, outside| {
            let order = node.order("listen 0.0.0.0");
            let running = node.run(&order).await;
            let to = port(ingress);
            run("nft add table ip operator");
            for hook in ["prerouting", "output"] {
                nft(&format!(
                    "add chain ip operator {hook} {{ type nat hook {hook} priority -100; }}"
                ));
                nft(&format!(
                    "add rule ip operator {hook} fib daddr type local tcp dport 8880 redirect to :{to}"
                ));
            }
            let own = std::fs::File::open(here()).expect("a namespace");
            let here = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&own));
            let (sandbox, gateway) = (namespace(node, &running), node.config.subnet.gateway());
            let public = Ipv4Addr::new(203, 0, 113, 1);
            let mut said = String::new();
            for (name, from, address) in [
                ("outside", outside.path().as_path(), public),
                ("here", here.as_ref(), Ipv4Addr::LOCALHOST),
                ("here, by another address", here.as_ref(), public),
                ("a sandbox", sandbox.as_path(), gateway),
                ("a sandbox, by another address", sandbox.as_path(), public),
            ] {
                for port in [8880, to] {
                    let outcome = conversation(from, (address, port), ingress);
                    said += &format!("from {name} to {address}:{port}: {outcome:?}\n");
                }
            }
            assert!(!said.contains("Err"), "{said}");
            node.drain_now(&order.id, "test over");
            node.until(&order.id, SandboxState::Stopped).await;
        },
    );
}

#[test]
fn f3_a_published_port_of_a_container_beside_is_open_to_others_and_to_whom_it_is_allowed() {
    let port = 9990;
    let allow = |config: &mut NodeConfig| {
        config.allow = vec!["203.0.113.1:9990/tcp".parse().expect("a destination")];
    };
    with_ingress(allow, async |node, _, outside| {
        let container = Outside::behind_bridge("box", &["172.30.0.1/24"], &["172.30.0.2/24"]);
        run(&format!(
            "nsenter --net={} ip route add default via 172.30.0.1",
            container.path().display()
        ));
        let Listeners { tcp: listener, .. } = container.listen(0);
        let inside = self::port(&listener);
        run("nft add table ip containers");
        nft("add chain ip containers prerouting { type nat hook prerouting priority -100; }");
        for published in [port, port + 1] {
            nft(&format!(
                "add rule ip containers prerouting fib daddr type local tcp dport {published} dnat to 172.30.0.2:{inside}"
            ));
        }
        let order = node.order("listen 0.0.0.0");
        let running = node.run(&order).await;
        let sandbox = namespace(node, &running);
        let public = Ipv4Addr::new(203, 0, 113, 1);
        assert_eq!(conversation(&outside.path(), (public, port), &listener), Ok(()));
        assert_eq!(conversation(&sandbox, (public, port), &listener), Ok(()));
        let other = probes::tcp(&sandbox, (IpAddr::V4(public), port + 1).into());
        assert_eq!(other, Outcome::Refused, "a port that is not allowed");
        node.drain_now(&order.id, "test over");
        node.until(&order.id, SandboxState::Stopped).await;
    });
}

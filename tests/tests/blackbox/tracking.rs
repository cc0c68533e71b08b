//! Short connections without end, on a machine whose tracking is its own: what is deployed and probed meanwhile does not notice.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use miren_api::resource::SandboxState;
use miren_blackbox::{AppFolder, Node, NodeOptions, request_lines, wait_until};
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, setsockopt, socket, sockopt::Linger,
};

const LIMIT: Duration = Duration::from_secs(120);
/// More than the kernel tracks at most by default.
const CONNECTIONS: usize = 300_000;
/// What a deploy, probes and the like may leave tracked.
const FEW: i64 = 64;
/// From each address this many before the next one: one address alone has not ports enough to fill the table.
const FROM_ONE: usize = 10_000;
const FLOODERS: usize = 2;

/// Runs a test in a network namespace of its own, which every process it starts is in.
fn alone(test: impl FnOnce() + Send) {
    thread::scope(|scope| {
        let apart = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("a namespace");
            let up = Command::new("ip").args(["link", "set", "lo", "up"]).status();
            assert!(up.expect("ip").success(), "loopback");
            test();
        });
        if let Err(panicked) = apart.join() {
            std::panic::resume_unwind(panicked);
        }
    });
}

/// Ends with a reset: what waits after an orderly end would use up the ports.
fn connect_shortly(from: Ipv4Addr, to: SocketAddr) {
    let stream = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).expect("a socket");
    let at_once = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    setsockopt(&stream, Linger, &at_once).expect("an option");
    let [a, b, c, d] = from.octets();
    bind(stream.as_raw_fd(), &SockaddrIn::new(a, b, c, d, 0)).expect("an address of loopback");
    let SocketAddr::V4(to) = to else {
        panic!("{to} is no IPv4 address")
    };
    // One that is not taken is part of what is tested.
    let _ = connect(stream.as_raw_fd(), &SockaddrIn::from(to));
}

/// Connections to the ingress for as long as it is told to.
#[derive(Default)]
struct Flood {
    made: AtomicUsize,
    is_over: AtomicBool,
}

impl Flood {
    fn run(&self, first: u8, to: SocketAddr) {
        for host in (first..=254).cycle() {
            for _ in 0..FROM_ONE {
                if self.is_over.load(Ordering::Relaxed) {
                    return;
                }
                connect_shortly(Ipv4Addr::new(127, 0, 1, host), to);
                self.made.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// Ends the flood also when the test fails.
struct Until<'f>(&'f Flood);

impl Drop for Until<'_> {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::Relaxed);
    }
}

fn tracked(node: &Node) -> i64 {
    let counted = node.control_metrics();
    let line = counted
        .lines()
        .find_map(|line| line.strip_prefix("miren_conntrack_entries "));
    let line = line.unwrap_or_else(|| panic!("no miren_conntrack_entries in {counted}"));
    line.parse().expect("a number")
}

/// How many probes have reached each of these sandboxes.
fn probes(node: &Node, ids: &[String]) -> Vec<usize> {
    let lines = request_lines(&node.cli, "steady");
    let of = |id: &String| lines.iter().filter(|line| line.sandbox == *id).count();
    ids.iter().map(of).collect()
}

fn running(node: &Node) -> Vec<String> {
    let mut ids: Vec<String> = node.running("steady").iter().map(|one| one.id.to_string()).collect();
    ids.sort_unstable();
    ids
}

#[test]
fn f2_through_300_000_short_connections_an_app_is_deployed_and_probes_arrive() {
    alone(|| {
        let node = NodeOptions::unique().http("0.0.0.0:0").start();
        node.deploy(&AppFolder::rust("steady").and("health.path = \"/info\"").fixed(2));
        node.wait_running("steady", 2);
        let before = running(&node);
        let (flood, ingress) = (
            Flood::default(),
            SocketAddr::from((Ipv4Addr::LOCALHOST, node.http.port())),
        );
        thread::scope(|scope| {
            let until = Until(&flood);
            for first in 1..=FLOODERS {
                let (flood, first) = (&flood, u8::try_from(first * 100).expect("a few"));
                scope.spawn(move || flood.run(first, ingress));
            }
            wait_until("the flood", LIMIT, || match flood.made.load(Ordering::Relaxed) {
                made if made >= CONNECTIONS => Ok(()),
                made => Err(format!("{made} connections")),
            });
            let most = tracked(&node);
            assert!(most <= FEW, "{most} entries: the flood is tracked");
            let probed = probes(&node, &before);
            node.deploy(&AppFolder::rust("late").fixed(1));
            wait_until("a probe of each sandbox", LIMIT, || {
                let now = probes(&node, &before);
                let arrived = now.iter().zip(&probed).all(|(now, before)| now > before);
                if arrived {
                    Ok(())
                } else {
                    Err(format!("{probed:?} before, {now:?} now"))
                }
            });
            drop(until);
        });
        assert_eq!(running(&node), before, "sandboxes that were given up");
        let others = node.sandboxes("steady");
        let ended = others.iter().find(|one| one.state != SandboxState::Running);
        assert_eq!(ended, None, "one that ended");
        assert!(tracked(&node) <= FEW, "{} entries", tracked(&node));
        node.stop();
    });
}

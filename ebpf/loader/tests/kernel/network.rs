//! Decides how a test gets a network of its own: a host side with a bridge, and sandboxes behind it.

use std::{
    fs::File,
    net::{Ipv6Addr, SocketAddr, TcpListener, UdpSocket},
    os::fd::AsFd,
    process::Command,
};

use nix::sched::{CloneFlags, setns, unshare};

use crate::lab::wait_until;

/// A network namespace that lives as long as this, or as sockets made in it.
pub struct Namespace(File);

impl Namespace {
    pub fn new() -> Self {
        let file = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace (needs root)");
            for setting in ["all", "default"] {
                std::fs::write(format!("/proc/sys/net/ipv6/conf/{setting}/accept_dad"), "0").expect("accept_dad");
            }
            ip("link set lo up");
            File::open("/proc/thread-self/ns/net").expect("the namespace's file")
        });
        Self(file.join().expect("namespace"))
    }

    /// Runs something in the namespace: sockets made there stay there.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                setns(self.0.as_fd(), CloneFlags::CLONE_NEWNET).expect("entering the namespace");
                work()
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    pub fn ip(&self, arguments: &str) {
        self.run(|| ip(arguments));
    }

    pub fn listen(&self, address: &str) -> TcpListener {
        self.run(|| TcpListener::bind(address).unwrap_or_else(|error| panic!("listening on {address}: {error}")))
    }
}

/// The host side: bridge `br0` with `198.51.100.1/24` and `2001:db8::1/64`.
pub struct Host {
    pub namespace: Namespace,
}

impl Host {
    pub fn new() -> Self {
        let namespace = Namespace::new();
        // As in production: an address of its own and a port that is always there. A bridge that takes its address from
        // its ports, or has none of them, forgets its neighbours when a sandbox goes, and then nothing reaches the hook.
        namespace.ip("link add br0 address 02:00:00:00:00:01 type bridge forward_delay 0");
        namespace.ip("link add carrier0 type veth peer name carrier1");
        namespace.ip("link set carrier0 master br0 up");
        namespace.ip("link set carrier1 up");
        namespace.ip("link set br0 up");
        namespace.ip("address add 198.51.100.1/24 dev br0");
        namespace.ip("address add 2001:db8::1/64 dev br0 nodad");
        Self { namespace }
    }

    /// A sandbox at `198.51.100.NUMBER` and `2001:db8::NUMBER`, on port `veNUMBER` of the bridge.
    pub fn sandbox(&self, number: u8) -> Sandbox {
        let namespace = Namespace::new();
        // The peer is made in the host's namespace by a thread there and pulled over by a thread of the sandbox's.
        self.namespace
            .ip(&format!("link add ve{number} type veth peer name pe{number}"));
        namespace.run(|| {
            // SAFETY: no arguments.
            let tid = unsafe { libc::gettid() };
            self.namespace.ip(&format!("link set pe{number} netns {tid}"));
        });
        self.namespace.ip(&format!("link set ve{number} master br0 up"));
        namespace.ip(&format!("link set pe{number} address {} up", hardware(number)));
        namespace.ip(&format!("address add 198.51.100.{number}/24 dev pe{number}"));
        namespace.ip(&format!("address add 2001:db8::{number}/64 dev pe{number} nodad"));
        Sandbox { namespace, number }
    }
}

pub struct Sandbox {
    pub namespace: Namespace,
    number: u8,
}

impl Sandbox {
    /// A listener on each of its addresses.
    pub fn listen(&self) -> [TcpListener; 2] {
        let v4 = format!("198.51.100.{}:0", self.number);
        let v6 = format!("[2001:db8::{}]:0", self.number);
        [self.namespace.listen(&v4), self.namespace.listen(&v6)]
    }

    pub fn hardware(&self) -> String {
        hardware(self.number)
    }

    pub fn port(&self) -> String {
        format!("ve{}", self.number)
    }
}

pub fn address_of(listener: &TcpListener) -> SocketAddr {
    listener.local_addr().expect("an address")
}

/// A locally administered address.
fn hardware(number: u8) -> String {
    format!("02:00:00:00:00:{number:02x}")
}

fn ip(arguments: &str) {
    let output = Command::new("ip")
        .args(arguments.split(' '))
        .output()
        .expect("running ip");
    assert!(
        output.status.success(),
        "ip {arguments}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let added = arguments
        .strip_prefix("address add ")
        .and_then(|rest| rest.split_once('/'));
    if let Some(Ok(address)) = added.map(|(address, _)| address.parse()) {
        until_it_is_ours(address);
    }
}

/// The kernel adds the route to an IPv6 address of its own a while after the address.
fn until_it_is_ours(address: Ipv6Addr) {
    wait_until(&format!("the route to {address}"), Ok(()), || {
        let socket = UdpSocket::bind("[::]:0").map_err(|error| error.kind())?;
        socket.connect((address, 9)).map_err(|error| error.kind())
    });
}

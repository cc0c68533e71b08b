//! Decides what other networks a test has around its node: namespaces at the other end of a link.

use nix::sched::{CloneFlags, setns};
use std::fs::File;
use std::net::{SocketAddrV4, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// A namespace that knows nothing of the sandboxes' subnet.
pub struct Outside(Child);

impl Outside {
    /// Behind a veth pair. Each address is given with its network as the far end has it; the near end has the first one.
    pub fn new(link: &str, near: &[&str], far: &[&str]) -> Self {
        let outside = Self::unconnected();
        run(&format!(
            "ip link add {link}a type veth peer name {link}b netns {}",
            outside.0.id()
        ));
        outside.configure(link, &format!("{link}a"), near, far);
        outside
    }

    /// Behind a bridge, as containers of other programs are.
    pub fn behind_bridge(link: &str, near: &[&str], far: &[&str]) -> Self {
        let outside = Self::unconnected();
        run(&format!("ip link add {link} type bridge"));
        run(&format!(
            "ip link add {link}a type veth peer name {link}b netns {}",
            outside.0.id()
        ));
        run(&format!("ip link set {link}a master {link}"));
        run(&format!("ip link set {link}a up"));
        outside.configure(link, link, near, far);
        outside
    }

    fn unconnected() -> Self {
        let child = Command::new("unshare").args(["--net", "sleep", "300"]).spawn();
        let outside = Self(child.expect("unshare"));
        let own = std::fs::read_link("/proc/thread-self/ns/net").expect("a namespace");
        let deadline = Instant::now() + Duration::from_secs(10);
        while std::fs::read_link(outside.path()).expect("a namespace") == own {
            assert!(Instant::now() < deadline, "unshare did not make a namespace");
            std::thread::yield_now();
        }
        outside
    }

    fn configure(&self, link: &str, near_end: &str, near: &[&str], far: &[&str]) {
        let there = format!("nsenter --net={}", self.path().display());
        near.iter()
            .for_each(|address| run(&format!("ip addr add {address} dev {near_end}")));
        far.iter()
            .for_each(|address| run(&format!("{there} ip addr add {address} dev {link}b")));
        run(&format!("ip link set {near_end} up"));
        run(&format!("{there} ip link set {link}b up"));
        run(&format!("{there} ip link set lo up"));
    }

    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/ns/net", self.0.id()))
    }

    /// Listens there, at every address.
    pub fn listen(&self, port: u16) -> Listeners {
        within(&self.path(), move || Listeners::new(port))
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        let _ = self.0.kill().and_then(|()| self.0.wait());
    }
}

/// TCP and UDP at one port. Nobody accepts: the kernel makes the connections.
pub struct Listeners {
    pub tcp: TcpListener,
    pub udp: UdpSocket,
}

impl Listeners {
    /// In the namespace of this thread; port 0 is any that is free.
    pub fn new(port: u16) -> Self {
        let tcp = TcpListener::bind(("0.0.0.0", port)).expect("a listener");
        let port = tcp.local_addr().expect("an address").port();
        let udp = UdpSocket::bind(("0.0.0.0", port)).expect("a socket");
        udp.set_nonblocking(true).expect("a socket");
        Self { tcp, udp }
    }

    pub fn port(&self) -> u16 {
        self.tcp.local_addr().expect("an address").port()
    }

    pub fn at(&self, address: &str) -> SocketAddrV4 {
        SocketAddrV4::new(address.parse().expect("an address"), self.port())
    }
}

/// Runs `work` on a thread inside a namespace.
pub fn within<T: Send>(namespace: &Path, work: impl FnOnce() -> T + Send) -> T {
    let namespace = File::open(namespace).expect("a namespace");
    std::thread::scope(|threads| {
        let thread = threads.spawn(|| {
            setns(namespace, CloneFlags::CLONE_NEWNET).expect("the namespace");
            work()
        });
        thread.join().expect("the work in a namespace")
    })
}

/// Runs a command whose words have no blanks.
pub fn run(command: &str) {
    let mut words = command.split(' ');
    let mut program = Command::new(words.next().expect("a program"));
    let status = program.args(words).status().expect("a program");
    assert!(status.success(), "{command}");
}

/// Gives nft one command.
pub fn nft(command: &str) {
    let status = Command::new("nft").arg(command).status().expect("nft");
    assert!(status.success(), "{command}");
}

//! How a sandbox is connected to: each connection belongs to the lease it was made under, for good.

use super::Rules;
use crate::lease::{Conn, ConnSet, Lease};
use async_trait::async_trait;
use late::LateReader;
use pingora::http::ResponseHeader;
use pingora_core::connectors::L4Connect;
use pingora_core::protocols::l4::ext::TcpKeepalive;
use pingora_core::protocols::l4::socket::SocketAddr;
use pingora_core::protocols::l4::stream::Stream;
use pingora_core::protocols::l4::virt::VirtualSocketStream;
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::protocols::{Digest, GetProxyDigest as _};
use pingora_core::upstreams::peer::{HttpPeer, Tracer, Tracing};
use pingora_core::{Error, ErrorType, Result};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;

mod late;

/// Finds a sandbox host that vanished without a word: probes after 15 s of silence, gives up 15 s later.
const KEEPALIVE: TcpKeepalive = TcpKeepalive {
    idle: Duration::from_secs(15),
    interval: Duration::from_secs(5),
    count: 3,
    user_timeout: Duration::from_secs(30),
};

/// Set in the pool key of connections for upgrades; leases are numbered from 1 and never get there.
const UPGRADE: u64 = 1 << 63;

/// A connection could not be made for a reason on this side: the sandbox is not to blame.
pub(super) const LOCAL_FAULT: ErrorType = ErrorType::SocketError;

/// Which connection a request can use.
#[derive(Clone, Copy, Default)]
pub(super) struct Wanted {
    /// It asks for an upgrade: always a connection of its own.
    pub(super) upgrade: bool,
    /// It must not get a kept connection.
    pub(super) fresh: bool,
}

/// The peer behind a permit. Connections are pooled under the lease's own number: another lease, even one with the same
/// address and port, never gets one of them (I6).
pub(super) fn peer(lease: &Arc<Lease>, wanted: Wanted, rules: &Rules) -> Box<HttpPeer> {
    let mut peer = HttpPeer::new(lease.endpoint, false, String::new());
    let key = if wanted.fresh { Lease::fresh_key() } else { lease.serial };
    let (key, connector): (u64, Arc<dyn L4Connect + Send + Sync>) = match wanted.upgrade {
        false => (key, Arc::clone(lease) as _),
        true => (key | UPGRADE, Arc::new(Upgrading(Arc::clone(lease)))),
    };
    peer.group_key = key;
    let options = &mut peer.options;
    options.custom_l4 = Some(connector);
    options.total_connection_timeout = Some(rules.timeouts.upstream_connect);
    options.idle_timeout = Some(rules.timeouts.upstream_idle);
    options.write_timeout = Some(rules.timeouts.idle);
    options.tcp_keepalive = Some(KEEPALIVE);
    Box::new(peer)
}

/// What is known about the connection a request is sent on.
pub(super) fn conn(digest: Option<&Digest>) -> Option<Arc<Conn>> {
    let noted = digest?.proxy_digest.as_ref()?.user_data.as_ref()?;
    noted.downcast_ref::<Arc<Conn>>().map(Arc::clone)
}

#[async_trait]
impl L4Connect for Lease {
    async fn connect(&self, address: &SocketAddr) -> Result<Stream> {
        let stream = dial(address).await?;
        let fd = stream.as_raw_fd();
        noted(self, fd, Stream::from(stream))
    }
}

/// Connects for requests that ask for an upgrade.
#[derive(Debug)]
struct Upgrading(Arc<Lease>);

#[async_trait]
impl L4Connect for Upgrading {
    async fn connect(&self, address: &SocketAddr) -> Result<Stream> {
        let stream = dial(address).await?;
        let fd = stream.as_raw_fd();
        let late = VirtualSocketStream::new(Box::new(LateReader::new(stream)));
        noted(&self.0, fd, Stream::from(late))
    }
}

async fn dial(address: &SocketAddr) -> Result<TcpStream> {
    let SocketAddr::Inet(address) = address else {
        return Error::e_explain(LOCAL_FAULT, "a sandbox has an address of its own");
    };
    let connected = TcpStream::connect(address).await;
    connected.map_err(|error| Error::because(kind_of(&error), "connecting to a sandbox", error))
}

/// Makes a connection one of its lease's; fails if the lease has ended meanwhile.
fn noted(lease: &Lease, fd: RawFd, mut stream: Stream) -> Result<Stream> {
    let Some(conn) = lease.conns().register(fd) else {
        return Error::e_explain(ErrorType::ConnectError, "the lease ended while connecting");
    };
    let conns = Arc::clone(lease.conns());
    stream.tracer = Some(Tracer(Box::new(Registered { conns, fd })));
    // Hooks find what belongs to the connection in its digest.
    let head = ResponseHeader::build(200, None)?;
    stream.set_proxy_digest(ProxyDigest::new(Box::new(head), Some(Box::new(conn))));
    Ok(stream)
}

/// What a failed connect says: that nobody is there, or that this side could not try.
fn kind_of(error: &io::Error) -> ErrorType {
    match error.raw_os_error() {
        // A connect hook that refuses without an errno of its own shows as EPERM.
        Some(libc::ECONNREFUSED | libc::EPERM | libc::ECONNRESET) => ErrorType::ConnectRefused,
        Some(libc::EHOSTUNREACH | libc::ENETUNREACH | libc::EHOSTDOWN) => ErrorType::ConnectNoRoute,
        Some(libc::ETIMEDOUT) => ErrorType::ConnectTimedout,
        _ => LOCAL_FAULT,
    }
}

/// Takes a connection out of its lease's set before the descriptor is closed.
#[derive(Clone, Debug)]
struct Registered {
    conns: Arc<ConnSet>,
    fd: RawFd,
}

impl Tracing for Registered {
    fn on_connected(&self) {}

    fn on_disconnected(&self) {
        self.conns.deregister(self.fd);
    }

    fn boxed_clone(&self) -> Box<dyn Tracing> {
        Box::new(self.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use miren_api::SandboxId;
    use miren_api::lease::LeaseKey;
    use pingora_core::upstreams::peer::Peer as _;

    #[test]
    fn i6_two_leases_never_share_a_pool_of_connections() {
        let config = Config::parse("proxy.toml".as_ref(), "").unwrap();
        let rules = Rules {
            timeouts: config.timeouts,
            limits: config.limits,
            trusted: Vec::new(),
        };
        let key = LeaseKey { slot: 1, generation: 2 };
        let (sandbox, endpoint) = (SandboxId::from_text("sb-1"), "127.0.0.1:1".parse().unwrap());
        let granted = miren_api::lease::Lease {
            key,
            sandbox,
            endpoint,
            capacity: 1,
        };
        let hash = |lease: &Arc<Lease>| peer(lease, Wanted::default(), &rules).reuse_hash();
        let (one, other) = (Arc::new(Lease::alone(&granted)), Arc::new(Lease::alone(&granted)));
        assert_eq!(hash(&one), hash(&one), "its own connections are used again");
        assert_ne!(
            hash(&one),
            hash(&other),
            "same address, same port, same sandbox: another lease"
        );
    }
}

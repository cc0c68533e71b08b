//! Decides how a builder reaches a registry that only the host reaches: in a network with nothing else in it.
//!
//! What a registry answers, such as a redirect or a layer that is said to be elsewhere, leads to nothing there.

use miren_image::Authority;
use nix::sched::{CloneFlags, unshare};
use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Where a registry is that has a name, in that network.
const STAND_IN: Ipv4Addr = Ipv4Addr::new(127, 77, 0, 1);
/// Where a registry without a port is looked for: with TLS, then without.
const PORTS: [u16; 2] = [443, 80];
/// Most connections at a time; a builder has about ten.
const MOST: usize = 64;
const LOOPBACK: &[u8] = b"lo";
/// A second address of the same device.
const SECOND: &[u8] = b"lo:1";

/// A network that leads to one registry, for as long as this is held.
pub(crate) struct Relay {
    namespace: File,
    /// A line for `/etc/hosts`.
    pub(crate) hosts: String,
    _serving: JoinSet<()>,
}

impl Relay {
    /// # Errors
    /// When the network cannot be made. Whether the registry answers is seen by whoever asks it.
    pub(crate) async fn open(registry: &str) -> io::Result<Self> {
        let registry = Authority(registry);
        let host = registry.host().to_owned();
        let ports = match registry.port().map(str::parse) {
            None => PORTS.to_vec(),
            Some(port) => vec![port.map_err(io::Error::other)?],
        };
        let near = address_of(&host);
        let making = tokio::task::spawn_blocking(move || {
            // A thread that changed its namespace is never used again: it ends with its work.
            let thread = std::thread::spawn(move || make(near, &ports));
            thread
                .join()
                .map_err(|_| io::Error::other("the thread in the new network panicked"))?
        });
        let (namespace, listeners) = making.await??;
        let mut serving = JoinSet::new();
        for listener in listeners {
            let to = format!("{host}:{}", listener.local_addr()?.port());
            listener.set_nonblocking(true)?;
            serving.spawn(serve(tokio::net::TcpListener::from_std(listener)?, to));
        }
        Ok(Self {
            namespace,
            hosts: format!("{near} {host}\n"),
            _serving: serving,
        })
    }

    pub(crate) fn network(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.namespace.as_raw_fd()).into()
    }
}

/// Where a host is in the network that leads to it: at its own address, if it is named by one.
fn address_of(host: &str) -> IpAddr {
    match host.trim_matches(['[', ']']).parse() {
        Ok(address) => address,
        Err(_) if host == "localhost" => Ipv4Addr::LOCALHOST.into(),
        Err(_) => STAND_IN.into(),
    }
}

/// A network with the address on its loopback, and somebody who listens there.
fn make(near: IpAddr, ports: &[u16]) -> io::Result<(File, Vec<TcpListener>)> {
    unshare(CloneFlags::CLONE_NEWNET)?;
    let namespace = File::open("/proc/thread-self/ns/net")?;
    device::start(LOOPBACK)?;
    if let IpAddr::V4(address) = near
        && !address.is_loopback()
    {
        device::give_address(SECOND, address)?;
    }
    let listen = |port: &u16| {
        let at = SocketAddr::new(near, *port);
        TcpListener::bind(at).map_err(|error| io::Error::other(format!("standing in for {at}: {error}")))
    };
    Ok((namespace, ports.iter().map(listen).collect::<io::Result<_>>()?))
}

async fn serve(listener: tokio::net::TcpListener, to: String) {
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if open.len() < MOST => match accepted {
                Ok((near, _)) => drop(open.spawn(carry(near, to.clone()))),
                Err(error) => return tracing::warn!(to, %error, "a registry is not reached any more"),
            },
            Some(_) = open.join_next() => {}
        }
    }
}

async fn carry(mut near: TcpStream, to: String) {
    match TcpStream::connect(&to).await {
        Ok(mut far) => drop(copy_bidirectional(&mut near, &mut far).await),
        // It is told by a connection that ends at once.
        Err(error) => tracing::debug!(to, %error, "a registry does not answer"),
    }
}

mod device {
    //! Network devices of the thread's namespace.

    use super::{AsRawFd, Ipv4Addr, UdpSocket, io};

    nix::ioctl_write_ptr_bad!(set_flags, libc::SIOCSIFFLAGS, libc::ifreq);
    nix::ioctl_write_ptr_bad!(set_address, libc::SIOCSIFADDR, libc::ifreq);

    fn request(name: &[u8]) -> libc::ifreq {
        // SAFETY: integers and a union of integers: all zeros are a value.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (at, byte) in request.ifr_name.iter_mut().zip(name) {
            *at = byte.cast_signed();
        }
        request
    }

    pub(super) fn start(name: &[u8]) -> io::Result<()> {
        let mut request = request(name);
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        // SAFETY: the request lives as long as the call, with the member that this call reads.
        unsafe { set_flags(socket.as_raw_fd(), &request) }?;
        Ok(())
    }

    pub(super) fn give_address(name: &[u8], address: Ipv4Addr) -> io::Result<()> {
        let mut request = request(name);
        let mut data = [0; 14];
        for (at, octet) in data[2..].iter_mut().zip(address.octets()) {
            *at = octet.cast_signed();
        }
        request.ifr_ifru.ifru_addr = libc::sockaddr {
            sa_family: libc::AF_INET as libc::sa_family_t,
            sa_data: data,
        };
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        // SAFETY: as above.
        unsafe { set_address(socket.as_raw_fd(), &request) }?;
        Ok(())
    }
}

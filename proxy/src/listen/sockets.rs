//! Which sockets the proxy serves: inherited ones named `http`, else those of the settings.

use crate::error::StartError;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{FromRawFd, OwnedFd};

/// Name under which a supervisor passes listening sockets (`LISTEN_FDNAMES`).
const NAME: &str = "http";

/// The sockets for plain HTTP, and whether a supervisor made them.
///
/// # Errors
/// When an address cannot be listened on.
pub fn http(addresses: &[SocketAddr]) -> Result<(Vec<TcpListener>, bool), StartError> {
    let inherited = inherited().map_err(StartError::Inherit)?;
    if !inherited.is_empty() {
        return Ok((inherited, true));
    }
    if addresses.is_empty() {
        return Err(StartError::NoListener);
    }
    let listen = |address: &SocketAddr| listen(*address, "listen.http");
    Ok((addresses.iter().map(listen).collect::<Result<_, _>>()?, false))
}

/// Listens on one address, named `key` in the settings.
///
/// # Errors
/// When it is taken, or not one of this machine.
pub fn listen(address: SocketAddr, key: &'static str) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => StartError::AddressInUse { address, key },
        _ => StartError::Listen { address, key, source },
    })
}

fn inherited() -> io::Result<Vec<TcpListener>> {
    let named = sd_notify::listen_fds_with_names()?.filter(|(_, name)| name == NAME);
    let sockets = named.map(|(fd, _)| {
        // SAFETY: the service manager passed this descriptor to this process, and nothing else takes it.
        TcpListener::from(unsafe { OwnedFd::from_raw_fd(fd) })
    });
    Ok(sockets.collect())
}

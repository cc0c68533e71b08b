//! How a sandbox is connected to, and what a failure to do so says.

use crate::lease::{Lease, Link};
use crate::request::attempt::Failure;
use nix::sys::socket::{setsockopt, sockopt};
use std::io;
use std::time::Duration;
use tokio::net::TcpStream;

/// Finds a sandbox that vanished without a word: probes after 15 s of silence, one each 5 s, and gives up 15 s later.
const SILENCE_SECONDS: u32 = 15;
const PROBE_SECONDS: u32 = 5;
const PROBES: u32 = 3;
/// What was sent has to be acknowledged by then.
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);

/// A new connection under `lease`.
///
/// # Errors
/// When there is none in time, or when the lease ends meanwhile. Nothing was sent then.
pub async fn dial(lease: &Lease, limit: Duration) -> Result<Link, Failure> {
    let connected = tokio::time::timeout(limit, TcpStream::connect(lease.endpoint)).await;
    let stream = match connected {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(Failure::NotConnected { here: is_ours(&error) }),
        Err(_) => return Err(Failure::NotConnected { here: false }),
    };
    if let Err(error) = prepare(&stream) {
        tracing::debug!(%error, "a connection to a sandbox was broken off at once");
        return Err(Failure::NotConnected { here: false });
    }
    lease.link(stream).ok_or(Failure::NotConnected { here: false })
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    setsockopt(stream, sockopt::KeepAlive, &true)?;
    setsockopt(stream, sockopt::TcpKeepIdle, &SILENCE_SECONDS)?;
    setsockopt(stream, sockopt::TcpKeepInterval, &PROBE_SECONDS)?;
    setsockopt(stream, sockopt::TcpKeepCount, &PROBES)?;
    let unacknowledged = u32::try_from(UNACKNOWLEDGED.as_millis()).unwrap_or(u32::MAX);
    setsockopt(stream, sockopt::TcpUserTimeout, &unacknowledged)?;
    Ok(())
}

/// Whether it is this side that could not try: the sandbox is not to blame then.
fn is_ours(error: &io::Error) -> bool {
    // A connect hook that refuses without an errno of its own shows as EPERM.
    let theirs = [
        libc::ECONNREFUSED,
        libc::EPERM,
        libc::ECONNRESET,
        libc::EHOSTUNREACH,
        libc::ENETUNREACH,
        libc::EHOSTDOWN,
        libc::ETIMEDOUT,
    ];
    !error.raw_os_error().is_some_and(|code| theirs.contains(&code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sandbox_is_not_blamed_for_what_this_side_lacks() {
        for code in [
            libc::EMFILE,
            libc::ENFILE,
            libc::EADDRNOTAVAIL,
            libc::ENOBUFS,
            libc::ENOMEM,
        ] {
            assert!(is_ours(&io::Error::from_raw_os_error(code)), "{code}");
        }
        for code in [libc::ECONNREFUSED, libc::EPERM, libc::EHOSTUNREACH] {
            assert!(!is_ours(&io::Error::from_raw_os_error(code)), "{code}");
        }
    }
}

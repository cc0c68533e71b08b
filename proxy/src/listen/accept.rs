//! How connections are taken from a listening socket, and what is done when none can be taken.

use super::{Connection, Door, House, Server};
use nix::sys::socket::{Backlog, setsockopt, sockopt};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Connections that may wait in the kernel to be accepted. The kernel takes `net.core.somaxconn` if that is less.
const QUEUE: i32 = 4096;
/// A client that is silent for so long is asked whether it is there, so often, with so long between.
const SILENCE_SECONDS: u32 = 60;
const PROBE_SECONDS: u32 = 15;
const PROBES: u32 = 4;
/// How long nothing is accepted for want of descriptors or memory, unless a connection ends before.
///
/// Others have descriptors too, of whose end nobody hears here.
pub(super) const PAUSE: Duration = Duration::from_millis(100);

/// What an error of accepting says about the next connection.
#[derive(Debug, PartialEq, Eq)]
enum Fault {
    /// Nothing: this one connection is gone.
    OfOne,
    /// It will fail too, unless something changes.
    OfAll,
}

/// Makes a listening socket ready for the runtime, whoever made it.
pub(super) fn prepare(listener: std::net::TcpListener) -> io::Result<TcpListener> {
    listener.set_nonblocking(true)?;
    // Accepted sockets inherit it: one call in place of one per connection.
    setsockopt(&listener, sockopt::TcpNoDelay, &true)?;
    // A client that vanished without a word, as a telephone does, would keep what it has for ever: an idle tunnel, a silent stream.
    setsockopt(&listener, sockopt::KeepAlive, &true)?;
    setsockopt(&listener, sockopt::TcpKeepIdle, &SILENCE_SECONDS)?;
    setsockopt(&listener, sockopt::TcpKeepInterval, &PROBE_SECONDS)?;
    setsockopt(&listener, sockopt::TcpKeepCount, &PROBES)?;
    nix::sys::socket::listen(&listener, Backlog::new(QUEUE)?)?;
    TcpListener::from_std(listener)
}

/// Accepts while the door is open, once it is; then takes those who wait already, where nobody else does.
pub(super) async fn until<S: Server>(
    listener: TcpListener,
    house: Arc<House>,
    server: Arc<S>,
    mut door: watch::Receiver<Door>,
) {
    if door.wait_for(|door| *door != Door::NotYet).await.is_err() {
        // Those who wait are another process's.
        return;
    }
    let mut stopped = std::pin::pin!(async move {
        match door.wait_for(|door| *door != Door::Open).await {
            Ok(door) => door.clone(),
            // A sender that is gone can say nothing any more.
            Err(_) => Door::Shut,
        }
    });
    let door = loop {
        let accepted = tokio::select! {
            biased;
            door = &mut stopped => break door,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => take(stream, peer, &house, &server).await,
            Err(error) if fault(&error) == Fault::OfOne => {}
            Err(error) => house.pause(&error, PAUSE).await,
        }
    };
    let Ok(listener) = listener.into_std() else { return };
    let is_anothers = |address| matches!(&door, Door::Left(taken) if taken.contains(&address));
    if !listener.local_addr().is_ok_and(is_anothers) {
        take_queue(&listener, &house, &server).await;
    }
}

/// No more than the queue holds: others come while it is emptied.
async fn take_queue<S: Server>(listener: &std::net::TcpListener, house: &Arc<House>, server: &Arc<S>) {
    for _ in 0..QUEUE {
        match listener.accept() {
            Ok((stream, peer)) => {
                if let Ok(stream) = own(stream) {
                    take(stream, peer, house, server).await;
                }
            }
            Err(error) if fault(&error) == Fault::OfOne && error.kind() != io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}

fn own(stream: std::net::TcpStream) -> io::Result<TcpStream> {
    stream.set_nonblocking(true)?;
    TcpStream::from_std(stream)
}

async fn take<S: Server>(stream: TcpStream, peer: SocketAddr, house: &Arc<House>, server: &Arc<S>) {
    if let Some(place) = house.admit(peer.ip()).await {
        server.serve(Connection { stream, peer, place });
    }
}

/// As `accept(2)` of Linux sorts them: errors that wait on the new socket are reported by it, too.
fn fault(error: &io::Error) -> Fault {
    match error.raw_os_error() {
        Some(
            libc::EAGAIN
            | libc::ECONNABORTED
            | libc::EHOSTDOWN
            | libc::EHOSTUNREACH
            | libc::EINTR
            | libc::ENETDOWN
            | libc::ENETUNREACH
            | libc::ENONET
            | libc::ENOPROTOOPT
            | libc::EOPNOTSUPP
            | libc::EPERM
            | libc::EPROTO
            | libc::ETIMEDOUT,
        ) => Fault::OfOne,
        _ => Fault::OfAll,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f13_only_what_concerns_the_next_connection_too_is_waited_out() {
        let of = |number| fault(&io::Error::from_raw_os_error(number));
        for number in [libc::ECONNABORTED, libc::EPROTO, libc::EPERM, libc::EINTR] {
            assert_eq!(of(number), Fault::OfOne, "{number}");
        }
        for number in [
            libc::EMFILE,
            libc::ENFILE,
            libc::ENOBUFS,
            libc::ENOMEM,
            libc::EBADF,
            libc::EINVAL,
        ] {
            assert_eq!(of(number), Fault::OfAll, "{number}");
        }
    }
}

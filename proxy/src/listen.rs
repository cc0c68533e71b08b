//! Decides which client connections there are, and hands each to an engine once it has a place. Knows no engine.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;

mod accept;
mod client;
pub mod descriptors;
mod house;
mod park;
mod places;
mod seldom;
pub mod sockets;
#[cfg(test)]
mod tests;

pub use house::House;
pub use park::{Next, Place};
pub use seldom::Seldom;

/// A client connection that was accepted and has its place. Small writes on it are sent at once (`TCP_NODELAY`).
///
/// The stream is to be closed before the place is dropped: whoever waits for the place may need its descriptor.
#[derive(Debug)]
pub struct Connection {
    pub stream: TcpStream,
    pub peer: SocketAddr,
    pub place: Place,
}

/// An engine: what serves the requests of a connection.
pub trait Server: Send + Sync + 'static {
    /// Begins a task that serves the connection to its end, and returns at once.
    fn serve(self: &Arc<Self>, connection: Connection);
}

/// Whether connections are taken from the listening sockets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Door {
    /// Whoever comes waits in the kernel.
    NotYet,
    Open,
    /// Those that wait already are taken, and no other: their connections would break with the socket.
    Shut,
    /// Another process accepts at these addresses and takes those that wait; at others it is as with [`Door::Shut`].
    Left(Vec<SocketAddr>),
}

/// Accepts from the time on when the door is open, until it is not any more, or nobody can say so; then the task ends once nothing new can come in and
/// connections without a request have had their moment.
///
/// Must be called within the runtime that shall serve.
///
/// # Errors
/// When a listener cannot be prepared.
pub fn listen<S: Server>(
    listeners: Vec<TcpListener>,
    house: Arc<House>,
    server: Arc<S>,
    mut door: watch::Receiver<Door>,
) -> io::Result<JoinHandle<()>> {
    let listeners: Vec<_> = listeners.into_iter().map(accept::prepare).collect::<io::Result<_>>()?;
    Ok(miren_log::spawn("the listeners", async move {
        let begin = |listener| {
            let (house, server, door) = (Arc::clone(&house), Arc::clone(&server), door.clone());
            miren_log::spawn("a listener", accept::until(listener, house, server, door))
        };
        let accepting: Vec<_> = listeners.into_iter().map(begin).collect();
        for listener in accepting {
            // The panic of one ends the process by itself.
            let _ = listener.await;
        }
        if house.has_clients() {
            // Where another process accepts, nobody waits for this one: who keeps a connection is told with its next answer.
            tokio::select! {
                () = house.is_empty() => {}
                _ = door.wait_for(|door| *door == Door::Shut) => {}
            }
        }
        house.settle(house::GRACES).await;
    }))
}

/// Has `server` serve a connection that came from nowhere, such as one end of a pair of sockets, as if it had been accepted.
///
/// # Errors
/// When there is no place for it.
pub async fn take_private<S: Server>(stream: TcpStream, house: &Arc<House>, server: &Arc<S>) -> io::Result<()> {
    let peer = SocketAddr::from(([127, 0, 0, 1], 0));
    match house.admit(peer.ip()).await {
        Some(place) => {
            server.serve(Connection { stream, peer, place });
            Ok(())
        }
        None => Err(io::Error::other("no place is free")),
    }
}

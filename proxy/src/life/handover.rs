//! What a proxy and its successor say to each other: messages of JSON on a private socket, one of which carries the listening sockets.

use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, Shutdown, SockFlag, SockType, UnixAddr, connect,
    recvmsg, sendmsg, shutdown, socket,
};
use serde::{Deserialize, Serialize};
use std::io::{self, IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use tokio::io::Interest;
use tokio::net::UnixStream;

/// Of the messages. A successor that speaks another one is refused: nothing is guessed.
pub const PROTOCOL: u32 = 1;
/// Name of the socket in the data folder, which only root and the proxy's user can reach.
const SOCKET: &str = "upgrade.sock";
/// Longest message.
const MESSAGE_MAX: usize = 64 * 1024;
/// Most descriptors in one message (`SCM_MAX_FD`).
pub const DESCRIPTORS_MAX: usize = 253;

/// Where the proxy that owns `data_dir` is asked.
pub fn socket_in(data_dir: &Path) -> PathBuf {
    data_dir.join(SOCKET)
}

/// What is said, in this order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case")]
pub enum Message {
    /// The successor begins.
    Hello { protocol: u32, version: String, pid: u32 },
    /// The answer, with a descriptor for each of `sockets`, and one more for the log.
    Sockets {
        pid: u32,
        sockets: Vec<Socket>,
        /// What is served now: a successor does not begin with less.
        lineage: String,
        generation: u64,
        /// Within how many milliseconds the supervisor wants to hear that the process goes on.
        #[serde(default)]
        watchdog_ms: Option<u64>,
    },
    /// The successor is ready to accept at these addresses.
    Serving { addresses: Vec<SocketAddr> },
    /// The process before it makes way: the successor serves, whatever becomes of either. That nothing is accepted and nothing written
    /// there any more is said by the end of the connection.
    Yours,
    /// In place of any answer: nothing is handed over.
    Refused { why: String },
}

/// A listening socket that is handed over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Socket {
    pub of: Purpose,
    pub address: SocketAddr,
    /// Whether a supervisor made it: then it is served whatever the settings say.
    #[serde(default)]
    pub inherited: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    Http,
    Admin,
}

/// One end of the connection. It keeps messages apart (`SOCK_SEQPACKET`), and is read from by the functions of this file only.
#[derive(Debug)]
pub struct Peer(UnixStream);

impl Peer {
    /// Must be called within a runtime.
    pub fn of(socket: OwnedFd) -> io::Result<Self> {
        let socket = std::os::unix::net::UnixStream::from(socket);
        socket.set_nonblocking(true)?;
        Ok(Self(UnixStream::from_std(socket)?))
    }

    pub fn accepted(socket: UnixStream) -> Self {
        Self(socket)
    }

    pub async fn send(&self, message: &Message, descriptors: &[RawFd]) -> io::Result<()> {
        let send = || send(self.0.as_fd(), message, descriptors);
        self.0.async_io(Interest::WRITABLE, send).await
    }

    /// Says and takes nothing more: what the other end has not said by now, it cannot say. What it has is still to be received.
    pub fn give_up(&self) -> io::Result<()> {
        Ok(shutdown(self.0.as_raw_fd(), Shutdown::Both)?)
    }

    /// The next message; none at the end.
    pub async fn receive(&self) -> io::Result<Option<Message>> {
        let received = self.0.async_io(Interest::READABLE, || receive(self.0.as_fd())).await?;
        Ok(received.map(|(message, _)| message))
    }
}

/// A connection to who listens at `path`.
pub fn dial(path: &Path) -> io::Result<OwnedFd> {
    let socket = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)?;
    connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(socket)
}

/// Says one thing.
pub fn send(socket: BorrowedFd<'_>, message: &Message, descriptors: &[RawFd]) -> io::Result<()> {
    let bytes = serde_json::to_vec(message)?;
    let rights = [ControlMessage::ScmRights(descriptors)];
    let rights = if descriptors.is_empty() { &[][..] } else { &rights[..] };
    sendmsg::<()>(
        socket.as_raw_fd(),
        &[IoSlice::new(&bytes)],
        rights,
        MsgFlags::MSG_NOSIGNAL,
        None,
    )?;
    Ok(())
}

/// The next thing said, and what came with it; none at the end.
pub fn receive(socket: BorrowedFd<'_>) -> io::Result<Option<(Message, Vec<OwnedFd>)>> {
    let (mut bytes, mut space) = (vec![0; MESSAGE_MAX], cmsg_space!([RawFd; DESCRIPTORS_MAX]));
    let (length, flags, descriptors) = {
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let received = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut space), flags);
        let received = match received {
            Err(Errno::ECONNRESET) => return Ok(None),
            received => received?,
        };
        let mut descriptors = Vec::new();
        for part in received.cmsgs()? {
            if let ControlMessageOwned::ScmRights(numbers) = part {
                // SAFETY: the kernel has just made these descriptors for this process, and nothing else knows them.
                descriptors.extend(
                    numbers
                        .into_iter()
                        .map(|number| unsafe { OwnedFd::from_raw_fd(number) }),
                );
            }
        }
        (received.bytes, received.flags, descriptors)
    };
    if length == 0 {
        return Ok(None);
    }
    if flags.intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC) {
        return Err(io::Error::other("it said more than is listened to"));
    }
    let message = serde_json::from_slice(&bytes[..length])?;
    Ok(Some((message, descriptors)))
}

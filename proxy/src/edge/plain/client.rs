//! The client's side of an HTTP/1 connection: its heads, counted while they are read, and what is written to it.

use super::budget::Share;
use super::scan::Scan;
use super::wire;
use crate::listen::Place;
use crate::request::head::Head;
use crate::request::refusal::Reason;
use bytes::BytesMut;
use std::io;
use std::net::IpAddr;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::Instant;

/// What the first read of a head asks for: most are smaller.
const HEAD_READ: usize = 4 * 1024;

/// One client connection while it is served.
#[derive(Debug)]
pub struct Client<'c> {
    pub stream: &'c TcpStream,
    pub peer: IpAddr,
    /// Read, and not yet understood.
    pub input: BytesMut,
    /// How long it may refuse to take a byte.
    pub stall: Duration,
    /// What its request holds before it has a sandbox.
    pub memory: Share<'c>,
}

/// Why there is no head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRequest {
    /// The client is to be told.
    Refuse(Reason),
    /// There is nobody to tell.
    Gone,
}

impl Client<'_> {
    /// The next head, of at most `most` bytes, which has to be there at `deadline`.
    pub async fn read_head(&mut self, most: u64, deadline: Instant, place: &Place) -> Result<Head, NoRequest> {
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let mut scan = Scan::default();
        loop {
            match scan.end(&mut self.input) {
                Ok(Some(end)) => {
                    let text = self.input.split_to(end).freeze();
                    return Head::parse(text).map_err(NoRequest::Refuse);
                }
                Ok(None) => {}
                Err(_) => return Err(NoRequest::Refuse(Reason::BadRequest)),
            }
            // Before more is read: a head costs no more memory than it may.
            let room = most.saturating_sub(self.input.len());
            if room == 0 {
                return Err(NoRequest::Refuse(Reason::HeaderTooLarge));
            }
            let step = room.min(HEAD_READ);
            if !self.memory.hold((self.input.len() + step) as u64, place).await {
                return Err(NoRequest::Refuse(Reason::QueueFull));
            }
            self.read_more(step, deadline).await?;
        }
    }

    async fn read_more(&mut self, most: usize, deadline: Instant) -> Result<(), NoRequest> {
        let read = wire::read(self.stream, &mut self.input, most);
        match tokio::time::timeout_at(deadline, read).await {
            Ok(Ok(1..)) => Ok(()),
            Ok(Ok(0) | Err(_)) => Err(NoRequest::Gone),
            Err(_) if self.input.is_empty() => Err(NoRequest::Gone),
            Err(_) => Err(NoRequest::Refuse(Reason::RequestTimeout)),
        }
    }

    /// Writes all of `parts`.
    pub async fn write(&self, parts: &[&[u8]]) -> io::Result<()> {
        wire::write(self.stream, parts, self.stall).await
    }
}

/// The most that is read and dropped of a client that is still sending when its connection ends.
const LINGER_BYTES: usize = 16 * 1024 * 1024;
/// And the longest that takes.
const LINGER_TIME: Duration = Duration::from_secs(5);

/// Ends a connection so that what was written last arrives: a close with unread bytes would be a reset, which overtakes it.
pub async fn linger(stream: &TcpStream) {
    use nix::sys::socket::{Shutdown, shutdown};
    use std::os::fd::AsRawFd as _;
    if shutdown(stream.as_raw_fd(), Shutdown::Write).is_err() {
        return;
    }
    let drop_all = async {
        let (mut dropped, mut buffer) = (0, BytesMut::with_capacity(HEAD_READ));
        while dropped < LINGER_BYTES {
            match wire::read(stream, &mut buffer, HEAD_READ).await {
                Ok(0) | Err(_) => return,
                Ok(count) => dropped += count,
            }
            buffer.clear();
        }
    };
    // Whoever is still sending by then does not listen.
    let _ = tokio::time::timeout(LINGER_TIME, drop_all).await;
}

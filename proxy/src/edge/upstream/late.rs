//! Why the answer to an upgrade is read a moment late.
//!
//! Pingora 0.9.1 sends a request's head, then reads the answer and passes the end of the (empty) body on in any order. When
//! the answer 101 is seen first, the end of the body is taken for the end of the tunnel, which closes at once. An app that
//! answers quickly meets that now and then. The end of the body waits in a channel by the time the first read is tried: a
//! first read that finds nothing lets it go first.

use pingora_core::protocols::l4::virt::{VirtualSockOpt, VirtualSocket};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// A connection whose first read finds nothing.
#[derive(Debug)]
pub(super) struct LateReader {
    stream: TcpStream,
    tried: bool,
}

impl LateReader {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream, tried: false }
    }
}

impl AsyncRead for LateReader {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.tried {
            self.tried = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for LateReader {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl VirtualSocket for LateReader {
    /// A tunnel that is silent is no fault; a sandbox that is gone is told by its slot word.
    fn set_socket_option(&self, option: VirtualSockOpt) -> io::Result<()> {
        match option {
            VirtualSockOpt::NoDelay => self.stream.set_nodelay(true),
            _ => Ok(()),
        }
    }
}

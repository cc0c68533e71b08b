//! A client connection as Pingora reads it: with a time limit on each request head, and with our words for its refusals.
//!
//! Pingora limits the time of each read, not of a whole head, and answers a malformed head before any hook of ours runs.
//! Both are seen from here, since a connection is always in one of three phases.

use super::answer;
use super::listener::Share;
use crate::config::Timeouts;
use crate::gate::{Class, Gate, Held};
use crate::metrics::Metrics;
use crate::refusal::Reason;
use async_trait::async_trait;
use parking_lot::Mutex;
use pingora::http::ResponseHeader;
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::protocols::tls::SslDigest;
use pingora_core::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, Stream, TimingDigest,
    UniqueID,
};
use std::io;
use std::os::fd::RawFd;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// Between requests: no byte of the next one has arrived.
const IDLE: u8 = 0;
/// A request head is arriving.
const HEAD: u8 = 1;
/// A request is being served.
const SERVING: u8 = 2;

/// What is known about a client connection. Hooks find it through the session's digest.
#[derive(Debug)]
pub(super) struct ClientConn {
    phase: AtomicU8,
    pub(super) fd: RawFd,
    metrics: Arc<Metrics>,
    fresh: Mutex<Option<Held>>,
    _counted: Held,
    _share: Option<Share>,
}

impl ClientConn {
    pub(super) fn new(gate: &Arc<Gate>, metrics: Arc<Metrics>, share: Option<Share>, fd: RawFd) -> Self {
        metrics.open_connections.inc();
        Self {
            phase: AtomicU8::new(IDLE),
            fd,
            metrics,
            fresh: Mutex::new(Some(gate.enter(Class::Fresh))),
            _counted: gate.enter(Class::Connection),
            _share: share,
        }
    }

    /// A whole request head has arrived.
    pub(super) fn request_begins(&self) {
        self.phase.store(SERVING, Ordering::Relaxed);
        drop(self.fresh.lock().take());
    }

    /// Its answer has been sent.
    pub(super) fn request_ends(&self) {
        self.phase.store(IDLE, Ordering::Relaxed);
    }

    fn phase(&self) -> u8 {
        self.phase.load(Ordering::Relaxed)
    }
}

impl Drop for ClientConn {
    fn drop(&mut self) {
        self.metrics.open_connections.dec();
    }
}

/// The stream of a client connection.
#[derive(Debug)]
pub(super) struct ClientStream {
    inner: Stream,
    conn: Arc<ClientConn>,
    digest: Arc<ProxyDigest>,
    timeouts: Timeouts,
    /// Whether the connection was between requests at the last read.
    was_idle: bool,
    /// Until when the current phase may last.
    deadline: Instant,
    /// Fires at the deadline or earlier; then it is set again. Made on the first wait.
    timer: Option<Pin<Box<Sleep>>>,
    /// Our answer to a malformed head, and how much of it is written.
    answer: Option<(Vec<u8>, usize)>,
}

impl ClientStream {
    pub(super) fn new(inner: Stream, conn: Arc<ClientConn>, timeouts: Timeouts) -> Self {
        // The digest is the one place of a connection that both sides of Pingora's session can reach; it needs a head.
        let head = ResponseHeader::build(200, None).unwrap_or_else(|error| unreachable!("200 is a status: {error}"));
        let digest = Arc::new(ProxyDigest::new(Box::new(head), Some(Box::new(Arc::clone(&conn)))));
        let deadline = Instant::now() + timeouts.idle;
        Self {
            inner,
            conn,
            digest,
            timeouts,
            was_idle: true,
            deadline,
            timer: None,
            answer: None,
        }
    }

    /// Ready when the current phase has lasted too long.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let deadline = self.deadline;
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if timer.deadline() > deadline {
            timer.as_mut().reset(deadline);
        }
        loop {
            ready!(timer.as_mut().poll(cx));
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            timer.as_mut().reset(deadline);
        }
    }

    /// The end of a phase that lasted too long: a quiet close between requests, an error within a head.
    fn expired(&self) -> io::Result<()> {
        match self.conn.phase() {
            HEAD => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the request head did not arrive in time",
            )),
            _ => Ok(()),
        }
    }

    fn after_read(&mut self, read: bool) {
        match self.conn.phase() {
            IDLE if read => {
                self.conn.phase.store(HEAD, Ordering::Relaxed);
                self.deadline = Instant::now() + self.timeouts.header;
            }
            IDLE if !self.was_idle => self.deadline = Instant::now() + self.timeouts.idle,
            _ => {}
        }
        self.was_idle = self.conn.phase() == IDLE;
    }

    /// Writes our answer in the place of `theirs`, of which every byte counts as written.
    fn poll_answer(&mut self, cx: &mut Context<'_>, theirs: &[u8]) -> Poll<io::Result<usize>> {
        let metrics = &self.conn.metrics;
        let (answer, written) = self.answer.get_or_insert_with(|| {
            let reason = if theirs.starts_with(b"HTTP/1.1 405") {
                Reason::MethodNotAllowed
            } else {
                Reason::BadRequest
            };
            metrics.refused(reason);
            (answer::raw(reason), 0)
        });
        while *written < answer.len() {
            match ready!(Pin::new(&mut self.inner).poll_write(cx, &answer[*written..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                more => *written += more,
            }
        }
        Poll::Ready(Ok(theirs.len()))
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        match Pin::new(&mut this.inner).poll_read(cx, buf) {
            Poll::Ready(result) => {
                if this.conn.phase() == HEAD && Instant::now() >= this.deadline {
                    return Poll::Ready(this.expired());
                }
                this.after_read(buf.filled().len() > before);
                Poll::Ready(result)
            }
            Poll::Pending => {
                this.after_read(false);
                if this.conn.phase() == SERVING {
                    return Poll::Pending;
                }
                ready!(this.poll_deadline(cx));
                Poll::Ready(this.expired())
            }
        }
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        // Nothing of ours writes while a head arrives: this is Pingora refusing it.
        if self.conn.phase() == HEAD {
            return self.poll_answer(cx, buf);
        }
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[async_trait]
impl Shutdown for ClientStream {
    async fn shutdown(&mut self) {
        self.inner.shutdown().await;
    }
}

impl UniqueID for ClientStream {
    fn id(&self) -> RawFd {
        self.inner.id()
    }
}

impl Ssl for ClientStream {
    fn get_ssl(&self) -> Option<&pingora_core::protocols::tls::TlsRef> {
        self.inner.get_ssl()
    }

    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.inner.get_ssl_digest()
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.inner.selected_alpn_proto()
    }
}

impl GetTimingDigest for ClientStream {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.inner.get_timing_digest()
    }
}

impl GetProxyDigest for ClientStream {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        Some(Arc::clone(&self.digest))
    }
}

impl GetSocketDigest for ClientStream {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.inner.get_socket_digest()
    }
}

#[async_trait]
impl Peek for ClientStream {
    async fn try_peek(&mut self, buf: &mut [u8]) -> io::Result<bool> {
        self.inner.try_peek(buf).await
    }
}

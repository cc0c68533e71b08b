//! Connections to one sandbox, each of the lease it was made under for good (I6): kept between requests, newest first.

use super::conns::{Conn, ConnSet};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, Shutdown, recv, shutdown};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;

/// An open connection to a sandbox. Dropping it closes it.
#[derive(Debug)]
pub struct Link {
    conns: Arc<ConnSet>,
    conn: Arc<Conn>,
    /// None once it is kept.
    stream: Option<TcpStream>,
}

impl Link {
    /// Makes a connection one of a lease's; none if the lease has ended meanwhile.
    pub(super) fn register(conns: &Arc<ConnSet>, stream: TcpStream) -> Option<Self> {
        let conn = conns.register(stream.as_raw_fd())?;
        Some(Self {
            conns: Arc::clone(conns),
            conn,
            stream: Some(stream),
        })
    }

    pub fn stream(&self) -> &TcpStream {
        self.stream
            .as_ref()
            .unwrap_or_else(|| unreachable!("one that is kept belongs to nobody"))
    }

    pub fn conn(&self) -> &Arc<Conn> {
        &self.conn
    }

    /// Whether its lease has ended, and it with it: its end is no word of the sandbox's.
    pub fn is_cut(&self) -> bool {
        self.conns.is_cut()
    }

    /// Tells the sandbox that nothing more will come.
    pub fn finish(&self) {
        if let Err(error) = shutdown(self.stream().as_raw_fd(), Shutdown::Write) {
            tracing::trace!(%error, "the connection was closed already");
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // Before the descriptor is closed: then a number in the set is never a recycled one.
        if let Some(stream) = &self.stream {
            self.conns.deregister(stream.as_raw_fd());
        }
    }
}

/// How many connections of all leases are kept between requests, and for how long.
#[derive(Debug)]
pub struct KeepLimits {
    most: usize,
    longest: Duration,
    count: AtomicUsize,
}

impl KeepLimits {
    pub fn new(most: usize, longest: Duration) -> Self {
        Self {
            most,
            longest,
            count: AtomicUsize::new(0),
        }
    }

    fn enter(&self) -> bool {
        let below = |count: usize| (count < self.most).then_some(count + 1);
        self.count
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, below)
            .is_ok()
    }

    fn leave(&self, count: usize) {
        self.count.fetch_sub(count, Ordering::Relaxed);
    }
}

#[derive(Debug)]
struct Kept {
    stream: TcpStream,
    conn: Arc<Conn>,
    since: Instant,
}

/// The connections of one lease that carry no request, the newest last.
#[derive(Debug)]
pub(super) struct Shelf {
    limits: Arc<KeepLimits>,
    /// None once nothing may be kept any more.
    kept: Mutex<Option<VecDeque<Kept>>>,
}

impl Shelf {
    pub(super) fn new(limits: Arc<KeepLimits>) -> Self {
        Self {
            limits,
            kept: Mutex::new(Some(VecDeque::new())),
        }
    }

    /// Keeps a connection on which nothing is under way; closes it where there are too many.
    pub(super) fn put(&self, mut link: Link, now: Instant) {
        if !self.limits.enter() {
            return;
        }
        let mut kept = self.kept.lock();
        let Some(kept) = kept.as_mut() else {
            self.limits.leave(1);
            return;
        };
        if let Some(stream) = link.stream.take() {
            let conn = Arc::clone(&link.conn);
            kept.push_back(Kept {
                stream,
                conn,
                since: now,
            });
        }
    }

    /// The newest one that still can be used.
    pub(super) fn take(&self, conns: &Arc<ConnSet>, now: Instant) -> Option<Link> {
        loop {
            let kept = self.kept.lock().as_mut()?.pop_back()?;
            self.limits.leave(1);
            let is_fresh = now.saturating_duration_since(kept.since) < self.limits.longest;
            let link = Link {
                conns: Arc::clone(conns),
                conn: kept.conn,
                stream: Some(kept.stream),
            };
            if is_fresh && is_silent(link.stream()) {
                return Some(link);
            }
        }
    }

    /// Closes what was kept for too long.
    pub(super) fn sweep(&self, conns: &Arc<ConnSet>, now: Instant) {
        let mut kept = self.kept.lock();
        let Some(all) = kept.as_mut() else { return };
        let is_old = |kept: &Kept| now.saturating_duration_since(kept.since) >= self.limits.longest;
        let old = all.iter().take_while(|kept| is_old(kept)).count();
        let old: Vec<Kept> = all.drain(..old).collect();
        drop(kept);
        self.close(conns, old);
    }

    /// Closes all that is kept; nothing is kept any more.
    pub(super) fn clear(&self, conns: &Arc<ConnSet>) {
        let all = self.kept.lock().take();
        self.close(conns, all.into_iter().flatten().collect());
    }

    fn close(&self, conns: &Arc<ConnSet>, kept: Vec<Kept>) {
        self.limits.leave(kept.len());
        for kept in kept {
            conns.deregister(kept.stream.as_raw_fd());
        }
    }
}

/// Whether nothing has come on a connection that nothing was asked on: neither its end nor a word. The system is asked, since what
/// it knows may not have been told yet.
fn is_silent(stream: &TcpStream) -> bool {
    let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
    recv(stream.as_raw_fd(), &mut [0], flags) == Err(Errno::EAGAIN)
}

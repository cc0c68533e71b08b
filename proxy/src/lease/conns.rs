//! The connections made under one lease: none is used once the lease is revoked, and all can be cut at once.

use nix::sys::socket::{Shutdown, shutdown};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// One connection to a sandbox.
#[derive(Debug)]
pub struct Conn {
    opened: Instant,
    /// Microseconds after `opened` at which an answer must have begun; 0 while none is awaited.
    answer_due: AtomicU64,
    timed_out: AtomicBool,
}

/// All open connections of one lease, by descriptor.
#[derive(Debug, Default)]
pub struct ConnSet {
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    revoked: bool,
    conns: HashMap<RawFd, Arc<Conn>>,
}

impl Conn {
    fn new() -> Self {
        Self {
            opened: Instant::now(),
            answer_due: AtomicU64::new(0),
            timed_out: AtomicBool::new(false),
        }
    }

    /// An answer must begin within `limit` from now. Asked again, the time begins anew.
    pub fn await_answer(&self, limit: Duration) {
        self.answer_due
            .store(self.micros(Instant::now() + limit).max(1), Ordering::Relaxed);
    }

    /// The answer began, or nobody waits for it any more.
    pub fn answered(&self) {
        self.answer_due.store(0, Ordering::Relaxed);
    }

    /// Whether this connection was cut because no answer began in time.
    pub fn timed_out(&self) -> bool {
        self.timed_out.load(Ordering::Acquire)
    }

    fn is_overdue(&self, now: Instant) -> bool {
        let due = self.answer_due.load(Ordering::Relaxed);
        due != 0 && self.micros(now) >= due
    }

    fn micros(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.opened).as_micros()).unwrap_or(u64::MAX)
    }
}

impl ConnSet {
    /// Notes an open descriptor; `None` if the lease has been revoked, and the connection must not be used.
    pub fn register(&self, fd: RawFd) -> Option<Arc<Conn>> {
        let mut open = self.open.lock();
        if open.revoked {
            return None;
        }
        let conn = Arc::new(Conn::new());
        open.conns.insert(fd, Arc::clone(&conn));
        Some(conn)
    }

    /// Forgets a descriptor. Must be called before it is closed: then a number in the set is never a recycled one.
    pub fn deregister(&self, fd: RawFd) {
        self.open.lock().conns.remove(&fd);
    }

    /// Revokes the lease: cuts every connection, in use or not, and lets no new one in.
    pub fn cut(&self) -> usize {
        let mut open = self.open.lock();
        open.revoked = true;
        for fd in open.conns.keys() {
            cut_one(*fd);
        }
        open.conns.len()
    }

    /// Cuts the connections whose answer is overdue.
    pub fn cut_overdue(&self, now: Instant) -> usize {
        let open = self.open.lock();
        let overdue = open.conns.iter().filter(|(_, conn)| conn.is_overdue(now));
        let mut cut = 0;
        for (fd, conn) in overdue {
            conn.answered();
            conn.timed_out.store(true, Ordering::Release);
            cut_one(*fd);
            cut += 1;
        }
        cut
    }
}

/// A connection that the other side has closed already is as good as cut.
fn cut_one(fd: RawFd) {
    if let Err(error) = shutdown(fd, Shutdown::Both) {
        tracing::trace!(fd, %error, "the connection was closed already");
    }
}

//! The connections made under one lease: none is used once the lease is revoked, and all can be cut at once.

use nix::sys::socket::{Shutdown, shutdown};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// One connection to a sandbox.
#[derive(Debug)]
pub struct Conn {
    opened: Instant,
    /// Microseconds after `opened` when the request was sent, and at which an answer must have begun; 0 while none is awaited.
    asked: AtomicU64,
    answer_due: AtomicU64,
    /// Microseconds that the answer may take.
    limit: AtomicU64,
    /// Whether the request that waits may be sent to another sandbox instead.
    movable: AtomicBool,
    timed_out: AtomicBool,
    /// One of [`REQUEST`], [`TUNNEL`], [`OVER`].
    carries: AtomicU8,
}

/// What a connection carries: requests, until it was upgraded or their time was over; each of the two excludes the other.
const REQUEST: u8 = 0;
const TUNNEL: u8 = 1;
const OVER: u8 = 2;

/// All open connections of one lease, by descriptor.
#[derive(Debug, Default)]
pub struct ConnSet {
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    revoked: bool,
    /// The time of its requests is over.
    is_over: bool,
    conns: HashMap<RawFd, Arc<Conn>>,
}

impl Conn {
    fn new() -> Self {
        Self {
            opened: Instant::now(),
            asked: AtomicU64::new(0),
            answer_due: AtomicU64::new(0),
            limit: AtomicU64::new(0),
            movable: AtomicBool::new(false),
            timed_out: AtomicBool::new(false),
            carries: AtomicU8::new(REQUEST),
        }
    }

    /// It was upgraded. False if it was cut before: the time of requests was over.
    pub fn becomes_tunnel(&self) -> bool {
        self.carries
            .compare_exchange(REQUEST, TUNNEL, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    /// Whether it was cut since the time of requests was over.
    pub fn is_over(&self) -> bool {
        self.carries.load(Ordering::Acquire) == OVER
    }

    /// False if it carries no request any more.
    fn end(&self) -> bool {
        self.carries
            .compare_exchange(REQUEST, OVER, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    /// A request is sent, and its answer must begin within `limit` from now.
    pub fn ask(&self, limit: Duration, movable: bool) {
        let limit = u64::try_from(limit.as_micros()).unwrap_or(u64::MAX);
        self.limit.store(limit, Ordering::Relaxed);
        self.asked.store(self.micros(Instant::now()).max(1), Ordering::Relaxed);
        self.movable.store(movable, Ordering::Relaxed);
        self.await_anew();
    }

    /// The time for the answer begins anew, unless the answer began.
    pub fn await_anew(&self) {
        if self.is_asked() {
            let due = self
                .micros(Instant::now())
                .saturating_add(self.limit.load(Ordering::Relaxed));
            self.answer_due.store(due.max(1), Ordering::Relaxed);
        }
    }

    /// The app cannot answer yet: more of the request is awaited of its client, whose time it is. [`Conn::await_anew`] ends that.
    pub fn await_client(&self) {
        self.answer_due.store(0, Ordering::Relaxed);
    }

    /// Whether an answer is awaited.
    pub fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed) != 0
    }

    /// The answer began, or nobody waits for it any more. How long it took; none when that was told before.
    pub fn answered(&self) -> Option<Duration> {
        self.answer_due.store(0, Ordering::Relaxed);
        self.movable.store(false, Ordering::Relaxed);
        match self.asked.swap(0, Ordering::Relaxed) {
            0 => None,
            asked => Some(self.opened.elapsed().saturating_sub(Duration::from_micros(asked))),
        }
    }

    /// Whether this connection was cut because no answer began in time.
    pub fn timed_out(&self) -> bool {
        self.timed_out.load(Ordering::Acquire)
    }

    fn is_overdue(&self, now: Instant) -> bool {
        let due = self.answer_due.load(Ordering::Relaxed);
        due != 0 && self.micros(now) >= due
    }

    /// Whether its request may go elsewhere, and has waited for `patience`.
    fn is_stuck(&self, patience: Duration, now: Instant) -> bool {
        let asked = self.asked.load(Ordering::Relaxed);
        asked != 0
            && self.movable.load(Ordering::Relaxed)
            && Duration::from_micros(self.micros(now).saturating_sub(asked)) >= patience
    }

    fn micros(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.opened).as_micros()).unwrap_or(u64::MAX)
    }
}

impl ConnSet {
    /// Notes an open descriptor; `None` if the lease has been revoked, or the time of its requests is over: the connection must not be used.
    pub fn register(&self, fd: RawFd) -> Option<Arc<Conn>> {
        let mut open = self.open.lock();
        if open.revoked || open.is_over {
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

    /// Cuts the connections that carry requests, in use or not, and lets no new one in; those that were upgraded go on.
    pub fn cut_requests(&self) -> usize {
        let mut open = self.open.lock();
        if std::mem::replace(&mut open.is_over, true) {
            return 0;
        }
        let requests = open.conns.iter().filter(|(_, conn)| conn.end());
        requests.map(|(fd, _)| cut_one(*fd)).count()
    }

    /// How many were upgraded.
    pub fn tunnels(&self) -> u32 {
        let open = self.open.lock();
        let tunnels = open
            .conns
            .values()
            .filter(|conn| conn.carries.load(Ordering::Acquire) == TUNNEL);
        u32::try_from(tunnels.count()).unwrap_or(u32::MAX)
    }

    /// Whether [`ConnSet::cut`] was called.
    pub fn is_cut(&self) -> bool {
        self.open.lock().revoked
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

    /// Cuts the connections whose requests have waited for `patience` and may go elsewhere, while `may` says so.
    pub fn cut_stuck(&self, patience: Duration, now: Instant, may: impl Fn() -> bool) -> u32 {
        let open = self.open.lock();
        let stuck = open.conns.iter().filter(|(_, conn)| conn.is_stuck(patience, now));
        let mut cut = 0;
        for (fd, conn) in stuck.take_while(|_| may()) {
            conn.answered();
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

//! One lease and its permits: how many requests are in flight, and whether another may be sent.

use super::closing::{Closing, Deadlines};
use super::conns::ConnSet;
use super::link::{KeepLimits, Link, Shelf};
use super::pool::Pool;
use super::repeat::{Ended, WORD_LAG};
use super::stall::{self, Silence};
use super::wanted::{Present, Wanted};
use crate::slots::Slots;
use miren_api::SandboxId;
use miren_api::lease::{LeaseKey, ReleasedLease};
use miren_loader::State;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::sync::Notify;

/// A number is never used again.
static SERIAL: AtomicU64 = AtomicU64::new(1);

/// In [`Lease::uses`]: no further request is let in.
const CLOSED: u64 = 1 << 63;

/// The right to send requests to one sandbox generation.
#[derive(Debug)]
pub struct Lease {
    pub key: LeaseKey,
    pub sandbox: SandboxId,
    pub endpoint: SocketAddr,
    /// Tells it from every other lease, also on the same generation.
    pub serial: u64,
    capacity: AtomicU32,
    /// Requests in flight, and [`CLOSED`] if it is: one word, so that each request is counted before or after the close.
    uses: AtomicU64,
    finished: AtomicBool,
    /// Where the requests in flight are counted while it is open.
    wanted: Arc<Wanted>,
    /// Highest number of an answer of control's that granted it.
    answer: AtomicU64,
    silence: Silence,
    conns: Arc<ConnSet>,
    /// Connections made under this lease that carry no request: no other lease ever gets one of them (I6).
    shelf: Shelf,
    /// Its sandbox may have ended.
    told: Notify,
    /// Whether its requests may be sent elsewhere although it ended by itself.
    loss_paid: OnceLock<bool>,
    closing: Closing,
}

impl Lease {
    pub(super) fn new(granted: &miren_api::lease::Lease, wanted: Arc<Wanted>, keep: &Arc<KeepLimits>) -> Self {
        Self {
            key: granted.key,
            sandbox: granted.sandbox.clone(),
            endpoint: granted.endpoint,
            serial: SERIAL.fetch_add(1, Ordering::Relaxed),
            capacity: AtomicU32::new(granted.capacity),
            uses: AtomicU64::new(0),
            finished: AtomicBool::new(false),
            wanted,
            answer: AtomicU64::new(0),
            silence: Silence::default(),
            conns: Arc::default(),
            shelf: Shelf::new(Arc::clone(keep)),
            told: Notify::new(),
            loss_paid: OnceLock::new(),
            closing: Closing::default(),
        }
    }

    /// One that belongs to no pool.
    #[cfg(test)]
    pub(crate) fn alone(granted: &miren_api::lease::Lease) -> Self {
        Self::new(
            granted,
            Arc::default(),
            &Arc::new(KeepLimits::new(16, Duration::from_secs(4))),
        )
    }

    /// Counts one more request in, if there is room and the word says RUNNING after it was counted (I1).
    ///
    /// The order matters: whoever closes the lease afterwards sees the count, whoever closed it before is seen here. One that
    /// finds no room is not counted for a moment: it would take the room that another one looks for.
    pub(super) fn enter(&self, slots: &Slots) -> bool {
        self.count_in() && self.is_let_in(slots)
    }

    /// The first half of [`Lease::enter`].
    pub(super) fn count_in(&self) -> bool {
        let capacity = u64::from(self.capacity.load(Ordering::Relaxed));
        // A closed one has more in flight than any capacity.
        let with_one_more = |uses: u64| (uses < capacity).then_some(uses + 1);
        self.uses
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, with_one_more)
            .is_ok()
    }

    /// The second half, of one that is counted in: it is counted out again if the word does not say RUNNING.
    pub(super) fn is_let_in(&self, slots: &Slots) -> bool {
        if slots.is_running(self.key) {
            return true;
        }
        // The caller looks whether this was the last use of a lease that was closed meanwhile. That close has counted this
        // request out, which goes on looking.
        if self.uses.fetch_sub(1, Ordering::SeqCst) & CLOSED != 0 {
            self.wanted.more(1);
        }
        false
    }

    /// Counts one request out.
    pub(super) fn leave(&self) {
        if self.uses.fetch_sub(1, Ordering::SeqCst) & CLOSED == 0 {
            self.wanted.fewer(1);
        }
    }

    /// Lets no further request in; true once. What is in flight is wanted of no sandbox any more.
    pub(super) fn close(&self) -> bool {
        let uses = self.uses.fetch_or(CLOSED, Ordering::SeqCst);
        let was_open = uses & CLOSED == 0;
        if was_open {
            self.wanted.fewer(count(uses));
        }
        // Also when it was closed before: draining, say, and ended now.
        self.told.notify_waiters();
        was_open
    }

    pub fn is_closed(&self) -> bool {
        self.uses.load(Ordering::SeqCst) & CLOSED != 0
    }

    /// Whether nobody uses it any more; true once.
    pub(super) fn finish(&self) -> bool {
        self.uses.load(Ordering::SeqCst) == CLOSED && !self.finished.swap(true, Ordering::SeqCst)
    }

    /// Whether control need not wait for it: nothing is under way but tunnels that were let off.
    pub(super) fn is_done(&self) -> bool {
        self.uses.load(Ordering::SeqCst) == CLOSED | u64::from(self.closing.let_off())
    }

    /// It is given back to control; true once.
    pub(super) fn give_back(&self) -> bool {
        self.closing.give_back()
    }

    pub(super) fn is_given_back(&self) -> bool {
        self.closing.is_given_back()
    }

    /// Whether nobody uses it any more.
    pub(super) fn is_finished(&self) -> bool {
        self.finished.load(Ordering::SeqCst)
    }

    /// Control says how long what is under way may go on.
    pub(super) fn tell(&self, deadlines: Deadlines) {
        self.closing.tell(deadlines);
    }

    /// Whether control has to be asked how long what is under way may go on; true once.
    pub(super) fn asks_how_long(&self) -> bool {
        self.in_flight() > 0 && self.closing.is_to_be_asked()
    }

    pub(super) fn tunnels(&self) -> u32 {
        self.conns.tunnels()
    }

    /// Waits until its tunnels have no time left.
    pub async fn tunnels_over(&self) {
        self.closing.tunnels_over().await;
    }

    /// Ends its requests if they have no time left; how many connections that cut.
    pub(super) fn end_requests(&self, now: tokio::time::Instant) -> usize {
        match self.closing.are_requests_over(now) {
            true => self.conns.cut_requests(),
            false => 0,
        }
    }

    pub fn in_flight(&self) -> u32 {
        count(self.uses.load(Ordering::SeqCst))
    }

    /// Requests that could be let in now.
    pub fn room(&self) -> u32 {
        self.capacity().saturating_sub(self.in_flight())
    }

    /// Its share is another one. What is in flight above it runs out.
    pub(super) fn set_capacity(&self, capacity: u32) {
        self.capacity.store(capacity, Ordering::Relaxed);
    }

    /// Control granted it, or another lease on the same generation, with this answer.
    pub(super) fn granted_by(&self, answer: u64) {
        self.answer.fetch_max(answer, Ordering::Relaxed);
    }

    /// The lease as it is given back.
    pub(super) fn released(&self) -> ReleasedLease {
        self.key.released(self.answer.load(Ordering::Relaxed))
    }

    pub(super) fn silence(&self) -> &Silence {
        &self.silence
    }

    /// Whether a request had better go elsewhere: its sandbox answered nothing lately. After a rest it is tried with one
    /// request at a time, and only with such as could still go elsewhere.
    pub(super) fn is_avoided(&self, hedge: bool) -> bool {
        let silence = &self.silence;
        silence.is_suspect() && (!hedge || self.in_flight() > 0 || silence.rests(stall::now_us()))
    }

    /// Whether it is of the pool whose requests are counted there.
    pub(super) fn is_wanted_by(&self, pool: &Arc<Wanted>) -> bool {
        Arc::ptr_eq(&self.wanted, pool)
    }

    /// What became of its sandbox, of which a connection broke. While the word says that it runs, it is waited for until somebody
    /// looks at the lease, for `lag` at most.
    pub(super) async fn ended(&self, slots: &Slots, lag: Duration) -> Ended {
        let mut told = std::pin::pin!(self.told.notified());
        told.as_mut().enable();
        let ended = || Ended::from_word(slots.state(self.key));
        match ended() {
            Ended::Runs => {
                let _ = tokio::time::timeout(lag, told).await;
                ended()
            }
            known => known,
        }
    }

    /// Whether what ended it by itself, or was on it when it did, is sent elsewhere: paid for once, by the first who asks.
    pub(super) fn is_loss_paid(&self, pay: impl FnOnce() -> bool) -> bool {
        *self.loss_paid.get_or_init(pay)
    }

    /// Requests it may be used for at a time: none once it is closed.
    pub(super) fn capacity(&self) -> u32 {
        if self.is_closed() {
            0
        } else {
            self.capacity.load(Ordering::Relaxed)
        }
    }

    /// The lease as control grants it and as it is kept on disk.
    pub(super) fn granted(&self) -> miren_api::lease::Lease {
        miren_api::lease::Lease {
            key: self.key,
            sandbox: self.sandbox.clone(),
            endpoint: self.endpoint,
            capacity: self.capacity(),
        }
    }

    pub fn conns(&self) -> &Arc<ConnSet> {
        &self.conns
    }

    /// A connection that was kept; none where a new one has to be made.
    pub fn kept_link(&self) -> Option<Link> {
        self.shelf.take(&self.conns, Instant::now())
    }

    /// Makes a connection to its endpoint one of this lease's; none if the lease has ended meanwhile.
    pub fn link(&self, stream: TcpStream) -> Option<Link> {
        Link::register(&self.conns, stream)
    }

    /// Takes back a connection on which nothing is under way.
    pub fn keep(&self, link: Link) {
        self.shelf.put(link, Instant::now());
    }

    /// Closes the connections that were kept for too long.
    pub(super) fn sweep(&self, now: Instant) {
        self.shelf.sweep(&self.conns, now);
    }

    /// Cuts every connection, in use or not, and lets no new one be made. How many there were.
    pub(super) fn cut(&self) -> usize {
        let cut = self.conns.cut();
        self.shelf.clear(&self.conns);
        cut
    }
}

/// One admitted request. Dropping it counts the request out. After it was given, no drain check happens (I9).
#[derive(Debug)]
pub struct Permit {
    lease: Arc<Lease>,
    pool: Arc<Pool>,
}

impl Permit {
    /// Of a request that has entered `lease`.
    pub(super) fn new(lease: Arc<Lease>, pool: Arc<Pool>, present: Present<'_>) -> Self {
        present.entered();
        Self { lease, pool }
    }

    pub fn lease(&self) -> &Arc<Lease> {
        &self.lease
    }

    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// The answer to the request began after `took`.
    pub fn answered(&self, took: Duration) {
        let now = stall::now_us();
        self.lease.silence.answered(now);
        self.pool.pace.note(took, now);
        self.pool.losses.earn();
    }

    /// The request goes on, to another sandbox, which may be of another target.
    pub fn give_up(self) {
        let pool = Arc::clone(&self.pool);
        drop(self);
        // Between the two: whoever counts it at this target and at the next sees that something moved.
        pool.moves();
    }

    /// It is a tunnel that was told to go: control need not wait for its end. Counted until the result is dropped, which has to be
    /// before the permit is.
    pub fn let_off(&self) -> LetOff<'_> {
        self.lease.closing.one_let_off();
        self.pool.left(&self.lease);
        LetOff(&self.lease)
    }

    /// What became of the sandbox after its connection broke: at once, or within [`WORD_LAG`] where its word says nothing yet.
    pub async fn ended(&self) -> Ended {
        self.lease.ended(self.pool.slots(), WORD_LAG).await
    }

    /// Whether one of these, which the request was sent to before, has ended by itself meanwhile: its word may have lagged behind.
    pub fn has_ended<'k>(&self, mut before: impl Iterator<Item = &'k LeaseKey>) -> bool {
        let slots = self.pool.slots();
        before.any(|key| Ended::from_word(slots.state(*key)) == Ended::ByItself)
    }

    /// Pays for sending this request elsewhere although its sandbox ended by itself; false if its service cannot.
    pub fn pay_for_loss(&self) -> bool {
        self.lease.is_loss_paid(|| {
            let paid = self.pool.losses.spend();
            if !paid {
                tracing::warn!(sandbox = %self.lease.sandbox, app = %self.pool.target.app,
                    "ended by itself, as too many did: its requests are not sent to another, which they may end as well");
            }
            paid
        })
    }

    /// Where the sandbox is now; `None` when its slot belongs to another generation.
    pub fn state(&self) -> Option<State> {
        self.pool.state_of(&self.lease)
    }
}

/// A tunnel that nobody waits for.
#[derive(Debug)]
pub struct LetOff<'p>(&'p Lease);

impl Drop for LetOff<'_> {
    fn drop(&mut self) {
        self.0.closing.one_ended();
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.lease.leave();
        self.pool.left(&self.lease);
    }
}

/// Requests in flight, of [`Lease::uses`].
fn count(uses: u64) -> u32 {
    u32::try_from(uses & !CLOSED).unwrap_or(u32::MAX)
}

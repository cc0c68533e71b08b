//! One lease and its permits: how many requests are in flight, and whether another may be sent.

use super::conns::ConnSet;
use super::pool::Pool;
use super::stall::{self, Silence};
use crate::slots::Slots;
use miren_api::SandboxId;
use miren_api::lease::{LeaseKey, ReleasedLease};
use miren_loader::State;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// Keys of kept connections: a number is never used again.
static SERIAL: AtomicU64 = AtomicU64::new(1);

/// The right to send requests to one sandbox generation.
#[derive(Debug)]
pub struct Lease {
    pub key: LeaseKey,
    pub sandbox: SandboxId,
    pub endpoint: SocketAddr,
    /// Key of the connections made under this lease: no other lease ever gets one of them (I6).
    pub serial: u64,
    capacity: AtomicU32,
    in_flight: AtomicU32,
    closed: AtomicBool,
    finished: AtomicBool,
    /// Highest number of an answer of control's that granted it.
    answer: AtomicU64,
    silence: Silence,
    conns: Arc<ConnSet>,
}

impl Lease {
    pub(crate) fn new(granted: &miren_api::lease::Lease) -> Self {
        Self {
            key: granted.key,
            sandbox: granted.sandbox.clone(),
            endpoint: granted.endpoint,
            serial: SERIAL.fetch_add(1, Ordering::Relaxed),
            capacity: AtomicU32::new(granted.capacity),
            in_flight: AtomicU32::new(0),
            closed: AtomicBool::new(false),
            finished: AtomicBool::new(false),
            answer: AtomicU64::new(0),
            silence: Silence::default(),
            conns: Arc::default(),
        }
    }

    /// Counts one more request in, if there is room and the word says RUNNING after it was counted (I1).
    ///
    /// The order matters: whoever closes the lease afterwards sees the count, whoever closed it before is seen here.
    pub(super) fn enter(&self, slots: &Slots) -> bool {
        if self.in_flight.fetch_add(1, Ordering::SeqCst) < self.capacity.load(Ordering::Relaxed)
            && !self.is_closed()
            && slots.is_running(self.key)
        {
            return true;
        }
        // The caller looks whether this was the last use of a lease that was closed meanwhile.
        self.in_flight.fetch_sub(1, Ordering::SeqCst);
        false
    }

    /// Counts one request out.
    pub(super) fn leave(&self) {
        self.in_flight.fetch_sub(1, Ordering::SeqCst);
    }

    /// A key under which no connection is kept yet: for a request that must not get a kept one again.
    pub fn fresh_key() -> u64 {
        SERIAL.fetch_add(1, Ordering::Relaxed)
    }

    /// Lets no further request in.
    pub(super) fn close(&self) -> bool {
        !self.closed.swap(true, Ordering::SeqCst)
    }

    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Whether nobody uses it any more; true once.
    pub(super) fn finish(&self) -> bool {
        self.is_closed() && self.in_flight() == 0 && !self.finished.swap(true, Ordering::SeqCst)
    }

    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::SeqCst)
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
    pub(super) fn is_avoided(&self, repeatable: bool) -> bool {
        let silence = &self.silence;
        silence.is_suspect() && (!repeatable || self.in_flight() > 0 || silence.rests(stall::now_us()))
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
}

/// One admitted request. Dropping it counts the request out. After it was given, no drain check happens (I9).
#[derive(Debug)]
pub struct Permit {
    lease: Arc<Lease>,
    pool: Arc<Pool>,
}

impl Permit {
    pub(super) fn new(lease: Arc<Lease>, pool: Arc<Pool>) -> Self {
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
    }

    /// Where the sandbox is now; `None` when its slot belongs to another generation.
    pub fn state(&self) -> Option<State> {
        self.pool.state_of(&self.lease)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.lease.leave();
        self.pool.left(&self.lease);
    }
}

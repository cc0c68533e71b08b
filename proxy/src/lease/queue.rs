//! Who waits for room: first come, first served, bounded, and gone with its client.

use crate::request::refusal::{Reason, Refusal};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use tokio::sync::Notify;
use tokio::time::Instant;

/// The waiting requests of one pool.
#[derive(Debug)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    /// Length of the queue, readable without its lock.
    length: AtomicUsize,
    /// How often there was room for somebody.
    calls: AtomicU64,
    most_requests: usize,
    most_bytes: u64,
}

#[derive(Debug, Default)]
struct Waiting {
    places: VecDeque<Arc<Place>>,
    bytes: u64,
}

#[derive(Debug)]
struct Place {
    since: Instant,
    called: Notify,
    /// Called, and has not looked yet.
    woken: AtomicBool,
    /// Calls there had been when it looked last.
    looked: AtomicU64,
    refusal: OnceLock<Refusal>,
    bytes: u64,
}

/// A place in the queue; dropping it gives it up.
#[derive(Debug)]
pub(super) struct Ticket<'q> {
    queue: &'q Queue,
    place: Arc<Place>,
}

impl Queue {
    pub(super) fn new(most_requests: usize, most_bytes: u64) -> Self {
        Self {
            waiting: Mutex::default(),
            length: AtomicUsize::new(0),
            calls: AtomicU64::new(0),
            most_requests,
            most_bytes,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.length.load(Ordering::SeqCst)
    }

    /// Since when the last one waits; none if nobody does.
    pub(super) fn last(&self) -> Option<Instant> {
        if self.len() == 0 {
            return None;
        }
        self.waiting.lock().places.back().map(|place| place.since)
    }

    /// Takes the last place, unless the queue is full.
    pub(super) fn join(&self, bytes: u64) -> Result<Ticket<'_>, Refusal> {
        let mut waiting = self.waiting.lock();
        if waiting.places.len() >= self.most_requests || waiting.bytes + bytes > self.most_bytes {
            return Err(Reason::QueueFull.into());
        }
        let place = Arc::new(Place {
            since: Instant::now(),
            called: Notify::new(),
            woken: AtomicBool::new(false),
            // It looks once it is here.
            looked: AtomicU64::new(self.calls.load(Ordering::SeqCst)),
            refusal: OnceLock::new(),
            bytes,
        });
        waiting.places.push_back(Arc::clone(&place));
        waiting.bytes += bytes;
        self.length.store(waiting.places.len(), Ordering::SeqCst);
        Ok(Ticket { queue: self, place })
    }

    /// There is room: calls the first `count` that have not been called. They keep their places until they got what they wait
    /// for.
    pub(super) fn call(&self, count: usize) {
        if self.len() == 0 || count == 0 {
            return;
        }
        let waiting = self.waiting.lock();
        self.calls.fetch_add(1, Ordering::SeqCst);
        for place in waiting
            .places
            .iter()
            .filter(|place| !place.woken.swap(true, Ordering::SeqCst))
            .take(count)
        {
            place.called.notify_one();
        }
    }

    /// Somebody has looked and could not use the room there is: calls the first who has not looked since there was room last.
    /// So nobody sleeps beside room that he may use, whoever else was called for it.
    pub(super) fn pass_on(&self) {
        let waiting = self.waiting.lock();
        let calls = self.calls.load(Ordering::SeqCst);
        let has_not_looked = |place: &&Arc<Place>| {
            place.looked.load(Ordering::SeqCst) < calls && !place.woken.swap(true, Ordering::SeqCst)
        };
        if let Some(next) = waiting.places.iter().find(has_not_looked) {
            next.called.notify_one();
        }
    }

    /// Sends everybody away.
    pub(super) fn refuse_all(&self, refusal: Refusal) {
        for place in &self.waiting.lock().places {
            let _ = place.refusal.set(refusal);
            place.called.notify_one();
        }
    }
}

impl Ticket<'_> {
    /// Waits to be called; an error is a refusal.
    pub(super) async fn called(&self) -> Result<(), Refusal> {
        self.place.called.notified().await;
        if let Some(refusal) = self.place.refusal.get() {
            // If there was a call too, it is another's now.
            return Err(*refusal);
        }
        // Before looking for room: a call that comes while looking is then not lost.
        self.place.woken.store(false, Ordering::SeqCst);
        let calls = self.queue.calls.load(Ordering::SeqCst);
        self.place.looked.store(calls, Ordering::SeqCst);
        Ok(())
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let mut waiting = self.queue.waiting.lock();
        if let Some(at) = waiting.places.iter().position(|place| Arc::ptr_eq(place, &self.place)) {
            waiting.places.remove(at);
        }
        waiting.bytes -= self.place.bytes;
        self.queue.length.store(waiting.places.len(), Ordering::SeqCst);
        drop(waiting);
        // A call that came to nothing belongs to the next one.
        if self.place.woken.load(Ordering::SeqCst) {
            self.queue.call(1);
        }
    }
}

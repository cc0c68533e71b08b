//! What a connection waits for between requests, holding no buffer: the next one, its time, or that its place is needed.

use super::house::House;
use super::places::Entry;
use crate::life::gate::Held;
use futures_util::FutureExt;
use parking_lot::Mutex;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

/// What ended the wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Bytes of a request are there to be read.
    Request,
    /// The other side is gone, or will send nothing any more.
    Gone,
    /// Nothing came within the limit.
    Silent,
    /// Its place is needed, or the proxy stops.
    Closing,
}

/// The place of one open connection; dropping it frees it.
#[derive(Debug)]
pub struct Place {
    house: Arc<House>,
    entry: Arc<Entry>,
    clock: Clock,
    /// Locked once, by the first request.
    fresh: Mutex<Option<Held>>,
    _counted: Held,
}

impl Place {
    pub(super) fn new(house: Arc<House>, entry: Arc<Entry>, fresh: Held, counted: Held) -> Self {
        Self {
            house,
            entry,
            clock: Clock::default(),
            fresh: Mutex::new(Some(fresh)),
            _counted: counted,
        }
    }

    /// Waits until the first byte of the next request is there. `limit` is the time of a head for a fresh connection, else the
    /// time between requests.
    ///
    /// The place may be needed by another from now until [`Place::begins`]: also while a head is read, [`Place::needed`] has to
    /// be heeded.
    pub async fn next(&self, stream: &TcpStream, limit: Duration) -> Next {
        let deadline = Instant::now() + limit;
        let mut was_quiet = false;
        poll_fn(|cx| {
            if let Poll::Ready(next) = poll_arrival(stream, was_quiet, cx) {
                return Poll::Ready(next);
            }
            was_quiet = true;
            if self.poll_told(|| self.house.is_over(&self.entry), cx).is_ready() {
                return Poll::Ready(Next::Closing);
            }
            self.clock.poll(deadline, cx).map(|()| Next::Silent)
        })
        .await
    }

    /// No descriptor was found, such as for a connection to a sandbox: some of those longest without a request are told to go.
    pub fn make_room(&self) {
        self.house.make_room();
    }

    /// Ready once the connection has to be closed at once since another needs its place; never while a request is served.
    pub async fn needed(&self) {
        poll_fn(|cx| self.poll_told(|| self.entry.is_chosen(), cx)).await;
    }

    /// Ready once the time for requests is over. No lock.
    pub async fn cut(&self) {
        poll_fn(|cx| self.poll_told(|| self.house.has_cut_requests(), cx)).await;
    }

    /// A request has its whole head: until [`Place::ends`] the place is not taken away. No lock, but for the first request.
    pub fn begins(&self) {
        let turned = self.entry.begins();
        if self.house.turned(&self.entry, turned) {
            drop(self.fresh.lock().take());
        }
    }

    /// Its answer is sent. No lock.
    pub fn ends(&self) {
        let turned = self.entry.ends(self.house.now());
        if self.house.turned(&self.entry, turned) {
            drop(self.fresh.lock().take());
        }
    }

    fn poll_told(&self, is_so: impl FnOnce() -> bool, cx: &Context<'_>) -> Poll<()> {
        // Before the look: who makes it so wakes afterwards.
        self.entry.told.register(cx.waker());
        if is_so() { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.house.leave(&self.entry);
    }
}

/// When a wait is over. It is kept for the next wait and goes on running, and is set again only when it fires before the time:
/// each setting takes a lock of the whole runtime, and there are many requests to one end of a silence.
#[derive(Debug, Default)]
struct Clock(Mutex<Option<Pin<Box<Sleep>>>>);

impl Clock {
    /// Ready at the deadline.
    fn poll(&self, deadline: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let mut sleep = self.0.lock();
        let sleep = sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if sleep.deadline() > deadline {
            sleep.as_mut().reset(deadline);
        }
        loop {
            ready!(sleep.as_mut().poll(cx));
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
    }
}

/// Bytes, or the end of the other side.
fn poll_arrival(stream: &TcpStream, was_quiet: bool, cx: &mut Context<'_>) -> Poll<Next> {
    if ready!(stream.poll_read_ready(cx)).is_err() {
        return Poll::Ready(Next::Gone);
    }
    let state = stream.ready(Interest::READABLE).now_or_never();
    let is_open = matches!(state, Some(Ok(ready)) if !ready.is_read_closed());
    if was_quiet && is_open {
        return Poll::Ready(Next::Request);
    }
    // An end may have bytes before it; and what is so at once may be left over from a read that exactly filled its buffer.
    let mut byte = [0];
    match ready!(stream.poll_peek(cx, &mut ReadBuf::new(&mut byte))) {
        Ok(0) | Err(_) => Poll::Ready(Next::Gone),
        Ok(_) => Poll::Ready(Next::Request),
    }
}

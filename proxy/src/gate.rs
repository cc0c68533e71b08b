//! What is still under way, so that the proxy knows when it may go: connections, requests and tunnels.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tokio::sync::Notify;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// A client connection.
    Connection = 0,
    /// A client connection whose first request has not arrived: it is owed a moment to send it.
    Fresh = 1,
    /// A request, until its answer is complete.
    Request = 2,
    /// A connection that was upgraded.
    Tunnel = 3,
}

/// The counts.
#[derive(Debug, Default)]
pub struct Gate {
    counts: [AtomicUsize; 4],
    closing: AtomicBool,
    emptied: Notify,
}

/// One thing counted in; dropping it counts it out.
#[derive(Debug)]
pub struct Held {
    gate: Arc<Gate>,
    class: Class,
}

impl Gate {
    /// Counts one thing in.
    pub fn enter(self: &Arc<Self>, class: Class) -> Held {
        self.counts[class as usize].fetch_add(1, Ordering::SeqCst);
        Held {
            gate: Arc::clone(self),
            class,
        }
    }

    /// The proxy was told to stop. What comes in is still served, and counted.
    pub fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }

    /// Whether connections should not be kept any more.
    pub fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }

    pub fn count(&self, class: Class) -> usize {
        self.counts[class as usize].load(Ordering::SeqCst)
    }

    /// Waits until nothing of this class is left.
    pub async fn empty(&self, class: Class) {
        loop {
            let mut emptied = std::pin::pin!(self.emptied.notified());
            emptied.as_mut().enable();
            if self.count(class) == 0 {
                return;
            }
            emptied.await;
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.gate.counts[self.class as usize].fetch_sub(1, Ordering::SeqCst) == 1 {
            self.gate.emptied.notify_waiters();
        }
    }
}

//! A caller's own word on an answer: what it must say besides its status.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

/// A whole answer and when it was asked for.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// When the timetable meant the request to leave.
    pub due: Instant,
    /// Just before the request was written; the connection was there already.
    pub sent: Instant,
    /// After the last byte of the body.
    pub received: Instant,
    pub status: u16,
    pub body: &'a [u8],
}

type Judge = dyn Fn(&Seen<'_>) -> Result<(), String> + Send + Sync;

/// Sees every answer of 2xx; those it refuses count as failed, for the reason it gives.
#[derive(Clone)]
pub struct Check(Arc<Judge>);

impl Check {
    pub fn new(judge: impl Fn(&Seen<'_>) -> Result<(), String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(judge))
    }

    pub(super) fn judge(&self, seen: &Seen<'_>) -> Result<(), String> {
        self.0(seen)
    }
}

impl fmt::Debug for Check {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Check")
    }
}

//! The account of one request: filled on the way, consumed once at its end, by everything that counts or logs.

use super::id::RequestId;
use super::refusal::Refusal;
use crate::lease::Pool;
use crate::metrics::Metrics;
use bytes::Bytes;
use http::Method;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How a client and the proxy spoke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Http10,
    Http11,
}

/// What is known about one request. Times are offsets from its beginning, which is the end of its head.
#[derive(Debug)]
pub struct Account {
    pub begun: Instant,
    pub id: RequestId,
    pub protocol: Protocol,
    pub method: Method,
    pub host: Bytes,
    /// Bytes of path and query: what they say is nobody's business here.
    pub target_bytes: usize,
    /// Bytes of the body that came from the client, and of the answer's that went to it.
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// Where its host led, at last.
    pub pool: Option<Arc<Pool>>,
    /// Time spent waiting for a sandbox with room.
    pub queued: Duration,
    /// Time spent connecting to sandboxes.
    pub connecting: Duration,
    /// When the answer began.
    pub first_byte: Option<Duration>,
    /// Sandboxes it was sent to, or was to be sent to.
    pub attempts: u32,
    /// Why the attempts before the last one failed.
    pub retried: Vec<&'static str>,
    /// Why its answer broke off.
    pub cut: Option<&'static str>,
    /// Of the answer; 0 while there is none.
    pub status: u16,
    /// Why the proxy answered itself.
    pub refusal: Option<Refusal>,
}

impl Account {
    /// Of a request whose head has just been read.
    pub fn begin(id: RequestId, protocol: Protocol) -> Self {
        Self {
            begun: Instant::now(),
            id,
            protocol,
            method: Method::GET,
            host: Bytes::new(),
            target_bytes: 0,
            bytes_in: 0,
            bytes_out: 0,
            pool: None,
            queued: Duration::ZERO,
            connecting: Duration::ZERO,
            first_byte: None,
            attempts: 0,
            retried: Vec::new(),
            cut: None,
            status: 0,
            refusal: None,
        }
    }

    /// The proxy answers in the place of an app.
    pub fn refuse(&mut self, refusal: Refusal) {
        self.status = refusal.reason.status();
        self.refusal = Some(refusal);
    }

    /// Counts it, and says it to who listens.
    pub fn close(self, metrics: &Metrics) {
        let took = self.begun.elapsed();
        metrics.request_seconds.observe(took.as_secs_f64());
        if let Some(pool) = &self.pool
            && self.status != 0
        {
            pool.metrics.answered(self.status);
        }
        if let Some(refusal) = &self.refusal {
            metrics.refused(refusal.reason);
        }
        tracing::debug!(
            request = %self.id,
            protocol = ?self.protocol,
            method = %self.method,
            host = %self.host.escape_ascii(),
            app = self.pool.as_ref().map(|pool| pool.target.app.as_str()),
            version = self.pool.as_ref().map(|pool| pool.target.version.as_str()),
            target_bytes = self.target_bytes,
            bytes_in = self.bytes_in,
            bytes_out = self.bytes_out,
            queued = ?self.queued,
            connecting = ?self.connecting,
            first_byte = ?self.first_byte,
            attempts = self.attempts,
            retried = ?self.retried,
            cut = self.cut,
            status = self.status,
            refused = self.refusal.map(|refusal| refusal.reason.code()),
            ?took,
            "request"
        );
    }
}

//! How a pool asks control for leases: one request at a time, which carries the demand, as long as somebody waits.

use super::asking::Asking;
use super::entry::Lease;
use super::pool::Pool;
use crate::control::{Acquire, Backoff};
use crate::request::refusal::{Reason, Refusal};
use miren_api::lease::{ACQUIRE_WAIT_MAX, AcquireResponse};
use miren_api::{ApiError, ClientError, ErrorCode};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// First pause after an answer that did not help.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// Longest pause: how often demand is told again while requests wait.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How long after a first "draining" control is asked again, before those who wait are told.
const RESTART_DELAY: Duration = Duration::from_secs(1);
/// How long a snapshot may take that no longer has a version control does not know any more.
const SNAPSHOT_DELAY: Duration = Duration::from_secs(2);

impl Pool {
    /// Makes sure that somebody asks control.
    pub(super) fn start_acquiring(self: &Arc<Self>) {
        let first = self.queue.len() == 1;
        let begins = self.line.change(|asking| asking.somebody_waits(first));
        self.begin_acquiring(begins);
    }

    /// Asks again although nobody may wait: sandboxes came or went, or may have.
    pub(super) fn refresh(self: &Arc<Self>) {
        if self.id().is_some() || self.queue.len() > 0 {
            let begins = self.line.change(Asking::news);
            self.begin_acquiring(begins);
        }
    }

    fn begin_acquiring(self: &Arc<Self>, begins: bool) {
        if begins {
            miren_log::spawn("asking for leases", Arc::clone(self).acquire());
        }
    }

    async fn acquire(self: Arc<Self>) {
        let mut pause = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        loop {
            let next = {
                let mut talk = self.line.talk();
                // With the lock held: whoever joins the queue later finds that nobody asks.
                talk.asking.next(self.queue.len() > 0)
            };
            match next {
                Asking::Idle => return,
                Asking::UnderWay { .. } => self.acquire_once(&mut pause).await,
                Asking::Pausing => self.line.pause(pause.pause()).await,
            }
        }
    }

    async fn acquire_once(&self, pause: &mut Backoff) {
        let dropped = std::mem::take(&mut *self.dropped.lock());
        let waits = self.queue.len() > 0;
        let ask = Acquire {
            version: &self.target.version,
            service: &self.target.service,
            demand: self.demand(),
            wait: if waits {
                self.shared.limits.time.min(ACQUIRE_WAIT_MAX)
            } else {
                Duration::ZERO
            },
            dropped: dropped.clone(),
        };
        self.line.talk().exchanges += 1;
        let result = self.shared.control.acquire(ask).await;
        self.shared.metrics.acquires.inc();
        let holds_for = |response: &AcquireResponse| self.shared.binding.holds_for(response.identity.as_ref());
        // What another table says of its slots is not about those of this one.
        let installed = result.map(|response| holds_for(&response) && self.install(response));
        self.line.talk().exchanges += 1;
        match installed {
            Ok(is_new) => {
                if is_new {
                    pause.reset();
                }
            }
            Err(error) => {
                self.dropped.lock().extend(dropped);
                self.failed(&error).await;
            }
        }
    }

    /// Takes over what control granted; says whether a lease is new.
    pub(super) fn install(&self, response: AcquireResponse) -> bool {
        *self.id.lock() = Some(response.pool);
        {
            let mut talk = self.line.talk();
            (talk.draining, talk.fault) = (false, None);
        }
        self.hedge.store(response.hedge, Ordering::Relaxed);
        let before = self.open.load_full();
        let mut open = Vec::with_capacity(response.leases.len());
        let mut fresh = Vec::new();
        for granted in &response.leases {
            let known = before
                .iter()
                .find(|lease| lease.key == granted.key && !lease.is_closed());
            if let Some(lease) = known {
                lease.set_capacity(granted.capacity);
                lease.granted_by(response.answer);
                open.push(Arc::clone(lease));
            } else if self.shared.slots.is_running(granted.key) {
                let lease = Arc::new(Lease::new(granted, Arc::clone(&self.wanted), &self.shared.keep));
                lease.granted_by(response.answer);
                open.push(Arc::clone(&lease));
                fresh.push(lease);
            }
        }
        self.shared.held.lock().extend(fresh.iter().cloned());
        let replaced = self.open.swap(Arc::new(open));
        for lease in replaced
            .iter()
            .filter(|lease| !response.leases.iter().any(|granted| granted.key == lease.key))
        {
            lease.close();
            self.shared.finish_if_idle(lease);
        }
        if self.line.talk().retired || !self.shared.binding.holds() {
            self.close_leases();
        }
        self.shared.changed.notify_one();
        self.call_for_room();
        !fresh.is_empty()
    }

    /// Calls as many of those who wait as there is room for.
    pub(super) fn call_for_room(&self) {
        let open = self.open.load();
        let room = open.iter().map(|lease| lease.room()).fold(0, u32::saturating_add);
        self.queue.call(room as usize);
    }

    /// What an acquire that failed means for those who wait.
    async fn failed(&self, error: &ClientError) {
        self.line.talk().fault = fault(error);
        let ClientError::Refused(refused) = error else {
            self.line.talk().draining = false;
            tracing::debug!(app = %self.target.app, %error, "control gives no leases now");
            return;
        };
        let Some(refusal) = final_refusal(refused) else {
            tracing::debug!(app = %self.target.app, code = %refused.code, "control gives no leases now");
            return;
        };
        match refused.code {
            // The snapshot that says so may be on its way: then those who wait go on to where their host leads.
            ErrorCode::NoSuchVersion => tokio::time::sleep(SNAPSHOT_DELAY).await,
            // A control that is being restarted says so too; the next one may well give leases.
            ErrorCode::Draining if !self.line.says_draining_again() => {
                tokio::time::sleep(RESTART_DELAY).await;
                return;
            }
            _ => {}
        }
        // While sandboxes serve, room may come free: then only time ends the wait.
        if !self.has_open() {
            self.queue.refuse_all(refusal);
        }
    }
}

/// What an answer says about the node: it may be over at any time, so that those who wait go on.
fn fault(error: &ClientError) -> Option<Refusal> {
    match error {
        ClientError::Refused(refused) if refused.code == ErrorCode::NodeFault => {
            Some(Refusal::retry_after(Reason::NodeFault, refused.retry_after))
        }
        _ => None,
    }
}

/// The refusal behind an answer that asking again would not change soon.
fn final_refusal(refused: &ApiError) -> Option<Refusal> {
    let reason = match refused.code {
        ErrorCode::BootFailed => Reason::BootFailed,
        ErrorCode::Cooldown => Reason::Cooldown,
        ErrorCode::AtCapacity => Reason::AtCapacity,
        ErrorCode::Draining => Reason::Draining,
        ErrorCode::NoSuchVersion | ErrorCode::NotFound => return Some(Reason::NoActiveVersion.into()),
        // It answered that its store failed; one that is away answers nothing.
        ErrorCode::Internal => return Some(Reason::LookupFailed.into()),
        _ => return None,
    };
    Some(Refusal::retry_after(reason, refused.retry_after))
}

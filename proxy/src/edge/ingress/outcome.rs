//! What a failed attempt means: try another sandbox, or tell the client which way it failed.

use super::{Ingress, Request, answer};
use crate::edge::upstream::LOCAL_FAULT;
use crate::lease::{Attempted, Ended, Failure, Permit, Tried, Verdict, again};
use crate::refusal::{Reason, Refusal};
use miren_loader::State;
use pingora_core::{Error, ErrorSource, ErrorType, Result};
use pingora_proxy::{FailToProxy, Session};

impl Ingress {
    /// Answers in the place of the app; the connection can be used on.
    pub(super) async fn refuse(&self, session: &mut Session, refusal: Refusal, request: &mut Request) -> Result<bool> {
        request.status = refusal.reason.status();
        request.refusal = Some(refusal);
        answer::refuse(session, refusal, &request.id).await?;
        Ok(true)
    }

    /// Nothing was sent, so any request can be tried again: on a fresh lease (R7).
    pub(super) fn not_connected(&self, request: &mut Request, mut error: Box<Error>) -> Box<Error> {
        if let Some(permit) = request.permit.take() {
            request.tried.any.push(permit.lease().key);
            if *error.etype() != LOCAL_FAULT {
                request.tried.refused.push(permit.lease().key);
                permit.pool().drop_lease(permit.lease());
            }
        }
        let verdict = again(&attempted(request, request.attempts), Failure::NotSent, || false);
        error.set_retry(verdict != Verdict::GiveUp);
        error
    }

    /// A connection broke that had carried the request. It is sent again only if that can do no harm.
    pub(super) fn broke_off(&self, session: &Session, request: &mut Request, mut error: Box<Error>) -> Box<Error> {
        let attempted = Attempted {
            again_harmless: session.req_header().method.is_idempotent() && !session.as_ref().retry_buffer_truncated(),
            answered: session.response_written().is_some(),
            ..attempted(request, request.attempts)
        };
        let failure = match request.conn.as_ref().is_some_and(|conn| conn.timed_out()) {
            true => Failure::TimedOut,
            // What became of it is looked at before the next attempt: that may take a moment.
            false => Failure::Broke { ended: Ended::Runs },
        };
        let again =
            *error.esource() == ErrorSource::Upstream && again(&attempted, failure, || false) != Verdict::GiveUp;
        if again && let Some(permit) = request.permit.take() {
            request.tried.any.push(permit.lease().key);
            request.conn = None;
            request.broken = Some(permit);
        }
        error.set_retry(again);
        error
    }

    /// A permit for another attempt, unless that is not worth one.
    pub(super) async fn admit_again(&self, request: &mut Request) -> Result<()> {
        if let Some(permit) = request.broken.take() {
            if !goes_elsewhere(&permit, request).await {
                return Error::e_explain(ErrorType::ConnectionClosed, "its sandbox ended with it")
                    .map_err(Error::into_up);
            }
            request.permit = Some(permit);
        }
        self.parts.metrics.retries.inc();
        if let Some(permit) = request.permit.take() {
            permit.give_up();
        }
        match self.admit_unless_gone(request).await {
            Some(Ok(permit)) => request.permit = Some(permit),
            Some(Err(refusal)) => {
                request.refusal = Some(refusal);
                return Error::e_explain(ErrorType::HTTPStatus(refusal.reason.status()), refusal.reason.code());
            }
            None => {
                let gone = "the client left while it waited";
                return Error::e_explain(ErrorType::ConnectionClosed, gone).map_err(Error::into_down);
            }
        }
        Ok(())
    }

    /// Every attempt failed, or none was allowed.
    pub(super) async fn give_up(&self, session: &mut Session, error: &Error, request: &mut Request) -> FailToProxy {
        let nothing = FailToProxy {
            error_code: 0,
            can_reuse_downstream: false,
        };
        let Some(refusal) = request
            .refusal
            .or_else(|| self.verdict(error, request).map(Refusal::from))
        else {
            return nothing;
        };
        // After the head only a broken connection can say that the rest will not come.
        if session
            .response_written()
            .is_some_and(|head| !head.status.is_informational() || head.status == 101)
        {
            tracing::debug!(request = ?request.id, %error, "an answer broke off");
            return nothing;
        }
        session.set_keepalive(None);
        if let Err(error) = self.refuse(session, refusal, request).await {
            tracing::debug!(request = ?request.id, %error, "the client left before it was answered");
        }
        FailToProxy {
            error_code: refusal.reason.status(),
            can_reuse_downstream: false,
        }
    }

    /// What a client is told; nothing where the client itself is gone.
    fn verdict(&self, error: &Error, request: &Request) -> Option<Reason> {
        if request.conn.as_ref().is_some_and(|conn| conn.timed_out()) {
            return Some(Reason::UpstreamTimeout);
        }
        match (error.esource(), error.etype()) {
            (ErrorSource::Downstream, ErrorType::ReadTimedout) => Some(Reason::RequestTimeout),
            (ErrorSource::Downstream, ErrorType::ReadError | ErrorType::WriteError | ErrorType::ConnectionClosed) => {
                None
            }
            (ErrorSource::Downstream, ErrorType::WriteTimedout) => None,
            (ErrorSource::Downstream, _) => Some(Reason::BadRequest),
            (ErrorSource::Upstream, kind) if is_connecting(kind) => Some(Reason::UpstreamUnreachable),
            (ErrorSource::Upstream, _) if self.was_stopped(request) => Some(Reason::DrainDeadline),
            (ErrorSource::Upstream, _) => Some(Reason::UpstreamClosed),
            (ErrorSource::Internal | ErrorSource::Unset, _) => Some(Reason::Internal),
        }
    }

    /// Whether the sandbox was being stopped, on purpose, while it had the request.
    fn was_stopped(&self, request: &Request) -> bool {
        let state = request.permit.as_ref().and_then(|permit| permit.state());
        matches!(state, Some(State::Stopping | State::Stopped))
    }

    /// The last hook of every request.
    pub(super) fn finished(&self, session: &Session, error: Option<&Error>, request: &mut Request) {
        let metrics = &self.parts.metrics;
        let elapsed = request.begun.elapsed();
        metrics.request_seconds.observe(elapsed.as_secs_f64());
        if let Some(pool) = &request.pool
            && request.status != 0
        {
            pool.metrics.answered(request.status);
        }
        if let Some(refusal) = request.refusal {
            metrics.refused(refusal.reason);
        }
        tracing::debug!(
            request = ?request.id,
            summary = session.request_summary(),
            status = request.status,
            attempts = request.attempts,
            refused = request.refusal.map(|refusal| refusal.reason.code()),
            error = error.map(tracing::field::display),
            ?elapsed,
            "request"
        );
        self.end(request);
    }
}

/// Whether a request whose connection broke, and which [`Ingress::broke_off`] found harmless to repeat, is sent elsewhere.
async fn goes_elsewhere(permit: &Permit, request: &mut Request) -> bool {
    let ended = permit.ended().await;
    let Tried { any, refused, .. } = &request.tried;
    // Those that nobody answered at had ended before.
    let before = any
        .iter()
        .filter(|key| **key != permit.lease().key && !refused.contains(key));
    request.tried.took_one_down |= permit.has_ended(before);
    let attempted = attempted(request, request.attempts - 1);
    let verdict = again(&attempted, Failure::Broke { ended }, || permit.pay_for_loss());
    request.tried.took_one_down |= verdict == Verdict::ElsewhereOnce;
    verdict != Verdict::GiveUp
}

/// A request of which `attempts` failed, and no part was answered.
fn attempted(request: &Request, attempts: usize) -> Attempted {
    Attempted {
        attempts,
        again_harmless: true,
        answered: false,
        took_one_down: request.tried.took_one_down,
    }
}

fn is_connecting(kind: &ErrorType) -> bool {
    *kind == LOCAL_FAULT
        || matches!(
            kind,
            ErrorType::ConnectTimedout
                | ErrorType::ConnectRefused
                | ErrorType::ConnectNoRoute
                | ErrorType::ConnectError
        )
}

//! One request through Pingora's hooks: who it is for, which sandbox gets it, what may be tried again, what is answered.

use super::client::ClientConn;
use super::head::{self, Sender};
use super::{Parts, Rules, answer, hangup, upstream};
use crate::gate::{Class, Held};
use crate::lease::{Conn, Permit, Pool, Tried, Waited, Waiter};
use crate::refusal::{Reason, Refusal};
use async_trait::async_trait;
use bytes::Bytes;
use http::HeaderValue;
use jiff::Timestamp;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora_core::protocols::Digest;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, ErrorType, Result};
use pingora_proxy::{FailToProxy, ProxyHttp, Session};
use std::net::IpAddr;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

mod outcome;

/// Answered by the proxy itself: whether it serves, without asking anybody.
const HEALTH_PATH: &str = "/.well-known/miren/health";

/// Everything between a client's request and a sandbox.
pub(super) struct Ingress {
    parts: Parts,
    rules: Arc<Rules>,
}

/// What is known about one request.
pub(super) struct Request {
    client: Option<Arc<ClientConn>>,
    peer: Option<IpAddr>,
    trusted: bool,
    id: HeaderValue,
    host: HeaderValue,
    head_bytes: u64,
    begun: Instant,
    pool: Option<Arc<Pool>>,
    /// How long its sandbox may take to begin an answer.
    first_byte: Duration,
    permit: Option<Permit>,
    /// Of the sandbox whose connection broke last, until it is decided what that means.
    broken: Option<Permit>,
    conn: Option<Arc<Conn>>,
    tried: Tried,
    attempts: usize,
    /// Whether an answer began: nothing is awaited any more.
    answered: bool,
    refusal: Option<Refusal>,
    status: u16,
    counted: Option<Held>,
    tunnel: Option<Held>,
}

impl Request {
    fn new() -> Self {
        Self {
            client: None,
            peer: None,
            trusted: false,
            id: HeaderValue::from_static(""),
            host: HeaderValue::from_static(""),
            head_bytes: 0,
            begun: Instant::now(),
            pool: None,
            first_byte: Duration::ZERO,
            permit: None,
            broken: None,
            conn: None,
            tried: Tried::default(),
            attempts: 0,
            answered: false,
            refusal: None,
            status: 0,
            counted: None,
            tunnel: None,
        }
    }
}

impl Ingress {
    pub(super) fn new(parts: Parts, rules: Arc<Rules>) -> Self {
        Self { parts, rules }
    }

    /// Whether the head can be served at all.
    fn check(&self, session: &Session, request: &mut Request) -> Result<(), Reason> {
        if request.head_bytes > self.rules.limits.header_bytes.0 {
            return Err(Reason::HeaderTooLarge);
        }
        request.host = head::host(session.req_header())?;
        Ok(())
    }

    /// A permit for the request: at once where a sandbox has room, else as soon as one has.
    async fn admit(&self, request: &mut Request) -> Result<Permit, Refusal> {
        let host = request.host.clone();
        // It was checked to be ASCII.
        let host = host.to_str().unwrap_or_default();
        let pool = self.pool(request, host)?;
        match pool.admit(&request.tried) {
            Some(permit) => Ok(permit),
            None => self.wait(request, host).await,
        }
    }

    /// Where `host` leads now, which is noted.
    fn pool(&self, request: &mut Request, host: &str) -> Result<Arc<Pool>, Refusal> {
        let found = self.parts.routing.resolve(host, Timestamp::now())?;
        let pool = self.parts.leases.pool(&found.target);
        request.first_byte = found.timeout.unwrap_or(self.rules.timeouts.upstream_first_byte);
        request.pool = Some(Arc::clone(&pool));
        Ok(pool)
    }

    async fn wait(&self, request: &mut Request, host: &str) -> Result<Permit, Refusal> {
        let deadline = request.begun + self.rules.timeouts.wait_for_capacity;
        let mut changes = self.parts.routing.changes();
        loop {
            // Before resolving: a snapshot that comes after this ends the wait below.
            changes.borrow_and_update();
            let pool = self.pool(request, host)?;
            let waiter = Waiter {
                tried: &request.tried,
                bytes: request.head_bytes,
                deadline,
            };
            match pool.wait(waiter, &mut changes).await {
                Waited::Admitted(permit) => return Ok(permit),
                Waited::Refused(refusal) => return Err(refusal),
                Waited::RoutesChanged => {}
            }
        }
    }

    /// As [`Ingress::admit`], but `None` when the client left meanwhile.
    async fn admit_unless_gone(&self, request: &mut Request) -> Option<Result<Permit, Refusal>> {
        let fd = request.client.as_ref().map(|client| client.fd);
        let gone = async {
            match fd {
                Some(fd) => hangup::hung_up(fd).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            admitted = self.admit(request) => Some(admitted),
            () = gone => None,
        }
    }

    fn begin(&self, session: &mut Session, request: &mut Request) {
        let noted = session
            .digest()
            .and_then(|digest| digest.proxy_digest.as_ref()?.user_data.as_ref());
        request.client = noted
            .and_then(|noted| noted.downcast_ref::<Arc<ClientConn>>())
            .map(Arc::clone);
        if let Some(client) = &request.client {
            client.request_begins();
        }
        request.counted = Some(self.parts.gate.enter(Class::Request));
        self.parts.metrics.requests_in_flight.inc();
        request.peer = session
            .client_addr()
            .and_then(|address| address.as_inet())
            .map(|peer| peer.ip());
        request.trusted = head::is_trusted(request.peer, &self.rules);
        request.id = head::request_id(session.req_header(), request.trusted);
        request.head_bytes = session.as_downstream().to_h1_raw().len() as u64;
        if self.parts.gate.is_closing() {
            session.set_keepalive(None);
        }
        // A WebSocket may be silent for as long as it likes; anything else that stalls is cut.
        let stall = (!head::is_websocket(session.req_header())).then_some(self.rules.timeouts.idle);
        session.set_read_timeout(stall);
        session.set_write_timeout(stall);
    }

    /// Counts a request out; safe to be told twice.
    fn end(&self, request: &mut Request) {
        if let Some(conn) = request.conn.take() {
            conn.answered();
        }
        request.permit = None;
        request.broken = None;
        if request.tunnel.take().is_some() {
            self.parts.metrics.tunnels.dec();
        }
        if request.counted.take().is_some() {
            self.parts.metrics.requests_in_flight.dec();
        }
        if let Some(client) = request.client.take() {
            client.request_ends();
        }
    }
}

#[async_trait]
impl ProxyHttp for Ingress {
    type CTX = Request;

    fn new_ctx(&self) -> Request {
        Request::new()
    }

    async fn early_request_filter(&self, session: &mut Session, request: &mut Request) -> Result<()> {
        self.begin(session, request);
        Ok(())
    }

    async fn request_filter(&self, session: &mut Session, request: &mut Request) -> Result<bool> {
        if let Err(reason) = self.check(session, request) {
            session.set_keepalive(None);
            return self.refuse(session, reason.into(), request).await;
        }
        request.tried.hedge = head::is_hedged(session.req_header());
        if session.req_header().uri.path() == HEALTH_PATH {
            request.status = 200;
            answer::text(session, "ok\n", &request.id).await?;
            return Ok(true);
        }
        match self.admit_unless_gone(request).await {
            Some(Ok(permit)) => {
                request.permit = Some(permit);
                Ok(false)
            }
            Some(Err(refusal)) => self.refuse(session, refusal, request).await,
            None => Error::e_explain(ErrorType::ConnectionClosed, "the client left while it waited")
                .map_err(Error::into_down),
        }
    }

    async fn upstream_peer(&self, session: &mut Session, request: &mut Request) -> Result<Box<HttpPeer>> {
        request.attempts += 1;
        if request.attempts > 1 {
            self.admit_again(request).await?;
        }
        match &request.permit {
            Some(permit) => {
                let wanted = upstream::Wanted {
                    upgrade: head::is_websocket(session.req_header()),
                    // The other kept connections of a sandbox that cut this one are no better.
                    fresh: request.tried.any.contains(&permit.lease().key),
                };
                Ok(upstream::peer(permit.lease(), wanted, &self.rules))
            }
            None => Error::e_explain(
                ErrorType::InternalError,
                format!("no permit for {}", session.request_summary()),
            ),
        }
    }

    async fn connected_to_upstream(
        &self,
        _session: &mut Session,
        reused: bool,
        _peer: &HttpPeer,
        _fd: RawFd,
        digest: Option<&Digest>,
        request: &mut Request,
    ) -> Result<()> {
        let metrics = &self.parts.metrics;
        if reused {
            metrics.upstream_reused.inc()
        } else {
            metrics.upstream_new.inc()
        }
        request.conn = upstream::conn(digest);
        if let Some(conn) = &request.conn {
            let movable = request.attempts == 1 && request.tried.hedge;
            conn.ask(request.first_byte, movable);
        }
        Ok(())
    }

    async fn upstream_request_filter(
        &self,
        _session: &mut Session,
        upstream: &mut RequestHeader,
        request: &mut Request,
    ) -> Result<()> {
        let Request {
            peer,
            trusted,
            host,
            id,
            ..
        } = request;
        head::forward(
            upstream,
            &Sender {
                address: *peer,
                trusted: *trusted,
                host,
                request_id: id,
            },
        )
    }

    async fn request_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        _end: bool,
        request: &mut Request,
    ) -> Result<()> {
        // The time for an answer begins anew with each part of a long upload.
        if let (Some(conn), false, true) = (&request.conn, request.answered, body.is_some()) {
            conn.await_answer(request.first_byte);
        }
        Ok(())
    }

    async fn upstream_response_filter(
        &self,
        _session: &mut Session,
        response: &mut ResponseHeader,
        request: &mut Request,
    ) -> Result<()> {
        if response.status.is_informational() && response.status != http::StatusCode::SWITCHING_PROTOCOLS {
            return Ok(());
        }
        request.answered = true;
        request.status = response.status.as_u16();
        if let Some(took) = request.conn.as_ref().and_then(|conn| conn.answered())
            && let Some(permit) = &request.permit
        {
            permit.answered(took);
        }
        if response.status == http::StatusCode::SWITCHING_PROTOCOLS {
            request.tunnel = Some(self.parts.gate.enter(Class::Tunnel));
            self.parts.metrics.tunnels.inc();
        }
        Ok(())
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        request: &mut Request,
    ) -> Result<()> {
        if self.parts.gate.is_closing() {
            session.set_keepalive(None);
        }
        response.insert_header(answer::REQUEST_ID, &request.id)
    }

    fn fail_to_connect(&self, _: &mut Session, _: &HttpPeer, request: &mut Request, error: Box<Error>) -> Box<Error> {
        self.not_connected(request, error)
    }

    fn error_while_proxy(
        &self,
        _peer: &HttpPeer,
        session: &mut Session,
        error: Box<Error>,
        request: &mut Request,
        _reused: bool,
    ) -> Box<Error> {
        self.broke_off(session, request, error)
    }

    async fn fail_to_proxy(&self, session: &mut Session, error: &Error, request: &mut Request) -> FailToProxy {
        self.give_up(session, error, request).await
    }

    async fn logging(&self, session: &mut Session, error: Option<&Error>, request: &mut Request) {
        self.finished(session, error, request);
    }

    fn suppress_error_log(&self, _session: &Session, _request: &Request, _error: &Error) -> bool {
        true
    }

    fn request_summary(&self, _session: &Session, request: &Request) -> String {
        format!("request {}", request.id.to_str().unwrap_or_default())
    }
}

//! One attempt at one sandbox: the request goes there, its answer comes back, at the same time if they like.

use super::client::Client;
use super::dial::dial;
use super::download::{Download, Received};
use super::tunnel::Tunnel;
use super::upload::{Interrupted, To, Upload};
use super::wire;
use crate::lease::{Link, Permit};
use crate::life::gate::Class;
use crate::request::account::Account;
use crate::request::attempt::Failure;
use crate::request::forward::{self, Sender};
use crate::request::framing::Framing;
use crate::request::head::Head;
use crate::request::{Parts, Rules};
use http::Method;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// What becomes of the client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// The next request.
    Keep,
    /// Its end behind the answer. `unread`: its client may be sending still, and is read from for a moment.
    Close { unread: bool },
    /// Its end: nobody is there, or its place is needed now.
    Drop,
    /// Its end at once, in a way that cannot be taken for the end of an answer.
    Reset,
}

impl After {
    /// Of a connection that ends although its client may have wished otherwise.
    pub fn close(head: &Head, is_read: bool) -> Self {
        Self::Close {
            unread: head.keeps || !is_read,
        }
    }
}

/// A request with its permit.
#[derive(Debug)]
pub struct Attempt<'a> {
    pub parts: &'a Parts,
    pub rules: &'a Rules,
    pub head: &'a Head,
    pub sender: Sender<'a>,
    pub permit: &'a Permit,
    /// How long the answer may take to begin.
    pub first_byte: Duration,
    /// Whether the connection must not have been kept: the sandbox cut this request's last one.
    pub fresh: bool,
    /// Whether it may be sent to another sandbox while this one is silent.
    pub movable: bool,
}

impl Attempt<'_> {
    /// Sends the request and passes the answer on.
    ///
    /// # Errors
    /// When that did not come about.
    pub async fn run(
        &self,
        client: &mut Client<'_>,
        upload: &mut Upload,
        account: &mut Account,
    ) -> Result<After, Failure> {
        let begun = Instant::now();
        let link = self.connect().await;
        account.connecting += begun.elapsed();
        let link = link?;
        let received = self.exchange(&link, client, upload, account).await;
        match received.map_err(|failure| self.why(&link, failure))? {
            Received::Answer { keeps, clean } => {
                if clean && upload.is_read() && !self.may_be_unread(account.status) {
                    self.permit.lease().keep(link);
                }
                Ok(match keeps && upload.is_read() {
                    true => After::Keep,
                    false => After::close(self.head, upload.is_read()),
                })
            }
            Received::Switched { early } => {
                self.tunnel(&link, client, early, account).await;
                Ok(After::Drop)
            }
        }
    }

    async fn connect(&self) -> Result<Link, Failure> {
        let lease = self.permit.lease();
        let kept = match self.fresh || self.head.upgrade {
            true => None,
            false => lease.kept_link(),
        };
        let metrics = &self.parts.metrics;
        match kept {
            Some(link) => {
                metrics.upstream_reused.inc();
                Ok(link)
            }
            None => {
                let link = dial(lease, self.rules.timeouts.upstream_connect).await?;
                metrics.upstream_new.inc();
                Ok(link)
            }
        }
    }

    async fn exchange(
        &self,
        link: &Link,
        client: &mut Client<'_>,
        upload: &mut Upload,
        account: &mut Account,
    ) -> Result<Received, Failure> {
        let mut head = Vec::with_capacity(1024);
        forward::write_head(&mut head, self.head, &self.sender);
        link.conn().ask(self.first_byte, self.movable);
        let (sent, stream) = (AtomicBool::new(false), client.stream);
        let download = Download {
            attempt: self,
            link,
            client: stream,
            stall: client.stall,
            sent: &sent,
            repeatable: self.head.method.is_idempotent() && upload.is_whole(),
        };
        let to = To {
            link,
            pool: self.permit.pool(),
        };
        let mut sending = std::pin::pin!(upload.send(&head, &to, client));
        let mut receiving = std::pin::pin!(download.run(account));
        let mut is_sending = true;
        loop {
            tokio::select! {
                biased;
                outcome = &mut sending, if is_sending => {
                    is_sending = false;
                    match outcome {
                        Ok(()) => {
                            sent.store(true, Ordering::Relaxed);
                            // The time for an answer begins with the end of a long upload.
                            link.conn().await_anew();
                        }
                        // It may have answered before it stopped reading.
                        Err(Interrupted::Sandbox) => {}
                        // Who has an answer already need not send the rest.
                        Err(Interrupted::Client(_)) if !link.conn().is_asked() => link.finish(),
                        Err(Interrupted::Client(failure)) => return Err(failure),
                    }
                }
                received = &mut receiving => return received,
                () = wire::broken(stream) => return Err(Failure::ClientGone),
            }
        }
    }

    /// A connection that was cut since no answer began in time, or since its sandbox is retired, looks like one that broke.
    fn why(&self, link: &Link, failure: Failure) -> Failure {
        match failure {
            Failure::Broke { answered: false } if link.conn().timed_out() => Failure::TimedOut,
            Failure::Broke { answered: false } if link.conn().is_over() => Failure::Drained,
            other => other,
        }
    }

    /// Whether an app may have left the body of this request unread, to take it for its next one: many do where a body means nothing
    /// (RFC 9110 §9.3.1), and where they refuse.
    fn may_be_unread(&self, status: u16) -> bool {
        let means_something = matches!(self.head.method, Method::POST | Method::PUT | Method::PATCH);
        self.head.body != Framing::None && (!means_something || status >= 400)
    }

    async fn tunnel(&self, link: &Link, client: &mut Client<'_>, early: bytes::BytesMut, account: &mut Account) {
        let _counted = self.parts.gate.enter(Class::Tunnel);
        self.parts.metrics.tunnels.inc();
        let early = [std::mem::take(&mut client.input), early];
        let mut tunnel = Tunnel::new(client.stream, link.stream(), early, client.stall);
        tunnel.run(self.permit, &self.parts.gate).await;
        let (up, down) = tunnel.passed();
        self.parts.metrics.tunnels.dec();
        account.bytes_in += up;
        account.bytes_out += down;
    }
}

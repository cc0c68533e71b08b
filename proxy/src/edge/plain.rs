//! The engine for HTTP/1: client connections from their first byte to their last, and the connections to sandboxes behind
//! them (docs/adr/0026-an-engine-of-our-own.md). It moves bytes; what they mean and what follows is decided in `request`.

use crate::listen::{self, Connection, Next, Place, Seldom};
use crate::request::{Parts, Rules};
use attempt::After;
use budget::Budget;
use bytes::{Buf, BytesMut};
use client::{Client, linger};
use serve::Server;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::Instant;

mod attempt;
mod body;
mod budget;
mod client;
mod dial;
mod download;
mod gone;
mod goodbye;
mod parting;
mod rate;
mod scan;
mod serve;
mod taker;
mod tunnel;
mod upload;
mod way;
mod wire;

/// What a kept connection is owed whose last answer began before the proxy was told to stop, and ended after it.
const LAST_MOMENT: Duration = Duration::from_secs(1);

/// Serves HTTP/1 connections.
#[derive(Debug)]
pub struct Plain {
    parts: Parts,
    rules: Rules,
    budget: Budget,
    slow_readers: Seldom,
}

impl Plain {
    pub fn new(parts: Parts, rules: Rules) -> Self {
        let budget = Budget::new(rules.limits.request_bytes.0);
        Self {
            parts,
            rules,
            budget,
            slow_readers: Seldom::default(),
        }
    }

    async fn run(&self, connection: Connection) {
        // The stream is closed before the place is free.
        let Connection { place, stream, peer } = connection;
        let peer = peer.ip().to_canonical();
        // What came behind the last request.
        let mut input = BytesMut::new();
        let mut kept = false;
        loop {
            // Empty lines between requests are nothing (RFC 9112 §2.2).
            while input.starts_with(b"\r\n") {
                input.advance(2);
            }
            if input.is_empty() && !self.is_asked(&stream, &place, kept).await {
                return;
            }
            // Nothing of a request takes memory while none is served.
            let serving = Box::pin(self.serve(&stream, peer, &place, &mut input));
            match serving.await {
                After::Keep => kept = true,
                After::Close { unread } => return finish(&stream, &input, &place, unread).await,
                After::Drop => return,
                After::Reset => return reset(stream),
            }
        }
    }

    /// Waits for the next request.
    async fn is_asked(&self, stream: &TcpStream, place: &Place, kept: bool) -> bool {
        let timeouts = &self.rules.timeouts;
        let quiet = if kept { timeouts.idle } else { timeouts.header };
        let since = Instant::now();
        match place.next(stream, quiet).await {
            Next::Request => true,
            // Its last answer did not say that the connection ends: a request may be on its way.
            Next::Closing if kept && self.parts.gate.is_closing() => {
                is_asked_until(since + LAST_MOMENT, stream, place).await
            }
            Next::Closing | Next::Silent => is_asked_at_last(stream, place).await,
            Next::Gone => false,
        }
    }

    async fn serve(&self, stream: &TcpStream, peer: IpAddr, place: &Place, input: &mut BytesMut) -> After {
        let deadline = Instant::now() + self.rules.timeouts.header;
        let server = Server {
            parts: &self.parts,
            rules: &self.rules,
            slow_readers: &self.slow_readers,
        };
        let mut client = Client {
            stream,
            peer,
            input: std::mem::take(input),
            stall: self.rules.timeouts.idle,
            memory: self.budget.share(),
        };
        let after = server.serve(&mut client, place, deadline).await;
        if !client.input.is_empty() {
            *input = client.input;
        }
        after
    }
}

impl listen::Server for Plain {
    fn serve(self: &Arc<Self>, connection: Connection) {
        let this = Arc::clone(self);
        miren_log::spawn("a client connection", async move { this.run(connection).await });
    }
}

/// Ends a connection between two requests, unless one has come: at this time, or when the one for requests is over.
async fn is_asked_until(moment: Instant, stream: &TcpStream, place: &Place) -> bool {
    tokio::select! {
        biased;
        () = place.needed() => return false,
        () = place.cut() => {}
        asked = tokio::time::timeout_at(moment, stream.readable()) => if let Ok(readable) = asked {
            return readable.is_ok();
        },
    }
    is_asked_at_last(stream, place).await
}

/// Ends a connection between two requests, unless one has come; at once where its place is needed.
async fn is_asked_at_last(stream: &TcpStream, place: &Place) -> bool {
    let parts = Box::pin(parting::part(stream, parting::MOMENT));
    tokio::select! {
        biased;
        () = place.needed() => false,
        asked = parts => asked,
    }
}

/// Closes a connection behind its last answer; at once where its place is needed.
async fn finish(stream: &TcpStream, input: &BytesMut, place: &Place, unread: bool) {
    let unread = unread || !input.is_empty() || !matches!(stream.try_read(&mut [0]), Err(error) if is_empty(&error));
    if unread {
        let lingers = Box::pin(linger(stream));
        tokio::select! {
            () = lingers => {}
            () = place.needed() => {}
        }
    }
}

fn is_empty(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::WouldBlock
}

/// Cuts a connection so that nobody takes it for the end of an answer.
fn reset(stream: TcpStream) {
    if let Err(error) = stream.set_zero_linger() {
        tracing::debug!(%error, "a connection is closed instead of reset");
    }
}

#[cfg(test)]
mod tests;

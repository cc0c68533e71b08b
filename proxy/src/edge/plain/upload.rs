//! The body of a request on its way to an app: what is small is here before a sandbox is asked for, so that a client that is slow
//! with it holds no place there.

use super::body::{Broken, Decoder, Piece};
use super::client::Client;
use super::rate::{Limits, Pace, SILENCE};
use super::wire;
use crate::lease::{Link, Pool};
use crate::listen::Place;
use crate::request::attempt::Failure;
use crate::request::fields::{Fields, Name};
use crate::request::forward::{display, field};
use crate::request::framing::Framing;
use bytes::Buf;
use std::time::Duration;
use tokio::time::Instant;

/// What is awaited of a body before a sandbox is asked for.
pub const HELD_BYTES: usize = 64 * 1024;
/// How long it is awaited: a client that sends on and on, a little at a time, reaches its app then.
const HELD_TIME: Duration = Duration::from_secs(5);
/// Bytes passed on at a time.
const STEP: usize = 64 * 1024;

/// A body that is being sent.
#[derive(Debug)]
pub struct Upload {
    framing: Framing,
    decoder: Decoder,
    limits: Limits,
    pace: Pace,
    /// The beginning of it, decoded.
    held: Vec<u8>,
    /// Whether bytes behind the beginning have been passed on: they are not here any more.
    passed_on: bool,
    /// Whether its app has begun to answer it.
    is_answered: bool,
    pub bytes: u64,
}

/// Why the beginning of a body is not here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unheld {
    Failed(Failure),
    /// Requests hold all the memory there is for them.
    Full,
}

/// Where a body goes.
#[derive(Debug)]
pub struct To<'t> {
    pub link: &'t Link,
    /// Where its permit is from.
    pub pool: &'t Pool,
    /// Of the request.
    pub fields: &'t Fields,
}

/// Why a body did not get through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interrupted {
    /// Something is wrong with the client.
    Client(Failure),
    /// The app takes no more of it: perhaps it has answered.
    Sandbox,
}

impl Upload {
    pub fn new(framing: Framing, limits: Limits) -> Self {
        Self {
            framing,
            decoder: Decoder::new(framing),
            limits,
            pace: Pace::default(),
            held: Vec::new(),
            passed_on: false,
            is_answered: false,
            bytes: 0,
        }
    }

    /// Whether all of it is here and can be sent again.
    pub fn is_whole(&self) -> bool {
        self.decoder.is_done() && !self.passed_on
    }

    /// Whether all of it was read from the client.
    pub fn is_read(&self) -> bool {
        self.decoder.is_done()
    }

    /// Notes that its client waited for a sandbox with the body unfinished. Whether it took too long with it by then.
    pub fn waited(&mut self, time: Duration) -> bool {
        if self.is_read() {
            return false;
        }
        self.pace.note(time, 0, self.limits.rate);
        self.pace.patience(&self.limits).is_zero()
    }

    /// Bytes of it in memory.
    pub fn held_bytes(&self) -> u64 {
        self.held.len() as u64
    }

    /// Reads the beginning of it: all of a small one. `head` is what its request holds beside it.
    ///
    /// # Errors
    /// When the client is gone, too slow, or breaks the framing; or when there is no memory for it.
    pub async fn hold(&mut self, client: &mut Client<'_>, head: u64, place: &Place) -> Result<(), Unheld> {
        let begun = Instant::now();
        loop {
            match self
                .decoder
                .next(&mut client.input)
                .map_err(|broken| Unheld::Failed(wrong(broken)))?
            {
                Piece::End => return Ok(()),
                Piece::Data(count) => {
                    if !client.memory.hold(head + (self.held.len() + count) as u64, place).await {
                        return Err(Unheld::Full);
                    }
                    self.held.extend_from_slice(&client.input[..count]);
                    client.input.advance(count);
                    self.bytes += count as u64;
                }
                Piece::More => {
                    let mut left = HELD_TIME.saturating_sub(begun.elapsed());
                    if self.held.len() >= HELD_BYTES || (left.is_zero() && !self.held.is_empty()) {
                        return Ok(());
                    }
                    if left.is_zero() {
                        left = Duration::MAX;
                    }
                    let most = (HELD_BYTES - self.held.len()).min(self.step());
                    self.read(client, most, left).await.map_err(Unheld::Failed)?;
                }
            }
        }
    }

    /// Drops what is there of a body that nobody will read: the next request may begin right behind it.
    pub fn drop_what_is_there(&mut self, client: &mut Client<'_>) {
        let mut dropped = 0;
        while dropped < HELD_BYTES {
            match self.decoder.next(&mut client.input) {
                Ok(Piece::Data(count)) => {
                    client.input.advance(count);
                    dropped += count;
                }
                Ok(Piece::More) if matches!(wire::try_read(client.stream, &mut client.input, STEP), Ok(1..)) => {}
                _ => return,
            }
        }
    }

    /// Grows with what has come: who sends a byte at a time costs no large buffer.
    fn step(&self) -> usize {
        (2 * self.held.len()).clamp(4 * 1024, STEP)
    }

    /// Waits for more. Returns also, without any, when `most_time` has passed.
    async fn read(&mut self, client: &mut Client<'_>, most: usize, most_time: Duration) -> Result<(), Failure> {
        let own = match self.is_answered {
            true => self.pace.patience_of_a_stream(&self.limits),
            false => self.pace.patience(&self.limits),
        };
        let patience = own.min(most_time);
        let begun = Instant::now();
        let read = match wire::try_read(client.stream, &mut client.input, most) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                tokio::time::timeout(patience, wire::read(client.stream, &mut client.input, most)).await
            }
            read => Ok(read),
        };
        let bytes = read.as_ref().map_or(0, |read| *read.as_ref().unwrap_or(&0)) as u64;
        self.pace.note(begun.elapsed(), bytes, self.limits.rate);
        match read {
            Ok(Ok(1..)) => Ok(()),
            Ok(Ok(0) | Err(_)) => Err(Failure::ClientGone),
            Err(_) if patience < own => Ok(()),
            Err(_) => Err(Failure::ClientSlow { answered: false }),
        }
    }

    /// Writes the head of the request and all of the body, as it comes.
    ///
    /// # Errors
    /// When one of both sides does not go on.
    pub async fn send(&mut self, head: &[u8], to: &To<'_>, client: &mut Client<'_>) -> Result<(), Interrupted> {
        self.send_held(head, to, client.stall).await?;
        let (mut size, mut joined, mut end) = (Vec::new(), Vec::new(), Vec::new());
        while !self.decoder.is_done() {
            let piece = self.decoder.join(&mut client.input, &mut joined);
            let piece = piece.map_err(|broken| Interrupted::Client(wrong(broken)))?;
            let count = if let Piece::Data(count) = piece { count } else { 0 };
            if piece == Piece::End {
                self.write_end(&mut end, to.fields);
            }
            let length = joined.len() + count;
            if length > 0 {
                self.passed_on = true;
                // It can be sent only once now.
                self.held = Vec::new();
                self.bytes += length as u64;
            }
            let mut parts = self.framed([&joined, &client.input[..count]], &mut size);
            parts.push(&end);
            let sent = wire::write(to.link.stream(), &parts, client.stall).await;
            client.input.advance(count);
            joined.clear();
            sent.map_err(|_| Interrupted::Sandbox)?;
            if length > 0 {
                // The time for an answer begins anew with each part of a long upload.
                to.link.conn().await_anew();
            }
            if piece == Piece::More {
                let most = self.decoder.wants(STEP);
                client.input.reserve(most);
                self.read_on(client, most, to).await.map_err(Interrupted::Client)?;
            }
        }
        Ok(())
    }

    /// Waits for more while the request has a place in a sandbox: who says next to nothing loses it as soon as others want it.
    async fn read_on(&mut self, client: &mut Client<'_>, most: usize, to: &To<'_>) -> Result<(), Failure> {
        let (before, conn) = (client.input.len(), to.link.conn());
        // Who has sent nothing of it yet may be waiting for the app's `100 Continue`.
        if self.bytes > 0 {
            conn.await_client();
        }
        loop {
            self.read(client, most, SILENCE).await?;
            self.is_answered = !conn.is_asked();
            if !self.is_answered && to.pool.is_wanted() && self.pace.is_silent(SILENCE, self.limits.rate) {
                return Err(Failure::ClientSlow { answered: false });
            }
            if client.input.len() > before {
                conn.await_anew();
                return Ok(());
            }
        }
    }

    async fn send_held(&self, head: &[u8], to: &To<'_>, stall: Duration) -> Result<(), Interrupted> {
        let (mut size, mut end) = (Vec::new(), Vec::new());
        if self.decoder.is_done() {
            self.write_end(&mut end, to.fields);
        }
        let mut parts = vec![head];
        parts.extend(self.framed([&self.held, &[]], &mut size));
        parts.push(&end);
        let sent = wire::write(to.link.stream(), &parts, stall).await;
        sent.map_err(|_| Interrupted::Sandbox)
    }

    /// `data`, as one piece, with what its framing puts around it.
    fn framed<'d>(&self, [first, second]: [&'d [u8]; 2], size: &'d mut Vec<u8>) -> Vec<&'d [u8]> {
        let length = first.len() + second.len();
        if self.framing != Framing::Chunked || length == 0 {
            return vec![first, second];
        }
        write_size(size, length);
        vec![size, first, second, b"\r\n"]
    }

    fn write_end(&self, end: &mut Vec<u8>, fields: &Fields) {
        if self.framing == Framing::Chunked {
            write_last_chunk(end, &self.decoder, fields);
        }
    }
}

fn wrong(_: Broken) -> Failure {
    Failure::ClientWrong { answered: false }
}

/// The line before a chunk.
pub fn write_size(out: &mut Vec<u8>, size: usize) {
    out.clear();
    display(out, format_args!("{size:x}\r\n"));
}

/// The end of a chunked body, with the trailers that may be passed on (RFC 9110 §6.5.1): not those that the head's `Connection`, which
/// is in `fields`, says are between two neighbours (§7.6.1).
pub fn write_last_chunk(out: &mut Vec<u8>, decoder: &Decoder, fields: &Fields) {
    out.extend_from_slice(b"0\r\n");
    if let Some(trailers) = decoder.trailers() {
        let nominated = fields.nominated();
        let passed = trailers.iter().filter(|trailer| trailer.name == Name::Other);
        for trailer in passed.filter(|trailer| !nominated.has(trailer.key)) {
            field(out, trailer.key, trailer.value);
        }
    }
    out.extend_from_slice(b"\r\n");
}

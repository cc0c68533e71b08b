//! The answer of an app on its way to a client: adapted to who gets it, and begun only when it can be finished, where that is
//! soon known.

use super::attempt::Attempt;
use super::body::{Broken, Decoder, Piece};
use super::scan::Scan;
use super::taker::Taker;
use super::upload::{write_last_chunk, write_size};
use super::wire;
use crate::lease::Link;
use crate::request::account::Account;
use crate::request::answer::Answer;
use crate::request::attempt::Failure;
use crate::request::framing::Framing;
use bytes::{Buf, BytesMut};
use http::StatusCode;
use miren_loader::State;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// Largest head of an answer.
const HEAD_MAX: usize = 128 * 1024;
/// Interim answers (1xx) before the answer itself.
const INTERIM_MAX: usize = 32;
/// What is read at once of an answer, at first and then.
const FIRST_READ: usize = 8 * 1024;
const STEP: usize = 64 * 1024;
/// An answer of at most so many bytes is begun only when it is whole: a server that writes head and body apart may be killed
/// between the two.
const WHOLE_BYTES: usize = 64 * 1024;
/// The longest that takes: streams begin that much later, unless they say that they are streams.
const WHOLE_TIME: Duration = Duration::from_millis(50);

/// How an exchange went.
#[derive(Debug)]
pub enum Received {
    /// The answer was passed on. `keeps`: the client's connection was said to stay open; `clean`: so may the sandbox's.
    Answer { keeps: bool, clean: bool },
    /// The connection is no HTTP any more; `early` was behind the answer.
    Switched { early: BytesMut },
}

/// An answer that is awaited.
#[derive(Debug)]
pub struct Download<'d> {
    pub attempt: &'d Attempt<'d>,
    pub link: &'d Link,
    pub taker: Taker<'d>,
    /// Whether the whole request was sent.
    pub sent: &'d AtomicBool,
    /// Whether the client was shown something of the answer.
    pub shown: &'d AtomicBool,
    /// Whether the request can be sent again, as long as nothing of an answer was shown.
    pub repeatable: bool,
}

/// What is under way of one answer.
struct Progress {
    input: BytesMut,
    decoder: Decoder,
    /// Of the body, taken out of the input and not written yet.
    joined: Vec<u8>,
    /// Of the client's answer, not written yet.
    head: Vec<u8>,
}

impl Download<'_> {
    pub async fn run(&mut self, account: &mut Account) -> Result<Received, Failure> {
        let mut input = BytesMut::with_capacity(FIRST_READ);
        let answer = self.read_head(&mut input).await?;
        match self.link.conn().answered() {
            Some(took) => self.attempt.permit.answered(took),
            // It was cut in this moment: what is here of the answer is not all of it.
            None => return Err(Failure::Broke { answered: false }),
        }
        account.first_byte = Some(account.begun.elapsed());
        account.status = answer.status.as_u16();
        if answer.status == StatusCode::SWITCHING_PROTOCOLS {
            return self.switch(&answer, input).await;
        }
        let was_sent = self.sent.load(Ordering::Relaxed);
        let mut progress = Progress {
            input,
            decoder: Decoder::new(answer.body),
            joined: Vec::new(),
            head: Vec::with_capacity(1024),
        };
        if self.repeatable && is_awaited(&answer) {
            self.complete(&answer, &mut progress).await?;
        }
        let keeps = self.keeps(&answer, was_sent);
        answer.write_head(&mut progress.head, self.attempt.head, self.attempt.sender.id, keeps);
        self.pass(&answer, &mut progress, account).await?;
        // What an app says behind its answer answers nothing.
        let clean = was_sent && answer.keeps() && progress.input.is_empty();
        Ok(Received::Answer { keeps, clean })
    }

    /// The head of the answer itself; interim ones before it are passed on.
    async fn read_head(&mut self, input: &mut BytesMut) -> Result<Answer, Failure> {
        const UNREADABLE: Failure = Failure::Unreadable { answered: false };
        for _ in 0..=INTERIM_MAX {
            let answer = self.read_one(input).await?;
            if !answer.is_interim() {
                return Ok(answer);
            }
            // 100 was said to the client already, if it waited for it.
            if self.attempt.head.is_http_11 && answer.status != StatusCode::CONTINUE {
                let mut head = Vec::new();
                answer.write_head(&mut head, self.attempt.head, self.attempt.sender.id, true);
                self.taker.write(&[&head]).await?;
            }
        }
        Err(UNREADABLE)
    }

    async fn read_one(&self, input: &mut BytesMut) -> Result<Answer, Failure> {
        const UNREADABLE: Failure = Failure::Unreadable { answered: false };
        let mut scan = Scan::of_app();
        loop {
            if let Some(end) = scan.end(input).map_err(|_| UNREADABLE)? {
                let text = input.split_to(end).freeze();
                return Answer::parse(&text, self.attempt.head).map_err(|_| UNREADABLE);
            }
            if input.len() >= HEAD_MAX {
                return Err(UNREADABLE);
            }
            match wire::read(self.link.stream(), input, FIRST_READ).await {
                Ok(1..) => {}
                Ok(0) | Err(_) => return Err(Failure::Broke { answered: false }),
            }
        }
    }

    /// Waits a moment for all of a small answer.
    async fn complete(&self, answer: &Answer, progress: &mut Progress) -> Result<(), Failure> {
        const BROKE: Failure = Failure::Broke { answered: false };
        let deadline = Instant::now() + WHOLE_TIME;
        loop {
            let missing = progress.missing(answer.body);
            let missing = missing.map_err(|_| Failure::Unreadable { answered: false })?;
            if missing == 0 {
                return Ok(());
            }
            let read = wire::read(self.link.stream(), &mut progress.input, missing);
            match tokio::time::timeout_at(deadline, read).await {
                Ok(Ok(1..)) => {}
                Ok(Ok(0)) if self.ends_with(answer.body) => return Ok(()),
                Ok(Ok(0) | Err(_)) => return Err(BROKE),
                Err(_) => return Ok(()),
            }
        }
    }

    /// Whether the end of the connection is the end of an answer: not where the sandbox has died, or its connections were cut. What is
    /// there of the answer would look whole.
    fn ends_with(&self, body: Framing) -> bool {
        let has_died = || self.attempt.permit.state() == Some(State::Dead);
        body == Framing::UntilClose && !self.link.conn().is_over() && !self.link.is_cut() && !has_died()
    }

    /// Whether the client's connection stays open after this answer.
    fn keeps(&self, answer: &Answer, was_sent: bool) -> bool {
        let head = self.attempt.head;
        let has_end = answer.framing_for(head) != Framing::UntilClose;
        head.keeps && has_end && was_sent && !self.attempt.parts.gate.is_closing()
    }

    async fn pass(&mut self, answer: &Answer, progress: &mut Progress, account: &mut Account) -> Result<(), Failure> {
        let is_chunked = answer.framing_for(self.attempt.head) == Framing::Chunked;
        loop {
            let piece = progress.decoder.join(&mut progress.input, &mut progress.joined);
            let piece = piece.map_err(|_| Failure::Unreadable {
                answered: self.is_shown(),
            })?;
            let count = if let Piece::Data(count) = piece { count } else { 0 };
            let mut end = Vec::new();
            if is_chunked && piece == Piece::End {
                write_last_chunk(&mut end, &progress.decoder, &answer.fields);
            }
            if piece == Piece::End || count + progress.joined.len() > 0 {
                account.bytes_out += self.flush(progress, count, is_chunked.then_some(&end)).await?;
            }
            match piece {
                Piece::Data(_) => {}
                Piece::End => return Ok(()),
                Piece::More => self.read_body(progress, answer.body).await?,
            }
        }
    }

    /// Writes what is joined and the next `count` bytes, as one chunk where that is the client's framing, with what is due before and
    /// behind it. How many bytes of the body that was.
    async fn flush(&mut self, progress: &mut Progress, count: usize, end: Option<&Vec<u8>>) -> Result<u64, Failure> {
        let length = progress.joined.len() + count;
        let data = &progress.input[..count];
        match end {
            Some(end) if length > 0 => {
                let mut size = Vec::new();
                write_size(&mut size, length);
                let parts = [&progress.head, &size, &progress.joined, data, b"\r\n", end];
                self.show(&parts).await?;
            }
            end => {
                let end = end.map_or(&[][..], Vec::as_slice);
                self.show(&[&progress.head, &progress.joined, data, end]).await?;
            }
        }
        progress.written(count);
        Ok(length as u64)
    }

    /// Reads more of the body; the head is not held back for what is not there.
    async fn read_body(&mut self, progress: &mut Progress, body: Framing) -> Result<(), Failure> {
        let most = progress.decoder.wants(STEP);
        progress.input.reserve(most);
        let there = wire::try_read(self.link.stream(), &mut progress.input, most);
        let read = match there {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.show(&[&progress.head]).await?;
                progress.written(0);
                wire::read(self.link.stream(), &mut progress.input, most).await
            }
            there => there,
        };
        match read {
            Ok(1..) => Ok(()),
            Ok(0) if self.ends_with(body) && progress.decoder.closed() => Ok(()),
            Ok(0) | Err(_) => Err(Failure::Broke {
                answered: self.is_shown(),
            }),
        }
    }

    async fn switch(&mut self, answer: &Answer, early: BytesMut) -> Result<Received, Failure> {
        if !self.attempt.head.upgrade || !answer.switches() {
            return Err(Failure::Unreadable { answered: false });
        }
        if !self.link.conn().becomes_tunnel() {
            return Err(Failure::Broke { answered: false });
        }
        let mut head = Vec::new();
        answer.write_head(&mut head, self.attempt.head, self.attempt.sender.id, true);
        self.show(&[&head]).await?;
        Ok(Received::Switched { early })
    }

    fn is_shown(&self) -> bool {
        self.shown.load(Ordering::Relaxed)
    }

    /// Writes something of the answer itself.
    async fn show(&mut self, parts: &[&[u8]]) -> Result<(), Failure> {
        // Before: a part of it may get through.
        self.shown.store(true, Ordering::Relaxed);
        self.taker.write(parts).await
    }
}

/// Whether a moment is given to the end of an answer.
fn is_awaited(answer: &Answer) -> bool {
    match answer.body {
        Framing::None => false,
        Framing::Length(length) => length <= WHOLE_BYTES as u64,
        Framing::Chunked | Framing::UntilClose => !answer.is_stream(),
    }
}

impl Progress {
    /// How much more may be read of an answer that is kept until it is whole; 0 when it is, or is too large for that.
    fn missing(&mut self, body: Framing) -> Result<usize, Broken> {
        if body == Framing::Chunked {
            return self.missing_of_chunks();
        }
        let wanted = match body {
            Framing::Length(length) => usize::try_from(length).unwrap_or(WHOLE_BYTES),
            _ => WHOLE_BYTES,
        };
        let missing = wanted.saturating_sub(self.input.len());
        self.input
            .reserve(if let Framing::Length(_) = body { missing } else { 0 });
        Ok(missing)
    }

    fn missing_of_chunks(&mut self) -> Result<usize, Broken> {
        loop {
            match self.decoder.next(&mut self.input)? {
                Piece::Data(count) => {
                    self.joined.extend_from_slice(&self.input[..count]);
                    self.input.advance(count);
                }
                Piece::End => return Ok(0),
                Piece::More => return Ok(WHOLE_BYTES.saturating_sub(self.joined.len())),
            }
        }
    }

    /// What there was of the head, and `count` bytes of the input, are with the client.
    fn written(&mut self, count: usize) {
        self.head.clear();
        self.input.advance(count);
        // A stream that is silent keeps no buffer for what it said at once.
        if self.joined.capacity() > STEP / 4 {
            self.joined = Vec::new();
        }
        self.joined.clear();
    }
}

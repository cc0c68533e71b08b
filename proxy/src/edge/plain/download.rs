//! The answer of an app on its way to a client: adapted to who gets it, and begun only when it can be finished, where that is
//! soon known.

use super::attempt::Attempt;
use super::body::{Decoder, Piece};
use super::scan::Scan;
use super::upload::{write_last_chunk, write_size};
use super::wire;
use crate::lease::Link;
use crate::request::account::Account;
use crate::request::answer::Answer;
use crate::request::attempt::Failure;
use crate::request::framing::Framing;
use bytes::{Buf, BytesMut};
use http::StatusCode;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::TcpStream;
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
const WHOLE_BYTES: u64 = 64 * 1024;
/// The longest that takes.
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
    pub client: &'d TcpStream,
    /// How long the client may refuse to take a byte.
    pub stall: Duration,
    /// Whether the whole request was sent.
    pub sent: &'d AtomicBool,
    /// Whether the request can be sent again, as long as nothing of an answer was shown.
    pub repeatable: bool,
}

/// What is under way of one answer.
struct Progress {
    input: BytesMut,
    /// Of the client's answer, not written yet.
    head: Vec<u8>,
    /// Whether the client was shown something of the answer.
    shown: bool,
}

impl Download<'_> {
    pub async fn run(&self, account: &mut Account) -> Result<Received, Failure> {
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
        if self.repeatable {
            self.complete(&answer, &mut input).await?;
        }
        let keeps = self.keeps(&answer, was_sent);
        let mut progress = Progress {
            input,
            head: Vec::with_capacity(1024),
            shown: false,
        };
        answer.write_head(&mut progress.head, self.attempt.head, self.attempt.sender.id, keeps);
        self.pass(&answer, &mut progress, account).await?;
        // What an app says behind its answer answers nothing.
        let clean = was_sent && answer.keeps() && progress.input.is_empty();
        Ok(Received::Answer { keeps, clean })
    }

    /// The head of the answer itself; interim ones before it are passed on.
    async fn read_head(&self, input: &mut BytesMut) -> Result<Answer, Failure> {
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
                self.write(&[&head]).await?;
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
    async fn complete(&self, answer: &Answer, input: &mut BytesMut) -> Result<(), Failure> {
        let Framing::Length(length @ ..=WHOLE_BYTES) = answer.body else {
            return Ok(());
        };
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let deadline = Instant::now() + WHOLE_TIME;
        while input.len() < length {
            input.reserve(length - input.len());
            let read = wire::read(self.link.stream(), input, length - input.len());
            match tokio::time::timeout_at(deadline, read).await {
                Ok(Ok(1..)) => {}
                Ok(Ok(0) | Err(_)) => return Err(Failure::Broke { answered: false }),
                Err(_) => return Ok(()),
            }
        }
        Ok(())
    }

    /// Whether the client's connection stays open after this answer.
    fn keeps(&self, answer: &Answer, was_sent: bool) -> bool {
        let head = self.attempt.head;
        let has_end = answer.framing_for(head) != Framing::UntilClose;
        head.keeps && has_end && was_sent && !self.attempt.parts.gate.is_closing()
    }

    async fn pass(&self, answer: &Answer, progress: &mut Progress, account: &mut Account) -> Result<(), Failure> {
        let mut decoder = Decoder::new(answer.body);
        let is_chunked = answer.framing_for(self.attempt.head) == Framing::Chunked;
        let mut size = Vec::new();
        loop {
            let unreadable = Failure::Unreadable {
                answered: progress.shown,
            };
            match decoder.next(&mut progress.input).map_err(|_| unreadable)? {
                Piece::Data(count) => {
                    let data = &progress.input[..count];
                    if is_chunked {
                        write_size(&mut size, count);
                        self.write(&[&progress.head, &size, data, b"\r\n"]).await?;
                    } else {
                        self.write(&[&progress.head, data]).await?;
                    }
                    account.bytes_out += count as u64;
                    progress.written();
                    progress.input.advance(count);
                }
                Piece::End => {
                    size.clear();
                    if is_chunked {
                        write_last_chunk(&mut size, &decoder);
                    }
                    self.write(&[&progress.head, &size]).await?;
                    progress.written();
                    return Ok(());
                }
                Piece::More => self.read_body(progress, &mut decoder).await?,
            }
        }
    }

    /// Reads more of the body; the head is not held back for what is not there.
    async fn read_body(&self, progress: &mut Progress, decoder: &mut Decoder) -> Result<(), Failure> {
        let most = decoder.wants(STEP);
        progress.input.reserve(most);
        let there = wire::try_read(self.link.stream(), &mut progress.input, most);
        let read = match there {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.write(&[&progress.head]).await?;
                progress.written();
                wire::read(self.link.stream(), &mut progress.input, most).await
            }
            there => there,
        };
        match read {
            Ok(1..) => Ok(()),
            // One that was cut has not come to its end.
            Ok(0) if !self.link.conn().is_over() && decoder.closed() => Ok(()),
            Ok(0) | Err(_) => Err(Failure::Broke {
                answered: progress.shown,
            }),
        }
    }

    async fn switch(&self, answer: &Answer, early: BytesMut) -> Result<Received, Failure> {
        if !self.attempt.head.upgrade || !answer.switches() {
            return Err(Failure::Unreadable { answered: false });
        }
        if !self.link.conn().becomes_tunnel() {
            return Err(Failure::Broke { answered: false });
        }
        let mut head = Vec::new();
        answer.write_head(&mut head, self.attempt.head, self.attempt.sender.id, true);
        self.write(&[&head]).await?;
        Ok(Received::Switched { early })
    }

    async fn write(&self, parts: &[&[u8]]) -> Result<(), Failure> {
        let written = wire::write(self.client, parts, self.stall).await;
        written.map_err(|_| Failure::ClientGone)
    }
}

impl Progress {
    /// What there was of the head is with the client.
    fn written(&mut self) {
        self.head.clear();
        self.shown = true;
    }
}

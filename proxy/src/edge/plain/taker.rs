//! How long a client may take with its answer. Time counts in which there was more for it than its connection took, and what it has
//! taken is what its system has acknowledged: the buffers in between fill and empty in steps of their own (ADR 0030).

use super::rate::{self, Limits, Pace, SILENCE};
use super::wire::{self, Taken};
use crate::lease::Pool;
use crate::request::attempt::Failure;
use std::io::ErrorKind;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::task::coop::consume_budget;
use tokio::time::Instant;

/// How often a client is looked at that takes nothing, while nobody waits for its place.
const LOOK: Duration = Duration::from_secs(1);
/// The shortest time between two looks.
const SHORTEST: Duration = Duration::from_millis(2);

/// A client that is sent an answer.
#[derive(Debug)]
pub struct Taker<'t> {
    stream: &'t TcpStream,
    /// Whose place it has.
    pool: &'t Pool,
    limits: Limits,
    pace: Pace,
    /// What was seen of it last; none before the first look.
    seen: Option<Taken>,
    /// How long it has taken nothing, and for how much of that its system had no room.
    still: Duration,
    shut: Duration,
}

impl<'t> Taker<'t> {
    pub fn new(stream: &'t TcpStream, pool: &'t Pool, limits: Limits) -> Self {
        Self {
            stream,
            pool,
            limits,
            pace: Pace::default(),
            seen: None,
            still: Duration::ZERO,
            shut: Duration::ZERO,
        }
    }

    /// Writes all of `parts`.
    ///
    /// # Errors
    /// When the client is gone, or takes it too slowly.
    pub async fn write(&mut self, parts: &[&[u8]]) -> Result<(), Failure> {
        consume_budget().await;
        let total: usize = parts.iter().map(|part| part.len()).sum();
        let mut written = 0;
        while written < total {
            match wire::try_write(self.stream, parts, written) {
                Ok(count @ 1..) => written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.wait().await?,
                Ok(0) | Err(_) => return Err(Failure::ClientGone),
            }
        }
        Ok(())
    }

    /// Waits until its connection takes more.
    async fn wait(&mut self) -> Result<(), Failure> {
        if self.seen.is_none() {
            self.seen = Some(self.look()?);
        }
        loop {
            let begun = Instant::now();
            let ready = tokio::time::timeout(self.next_look(), self.stream.writable()).await;
            let seen = self.look()?;
            self.note(begun.elapsed(), seen);
            if self.is_overdue() {
                return Err(Failure::ClientSlow { answered: true });
            }
            if let Ok(ready) = ready {
                return ready.map_err(|_| Failure::ClientGone);
            }
        }
    }

    fn look(&self) -> Result<Taken, Failure> {
        wire::taken(self.stream).map_err(|_| Failure::ClientGone)
    }

    fn note(&mut self, waited: Duration, seen: Taken) {
        let before = self.seen.replace(seen).unwrap_or(seen);
        let bytes = seen.acked.saturating_sub(before.acked);
        self.pace.note(waited, bytes, self.limits.rate);
        if bytes > 0 {
            (self.still, self.shut) = (Duration::ZERO, Duration::ZERO);
        } else {
            self.still += waited;
            self.shut += seen.shut.saturating_sub(before.shut);
        }
    }

    fn is_overdue(&mut self) -> bool {
        let is_silent = self.pace.is_silent(SILENCE, self.limits.rate);
        let in_the_way = self.turn().is_some_and(|turn| is_silent || self.shut >= turn);
        in_the_way || self.still >= self.limits.idle || self.pace.patience(&self.limits).is_zero()
    }

    fn next_look(&self) -> Duration {
        let look = self.turn().map_or(LOOK, |turn| turn / 2);
        let until_idle = self.limits.idle.saturating_sub(self.still);
        look.min(until_idle).min(self.pace.patience(&self.limits)).max(SHORTEST)
    }

    /// How long it may have no room while others wait for its place.
    fn turn(&self) -> Option<Duration> {
        self.pool.crowd().map(|crowd| rate::turn(&crowd))
    }
}

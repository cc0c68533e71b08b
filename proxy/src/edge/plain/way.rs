//! One direction of a tunnel: what is read is written, and where that stands among the frames is known.
//!
//! Whatever waits here may be dropped at any moment, and begun again: what it has done is kept.

use super::goodbye::Frames;
use super::wire;
use bytes::{Buf, BytesMut};
use nix::sys::socket::{Shutdown, shutdown};
use std::io;
use std::os::fd::AsRawFd as _;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::task::coop::consume_budget;
use tokio::time::{Instant, timeout_at};

/// Passed on at a time.
const STEP: usize = 16 * 1024;

#[derive(Debug)]
pub struct Way<'t> {
    from: &'t TcpStream,
    to: &'t TcpStream,
    /// Read and not written.
    pending: BytesMut,
    /// Of what was written.
    frames: Frames,
    stall: Duration,
    /// Until when the other side has to take what is pending; none while it takes it.
    blocked: Option<Instant>,
    passed: u64,
}

impl<'t> Way<'t> {
    /// `early` was read before.
    pub fn new(from: &'t TcpStream, to: &'t TcpStream, early: BytesMut, stall: Duration) -> Self {
        Self {
            from,
            to,
            pending: early,
            frames: Frames::default(),
            stall,
            blocked: None,
            passed: 0,
        }
    }

    pub fn passed(&self) -> u64 {
        self.passed
    }

    /// Whether a close frame was passed on, or is the next to be.
    pub fn closes(&self) -> bool {
        let mut next = self.frames;
        next.follow(&self.pending[..self.pending.len().min(1)]);
        next.closes()
    }

    /// Passes on what comes until that ends, and says so; the other way may go on.
    pub async fn pass(&mut self) -> io::Result<()> {
        loop {
            self.write(self.pending.len()).await?;
            if self.read().await? == 0 {
                return self.finish();
            }
        }
    }

    /// Passes on until a close frame has gone, or what comes ends.
    pub async fn pass_close(&mut self) -> io::Result<()> {
        loop {
            self.write(self.pending.len()).await?;
            if (self.frames.closes() && self.frames.is_between()) || self.read().await? == 0 {
                return Ok(());
            }
        }
    }

    /// Passes on until no frame is unfinished. False if what comes ends before.
    pub async fn finish_frame(&mut self) -> io::Result<bool> {
        loop {
            self.write(self.frames.rest(&self.pending)).await?;
            if self.frames.is_between() {
                return Ok(true);
            }
            if self.read().await? == 0 {
                return Ok(false);
            }
        }
    }

    /// Says this in the place of what is pending, and of all that comes.
    pub async fn say(&mut self, word: &[u8]) -> io::Result<()> {
        self.pending = BytesMut::from(word);
        self.write(word.len()).await
    }

    /// Reads what comes, for nobody, until that ends.
    pub async fn discard(&mut self) -> io::Result<()> {
        while self.read().await? > 0 {}
        Ok(())
    }

    /// Says that nothing more will come.
    pub fn finish(&self) -> io::Result<()> {
        match shutdown(self.to.as_raw_fd(), Shutdown::Write) {
            Ok(()) | Err(nix::errno::Errno::ENOTCONN) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads more in the place of what was there; 0 at the end.
    async fn read(&mut self) -> io::Result<usize> {
        // No buffer while it is silent.
        self.pending = BytesMut::new();
        self.from.readable().await?;
        self.pending.reserve(STEP);
        wire::read(self.from, &mut self.pending, STEP).await
    }

    /// Writes the first `most` bytes of what is pending.
    async fn write(&mut self, most: usize) -> io::Result<()> {
        consume_budget().await;
        let mut left = most;
        while left > 0 {
            match self.to.try_write(&self.pending[..left]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    self.frames.follow(&self.pending[..count]);
                    self.pending.advance(count);
                    self.passed += count as u64;
                    left -= count;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let until = *self.blocked.get_or_insert_with(|| Instant::now() + self.stall);
                    let ready = timeout_at(until, self.to.writable()).await;
                    ready.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
                }
                Err(error) => return Err(error),
            }
        }
        self.blocked = None;
        Ok(())
    }
}

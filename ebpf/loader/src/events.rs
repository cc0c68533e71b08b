//! Decides how exits reach the tasks that wait for them.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use miren_abi::{ChangedBy, Event, State, Word};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::mpsc,
};

use crate::{config::SlotSource, error::OpenError, kernel, ring::Ring};

/// A slot whose init process exited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    /// Index into the table.
    pub slot: u32,
    /// Which life of the slot.
    pub generation: u64,
    /// STOPPED or DEAD.
    pub state: State,
    /// When, CLOCK_MONOTONIC nanoseconds.
    pub at_ns: u64,
    /// Who noticed.
    pub by: ChangedBy,
    /// Raw wait status, or [`miren_abi::EXIT_CODE_UNKNOWN`].
    pub exit_code: u32,
    /// The process.
    pub tgid: u32,
}

impl From<Event> for Transition {
    fn from(event: Event) -> Self {
        let word = Word::from_bits(event.word);
        Self {
            slot: event.slot,
            generation: word.generation(),
            state: word.state(),
            at_ns: event.at_ns,
            by: ChangedBy::from_byte(event.by),
            exit_code: event.exit_code,
            tgid: event.tgid,
        }
    }
}

/// Control's stream of exits.
///
/// A stream can lose an exit when it is full; [`crate::FastPath::slot`] never does. Reconcile from there.
#[derive(Debug)]
pub struct Events(Source);

#[derive(Debug)]
enum Source {
    Ring(AsyncRing),
    Channel(mpsc::Receiver<Transition>),
}

impl Events {
    pub(crate) fn from_ring(ring: Ring) -> Self {
        Self(Source::Ring(AsyncRing::new(ring)))
    }

    pub(crate) fn from_channel(receiver: mpsc::Receiver<Transition>) -> Self {
        Self(Source::Channel(receiver))
    }

    /// The next exit; `None` when there will be no more. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Transition> {
        match &mut self.0 {
            Source::Ring(ring) => ring.next().await,
            Source::Channel(receiver) => receiver.recv().await,
        }
    }
}

/// A proxy's stream of exits: a hint that a word is worth looking at. Of several proxies, each exit wakes only one.
#[derive(Debug)]
pub struct ProxyEvents(AsyncRing);

impl ProxyEvents {
    /// Opens the proxy's ring buffer; `None` where the table is a file. Like [`crate::SlotReader`] it keeps no BPF
    /// descriptor, and has to be opened before privileges are dropped.
    ///
    /// # Errors
    /// When there is no table, or when this process may not open it.
    pub fn open(source: &SlotSource) -> Result<Option<Self>, OpenError> {
        match source {
            SlotSource::File(_) => Ok(None),
            SlotSource::Pinned(pin_dir) => Ok(Some(Self(AsyncRing::new(kernel::open_proxy_ring(pin_dir)?)))),
        }
    }

    /// The next exit; `None` when there will be no more. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Transition> {
        self.0.next().await
    }
}

/// A ring buffer and, once somebody waits, its place in the runtime.
#[derive(Debug)]
struct AsyncRing {
    ring: Ring,
    ready: Option<AsyncFd<OwnedFd>>,
}

impl AsyncRing {
    fn new(ring: Ring) -> Self {
        Self { ring, ready: None }
    }

    async fn next(&mut self) -> Option<Transition> {
        loop {
            if let Some(event) = self.ring.pop() {
                return Some(event.into());
            }
            if let Err(error) = self.wait().await {
                tracing::error!(%error, "the ring buffer of exits cannot be read any more");
                return None;
            }
        }
    }

    async fn wait(&mut self) -> io::Result<()> {
        let ready = match self.ready.take() {
            Some(ready) => self.ready.insert(ready),
            None => {
                let readiness = self.ring.readiness().as_fd().try_clone_to_owned()?;
                // SAFETY: the descriptor is owned by what is registered, so it stays open and the same.
                let ready = unsafe { AsyncFd::register_with_interest(readiness, Interest::READABLE) };
                self.ready.insert(ready.map_err(io::Error::from)?)
            }
        };
        // Cleared before the buffer is looked at again: what comes after that sets it anew.
        ready.readable().await?.clear_ready();
        Ok(())
    }
}

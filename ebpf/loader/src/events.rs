//! Decides how exits reach the tasks that wait for them.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use miren_abi::{ChangedBy, EXIT_CODE_UNKNOWN, Event, State, Word};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::{broadcast, mpsc},
};

use crate::{config::SlotSource, error::OpenError, kernel, ring::Ring, table::SlotView};

/// One change of a slot's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    /// Index into the table.
    pub slot: u32,
    /// Which life of the slot.
    pub generation: u64,
    /// Where it is now.
    pub state: State,
    /// When, CLOCK_MONOTONIC nanoseconds.
    pub at_ns: u64,
    /// Who changed it.
    pub by: ChangedBy,
    /// Raw wait status of the init process after its exit, or [`miren_abi::EXIT_CODE_UNKNOWN`].
    pub exit_code: u32,
    /// The init process; 0 while it has none.
    pub tgid: u32,
}

impl Transition {
    /// The change that made a slot what it is.
    pub(crate) fn latest(slot: u32, view: &SlotView) -> Self {
        Self {
            slot,
            generation: view.generation,
            state: view.state,
            at_ns: view.since_ns,
            by: view.changed_by,
            exit_code: match view.changed_by {
                ChangedBy::Kernel => view.exit_code,
                ChangedBy::Control => EXIT_CODE_UNKNOWN,
            },
            tgid: view.tgid,
        }
    }
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
pub struct Events {
    source: Source,
    /// Where each exit goes as well.
    told: broadcast::Sender<Transition>,
}

#[derive(Debug)]
enum Source {
    Ring(AsyncRing),
    Channel(mpsc::Receiver<Transition>),
}

impl Events {
    pub(crate) fn from_ring(ring: Ring, told: broadcast::Sender<Transition>) -> Self {
        let source = Source::Ring(AsyncRing::new(ring));
        Self { source, told }
    }

    pub(crate) fn from_channel(receiver: mpsc::Receiver<Transition>, told: broadcast::Sender<Transition>) -> Self {
        let source = Source::Channel(receiver);
        Self { source, told }
    }

    /// The next exit; `None` when there will be no more. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Transition> {
        let exit = match &mut self.source {
            Source::Ring(ring) => ring.next().await,
            Source::Channel(receiver) => receiver.recv().await,
        }?;
        // Nobody has to listen.
        let _ = self.told.send(exit);
        Some(exit)
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

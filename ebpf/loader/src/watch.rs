//! Decides how an exit is noticed without the kernel's help: a thread waits on a pidfd for each sandbox.

use std::{
    collections::HashMap,
    io,
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
};

use miren_abi::{ChangedBy, EXIT_CODE_UNKNOWN};
use nix::sys::{
    epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
    eventfd::{EfdFlags, EventFd},
};
use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::{events::Transition, process, table::Table};

/// Exits that may wait for control to read them; more are counted as dropped, as in a full ring buffer.
const EVENTS: usize = 4096;
/// The epoll key that means "stop".
const STOP: u64 = 0;

/// The thread, and the processes it watches.
#[derive(Debug)]
pub(crate) struct Watch {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    table: Arc<Table>,
    epoll: Epoll,
    stop: EventFd,
    watched: Mutex<HashMap<u64, Watched>>,
    next_key: AtomicU64,
    exits: mpsc::Sender<Transition>,
    transitions: AtomicU64,
    dropped: AtomicU64,
}

#[derive(Debug)]
struct Watched {
    pidfd: OwnedFd,
    slot: u32,
    generation: u64,
    tgid: u32,
}

impl Watch {
    /// Starts the thread and takes up the processes a table of an earlier daemon names.
    pub(crate) fn start(table: Arc<Table>) -> io::Result<(Self, mpsc::Receiver<Transition>)> {
        let (exits, receiver) = mpsc::channel(EVENTS);
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let stop = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        epoll.add(&stop, EpollEvent::new(EpollFlags::EPOLLIN, STOP))?;
        let shared = Arc::new(Shared {
            table,
            epoll,
            stop,
            watched: Mutex::default(),
            next_key: AtomicU64::new(STOP + 1),
            exits,
            transitions: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        });
        shared.adopt()?;
        let thread = miren_log::thread("miren-exits", {
            let shared = Arc::clone(&shared);
            move || shared.run()
        })?;
        Ok((
            Self {
                shared,
                thread: Some(thread),
            },
            receiver,
        ))
    }

    /// Watches one more process.
    pub(crate) fn add(&self, pidfd: OwnedFd, slot: u32, generation: u64, tgid: u32) -> io::Result<()> {
        self.shared.add(Watched {
            pidfd,
            slot,
            generation,
            tgid,
        })
    }

    /// Exits noticed, and exits that control did not read in time.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (
            self.shared.transitions.load(Ordering::Relaxed),
            self.shared.dropped.load(Ordering::Relaxed),
        )
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Err(error) = self.shared.stop.write(1) {
            tracing::error!(%error, "the thread that watches processes cannot be stopped");
            return;
        }
        if let Some(thread) = self.thread.take() {
            // A panic in the thread was printed there; there is nothing left to stop.
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// The pid alone does not name the process of an earlier daemon's table: it may have been reused meanwhile.
    fn adopt(&self) -> io::Result<()> {
        for slot in 0..self.table.slots().capacity() {
            let Some(cells) = self.table.slots().cells(slot) else {
                break;
            };
            let word = cells.word();
            let tgid = cells.tgid.load(Ordering::Relaxed);
            if !word.state().is_live() || tgid == 0 {
                continue;
            }
            let started = cells.init_started.load(Ordering::Relaxed);
            // Opened before the start time is read, so that both are about the same process.
            match process::open(tgid) {
                Ok(pidfd) if process::started(tgid) == Some(started) => {
                    self.add(Watched {
                        pidfd,
                        slot,
                        generation: word.generation(),
                        tgid,
                    })?;
                }
                _ => self.exited(slot, word.generation(), tgid),
            }
        }
        Ok(())
    }

    fn add(&self, watched: Watched) -> io::Result<()> {
        let key = self.next_key.fetch_add(1, Ordering::Relaxed);
        let mut all = self.watched.lock();
        self.epoll
            .add(&watched.pidfd, EpollEvent::new(EpollFlags::EPOLLIN, key))?;
        all.insert(key, watched);
        Ok(())
    }

    fn run(&self) {
        let mut ready = [EpollEvent::empty(); 64];
        loop {
            let count = match self.epoll.wait(&mut ready, EpollTimeout::NONE) {
                Ok(count) => count,
                Err(nix::Error::EINTR) => continue,
                // Sandboxes that exit would not leave routing.
                Err(error) => panic!("cannot watch processes any more: {error}"),
            };
            for event in &ready[..count] {
                if event.data() == STOP {
                    return;
                }
                // Closing the pidfd takes it out of the epoll set.
                let Some(watched) = self.watched.lock().remove(&event.data()) else {
                    continue;
                };
                self.ended(&watched);
            }
        }
    }

    /// One in whose place another was named does not count.
    fn ended(&self, watched: &Watched) {
        let named = self.table.slots().view(watched.slot);
        if named.generation != watched.generation || named.tgid == watched.tgid {
            self.exited(watched.slot, watched.generation, watched.tgid);
        }
    }

    fn exited(&self, slot: u32, generation: u64, tgid: u32) {
        let Some((state, at_ns)) = self.table.exited(slot, generation, EXIT_CODE_UNKNOWN) else {
            return;
        };
        self.transitions.fetch_add(1, Ordering::Relaxed);
        let by = ChangedBy::Control;
        let transition = Transition {
            slot,
            generation,
            state,
            at_ns,
            by,
            exit_code: EXIT_CODE_UNKNOWN,
            tgid,
        };
        if self.exits.try_send(transition).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

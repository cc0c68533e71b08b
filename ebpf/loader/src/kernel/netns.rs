//! Decides which network namespace is the node's own, and which are those of its sandboxes.

use std::{
    collections::HashMap,
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    sync::atomic::Ordering,
};

use miren_abi::SlotRef;
use nix::{
    sched::{CloneFlags, setns},
    sys::socket::{AddressFamily, SockFlag, SockType, socket},
};
use parking_lot::Mutex;

use super::sys;
use crate::{process, table::Table};

/// The connect hook's knowledge of namespaces, and what has to be taken away when a slot is given back.
#[derive(Debug)]
pub(super) struct Namespaces {
    map: OwnedFd,
    node: u64,
    known: Mutex<HashMap<u32, Known>>,
}

/// An entry of the map.
#[derive(Clone, Copy, Debug)]
struct Known {
    cookie: u64,
    owner: SlotRef,
}

impl Namespaces {
    /// Takes over the map of an earlier daemon. Sandboxes it never heard of, because it was made by a release without this
    /// map, are looked up before any program asks for them.
    pub(super) fn adopt(map: OwnedFd, node: u64, table: &Table) -> io::Result<Self> {
        let namespaces = Self {
            map,
            node,
            known: Mutex::default(),
        };
        namespaces.take_over(table)?;
        for slot in 0..table.slots().capacity() {
            if let Err(error) = namespaces.find(table, slot) {
                tracing::warn!(slot, %error, "the network namespace of a sandbox is not known: it is refused nothing");
            }
        }
        Ok(namespaces)
    }

    /// The namespace the process behind `pidfd` is in is the sandbox's. One that is gone is in none any more.
    pub(super) fn set(&self, pidfd: &OwnedFd, owner: SlotRef) -> io::Result<()> {
        let cookie = match cookie_of(pidfd) {
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Ok(()),
            cookie => cookie?,
        };
        // A process in the node's own namespace is no sandbox to others there.
        if cookie == self.node {
            return Ok(());
        }
        let mut known = self.known.lock();
        sys::map_update(self.map.as_fd(), &cookie.to_ne_bytes(), &owner.to_bytes())?;
        match known.insert(owner.slot, Known { cookie, owner }) {
            Some(old) if old.cookie != cookie => self.delete(old),
            _ => Ok(()),
        }
    }

    /// Forgets the namespace of the slot's last life.
    pub(super) fn forget(&self, slot: u32) -> io::Result<()> {
        match self.known.lock().remove(&slot) {
            Some(known) => self.delete(known),
            None => Ok(()),
        }
    }

    fn delete(&self, known: Known) -> io::Result<()> {
        sys::map_delete_if(self.map.as_fd(), &known.cookie.to_ne_bytes(), &known.owner.to_bytes())
    }

    /// Keeps what is about a present life and removes the rest.
    fn take_over(&self, table: &Table) -> io::Result<()> {
        let mut known = self.known.lock();
        for key in sys::map_keys::<8>(self.map.as_fd())? {
            let mut value = [0; SlotRef::BYTES];
            if !sys::map_lookup(self.map.as_fd(), &key, &mut value)? {
                continue;
            }
            let (cookie, owner) = (u64::from_ne_bytes(key), SlotRef::from_bytes(value));
            let entry = Known { cookie, owner };
            let is_current = table.slots().word(owner.slot).generation() == owner.generation;
            if is_current && cookie != self.node && !known.contains_key(&owner.slot) {
                known.insert(owner.slot, entry);
            } else {
                self.delete(entry)?;
            }
        }
        Ok(())
    }

    fn find(&self, table: &Table, slot: u32) -> io::Result<()> {
        let Some(cells) = table.slots().cells(slot) else {
            return Ok(());
        };
        let (word, tgid) = (cells.word(), cells.tgid.load(Ordering::Relaxed));
        if !word.state().is_live() || tgid == 0 || self.known.lock().contains_key(&slot) {
            return Ok(());
        }
        let started = cells.init_started.load(Ordering::Relaxed);
        // Opened before the start time is read, so that both are about the same process.
        match process::open(tgid) {
            Ok(pidfd) if process::started(tgid) == Some(started) => {
                self.set(&pidfd, SlotRef::new(slot, word.generation()))
            }
            // It has ended, and its pid may be another's.
            _ => Ok(()),
        }
    }
}

/// What the kernel calls the network namespace of this thread.
pub(super) fn own_cookie() -> io::Result<u64> {
    let any = socket(AddressFamily::Unix, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    let (mut cookie, mut bytes) = (
        0_u64,
        libc::socklen_t::try_from(size_of::<u64>()).map_err(io::Error::other)?,
    );
    // SAFETY: the value and its length are ours, and the kernel writes no more than that.
    let failed = unsafe {
        libc::getsockopt(
            any.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut bytes,
        )
    };
    if failed != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(cookie)
}

/// ESRCH: the process has left its namespaces, as it does when it ends.
fn cookie_of(pidfd: &OwnedFd) -> io::Result<u64> {
    std::thread::scope(|scope| {
        // A thread that changed its namespace is never used again: it ends with its work.
        let inside = std::thread::Builder::new()
            .name("miren-netns".into())
            .spawn_scoped(scope, || {
                setns(pidfd, CloneFlags::CLONE_NEWNET)?;
                own_cookie()
            })?;
        inside
            .join()
            .map_err(|_| io::Error::other("the thread that works in the namespace panicked"))?
    })
}

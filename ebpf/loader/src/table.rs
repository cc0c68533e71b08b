//! Decides how slots are read and changed in memory that the kernel or another process changes too.

use std::{
    io,
    mem::offset_of,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering, fence},
};

use miren_abi::{ChangedBy, Slot, State, Word};

use crate::{
    error::SlotError,
    identity::TableId,
    mapping::{Mapping, monotonic_ns},
};

pub(crate) mod file;
#[cfg(test)]
mod tests;

/// What a slot says at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotView {
    /// Which life of the slot.
    pub generation: u64,
    /// Where that life is.
    pub state: State,
    /// When it got there, CLOCK_MONOTONIC nanoseconds; 0 for a slot that was never used.
    pub since_ns: u64,
    /// Who moved it there.
    pub changed_by: ChangedBy,
    /// Raw wait status of the init process, or [`miren_abi::EXIT_CODE_UNKNOWN`]; 0 while it lives.
    pub exit_code: u32,
    /// Thread group id of the init process; 0 while unknown.
    pub tgid: u32,
    /// Where it listens; `None` for a slot that was never used.
    pub endpoint: Option<SocketAddr>,
}

/// A [`Slot`] whose fields may change under the reader.
#[repr(C)]
pub(crate) struct Cells {
    pub(crate) word: AtomicU64,
    pub(crate) since_ns: AtomicU64,
    pub(crate) ended_ns: AtomicU64,
    pub(crate) init_started: AtomicU64,
    pub(crate) exit_code: AtomicU32,
    pub(crate) tgid: AtomicU32,
    address: [AtomicU64; 2],
    port: AtomicU16,
    ended_by: AtomicU8,
    reserved: [AtomicU8; 5],
}

const _: () = {
    assert!(size_of::<Cells>() == Slot::BYTES);
    assert!(offset_of!(Cells, word) == offset_of!(Slot, word));
    assert!(offset_of!(Cells, since_ns) == offset_of!(Slot, since_ns));
    assert!(offset_of!(Cells, ended_ns) == offset_of!(Slot, ended_ns));
    assert!(offset_of!(Cells, init_started) == offset_of!(Slot, init_started));
    assert!(offset_of!(Cells, exit_code) == offset_of!(Slot, exit_code));
    assert!(offset_of!(Cells, tgid) == offset_of!(Slot, tgid));
    assert!(offset_of!(Cells, address) == offset_of!(Slot, address));
    assert!(offset_of!(Cells, port) == offset_of!(Slot, port));
    assert!(offset_of!(Cells, ended_by) == offset_of!(Slot, ended_by));
    assert!(offset_of!(Cells, reserved) == offset_of!(Slot, reserved));
};

impl Cells {
    #[inline]
    pub(crate) fn word(&self) -> Word {
        Word::from_bits(self.word.load(Ordering::Acquire))
    }

    /// Changes the word as `next` says, or returns the word that `next` refused.
    fn change(&self, next: impl Fn(Word) -> Option<Word>) -> Result<(Word, Word), Word> {
        let mut found = self.word();
        loop {
            let wanted = next(found).ok_or(found)?;
            match self
                .word
                .compare_exchange(found.bits(), wanted.bits(), Ordering::SeqCst, Ordering::Acquire)
            {
                Ok(_) => return Ok((found, wanted)),
                Err(bits) => found = Word::from_bits(bits),
            }
        }
    }

    fn address(&self) -> [u8; 16] {
        let [high, low] = [0, 1].map(|half: usize| self.address[half].load(Ordering::Relaxed).to_ne_bytes());
        let mut address = [0; 16];
        address[..8].copy_from_slice(&high);
        address[8..].copy_from_slice(&low);
        address
    }

    fn set_address(&self, address: [u8; 16]) {
        let (high, low) = address.split_at(8);
        for (half, bytes) in [high, low].into_iter().enumerate() {
            let value = bytes.try_into().map_or(0, u64::from_ne_bytes);
            self.address[half].store(value, Ordering::Relaxed);
        }
    }

    fn read(&self, word: Word) -> SlotView {
        let ended_ns = self.ended_ns.load(Ordering::Relaxed);
        let by_exit = word.state().is_ended() && ended_ns != 0;
        let port = self.port.load(Ordering::Relaxed);
        SlotView {
            generation: word.generation(),
            state: word.state(),
            since_ns: if by_exit {
                ended_ns
            } else {
                self.since_ns.load(Ordering::Relaxed)
            },
            changed_by: match by_exit {
                true => ChangedBy::from_byte(self.ended_by.load(Ordering::Relaxed)),
                false => ChangedBy::Control,
            },
            exit_code: self.exit_code.load(Ordering::Relaxed),
            tgid: self.tgid.load(Ordering::Relaxed),
            endpoint: (port != 0).then(|| endpoint(self.address(), port)),
        }
    }

    fn view(&self) -> SlotView {
        let mut word = self.word();
        loop {
            let view = self.read(word);
            fence(Ordering::Acquire);
            let now = self.word();
            if now == word {
                return view;
            }
            word = now;
        }
    }
}

/// The slots of a table, for reading.
#[derive(Debug)]
pub(crate) struct Slots {
    id: TableId,
    mapping: Mapping,
    offset: usize,
    capacity: u32,
}

impl Slots {
    /// The `capacity` slots of table `id`, which begin `offset` bytes into the mapping.
    pub(crate) fn new(id: TableId, mapping: Mapping, offset: usize, capacity: u32) -> io::Result<Self> {
        let needed = offset + capacity as usize * Slot::BYTES;
        if mapping.bytes() < needed || !offset.is_multiple_of(Slot::BYTES) {
            return Err(io::Error::other(format!(
                "the table is {} bytes long, not {needed}",
                mapping.bytes()
            )));
        }
        Ok(Self {
            id,
            mapping,
            offset,
            capacity,
        })
    }

    pub(crate) fn id(&self) -> &TableId {
        &self.id
    }

    pub(crate) fn capacity(&self) -> u32 {
        self.capacity
    }

    #[inline]
    pub(crate) fn cells(&self, slot: u32) -> Option<&Cells> {
        if slot >= self.capacity {
            return None;
        }
        // SAFETY: `new` checked that the mapping holds `capacity` aligned slots, `Cells` has the layout of a slot, all its
        // fields are atomic, and the mapping lives as long as `self`.
        Some(unsafe {
            &*self
                .mapping
                .start()
                .add(self.offset + slot as usize * Slot::BYTES)
                .cast::<Cells>()
        })
    }

    #[inline]
    pub(crate) fn word(&self, slot: u32) -> Word {
        self.cells(slot).map_or(Word::default(), Cells::word)
    }

    pub(crate) fn view(&self, slot: u32) -> SlotView {
        match self.cells(slot) {
            Some(cells) => cells.view(),
            None => SlotView {
                generation: 0,
                state: State::Free,
                since_ns: 0,
                changed_by: ChangedBy::Control,
                exit_code: 0,
                tgid: 0,
                endpoint: None,
            },
        }
    }
}

/// The slots of a table, for control: every change is a compare-and-swap of the word.
#[derive(Debug)]
pub(crate) struct Table(Slots);

impl Table {
    /// `slots` must be mapped writable.
    pub(crate) fn new(slots: Slots) -> Self {
        Self(slots)
    }

    pub(crate) fn slots(&self) -> &Slots {
        &self.0
    }

    pub(crate) fn cells(&self, slot: u32) -> Result<&Cells, SlotError> {
        self.0.cells(slot).ok_or(SlotError::NoSuchSlot {
            slot,
            capacity: self.0.capacity,
        })
    }

    /// FREE, STOPPED or DEAD → PENDING of the next generation, and when. The caller holds the writer lock.
    pub(crate) fn begin(&self, slot: u32, endpoint: SocketAddr) -> Result<(u64, u64), SlotError> {
        let cells = self.cells(slot)?;
        let found = cells.word();
        // Nobody else writes these while the slot is not live, and a reader that sees the new word sees them.
        let next = found.begin().ok_or(SlotError::Refused { found })?;
        for field in [&cells.ended_ns, &cells.init_started] {
            field.store(0, Ordering::Relaxed);
        }
        for field in [&cells.exit_code, &cells.tgid] {
            field.store(0, Ordering::Relaxed);
        }
        cells.set_address(address_key(endpoint.ip()));
        cells.port.store(endpoint.port(), Ordering::Relaxed);
        let at_ns = monotonic_ns();
        cells.since_ns.store(at_ns, Ordering::Relaxed);
        cells
            .change(|word| (word == found).then_some(next))
            .map_err(|found| SlotError::Refused { found })?;
        Ok((next.generation(), at_ns))
    }

    /// Remembers the init process of a live generation.
    pub(crate) fn set_init(&self, slot: u32, generation: u64, tgid: u32, started: u64) -> Result<(), SlotError> {
        let cells = self.cells(slot)?;
        let found = cells.word();
        if !found.state_of(generation).is_some_and(State::is_live) {
            return Err(SlotError::Refused { found });
        }
        cells.init_started.store(started, Ordering::Relaxed);
        cells.tgid.store(tgid, Ordering::Relaxed);
        Ok(())
    }

    /// Moves a generation down; says where it was, and when.
    pub(crate) fn advance(&self, slot: u32, generation: u64, to: State) -> Result<(State, u64), SlotError> {
        let cells = self.cells(slot)?;
        let (from, _) = cells
            .change(|word| word.advance(generation, to))
            .map_err(|found| SlotError::Refused { found })?;
        let at_ns = monotonic_ns();
        cells.since_ns.store(at_ns, Ordering::Relaxed);
        Ok((from.state(), at_ns))
    }

    /// An ended generation gives its slot back; says when.
    pub(crate) fn release(&self, slot: u32, generation: u64) -> Result<u64, SlotError> {
        let cells = self.cells(slot)?;
        cells
            .change(|word| word.release(generation))
            .map_err(|found| SlotError::Refused { found })?;
        let at_ns = monotonic_ns();
        cells.since_ns.store(at_ns, Ordering::Relaxed);
        Ok(at_ns)
    }

    /// Whether `generation` ended and can be released.
    pub(crate) fn check_ended(&self, slot: u32, generation: u64) -> Result<(), SlotError> {
        let found = self.cells(slot)?.word();
        found.release(generation).map(drop).ok_or(SlotError::Refused { found })
    }

    /// Control noticed the exit itself: what the exit hook does, in user space. `None` if somebody was faster.
    pub(crate) fn exited(&self, slot: u32, generation: u64, exit_code: u32) -> Option<(State, u64)> {
        let cells = self.0.cells(slot)?;
        cells.word().exited(generation)?;
        let now = monotonic_ns();
        cells.exit_code.store(exit_code, Ordering::Relaxed);
        cells.ended_by.store(ChangedBy::Control as u8, Ordering::Relaxed);
        cells.ended_ns.store(now, Ordering::Relaxed);
        let (_, ended) = cells.change(|word| word.exited(generation)).ok()?;
        Some((ended.state(), now))
    }
}

/// The key of an address in the kernel's map.
pub(crate) fn address_key(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => miren_abi::mapped_address(address.octets()),
        IpAddr::V6(address) => address.octets(),
    }
}

fn endpoint(key: [u8; 16], port: u16) -> SocketAddr {
    SocketAddr::new(Ipv6Addr::from(key).to_canonical(), port)
}

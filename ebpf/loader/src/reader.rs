//! Decides how a process that may not write the table reads it: one load, no privilege.

use miren_abi::{State, Word};

use crate::{
    config::SlotSource,
    error::OpenError,
    identity::TableId,
    kernel,
    table::{Slots, file},
};

/// The proxy's view of the slot table.
///
/// Open it before dropping privileges. Nothing but a read-only mapping is kept: no descriptor, no way to write.
#[derive(Debug)]
pub struct SlotReader {
    slots: Slots,
}

impl SlotReader {
    /// Maps the table and closes every descriptor it needed for that.
    ///
    /// # Errors
    /// When there is no table, when another release made it, or when this process may not open it.
    pub fn open(source: &SlotSource) -> Result<Self, OpenError> {
        let slots = match source {
            SlotSource::Pinned(pin_dir) => kernel::open_read_only(pin_dir)?,
            SlotSource::File(path) => file::open_read_only(path)?,
        };
        Ok(Self { slots })
    }

    /// Which table it is.
    pub fn table(&self) -> &TableId {
        self.slots.id()
    }

    /// Number of slots.
    pub fn capacity(&self) -> u32 {
        self.slots.capacity()
    }

    /// The word of a slot; FREE of generation 0 for a slot that does not exist.
    #[inline]
    pub fn word(&self, slot: u32) -> Word {
        self.slots.word(slot)
    }

    /// Whether a request may be sent to this generation now.
    #[inline]
    pub fn is_running(&self, slot: u32, generation: u64) -> bool {
        self.word(slot) == Word::new(generation, State::Running)
    }

    /// Where this generation is; `None` when the slot is about another one.
    #[inline]
    pub fn state(&self, slot: u32, generation: u64) -> Option<State> {
        self.word(slot).state_of(generation)
    }
}

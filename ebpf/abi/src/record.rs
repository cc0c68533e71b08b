//! Decides the layout of every record that crosses between the kernel and user space.

#[cfg(test)]
mod tests;

/// What a record may be made of: integers and byte arrays, for which every bit pattern is a value.
///
/// # Safety
/// An implementor has no padding and no invalid bit pattern.
pub unsafe trait Plain: Copy {}

// SAFETY: integers and arrays of bytes have neither padding nor invalid bit patterns.
unsafe impl Plain for u8 {}
// SAFETY: as above.
unsafe impl Plain for u16 {}
// SAFETY: as above.
unsafe impl Plain for u32 {}
// SAFETY: as above.
unsafe impl Plain for u64 {}
// SAFETY: as above.
unsafe impl<const N: usize> Plain for [u8; N] {}

/// Declares a record and refuses, at compile time, one with padding or with a field that is not [`Plain`].
macro_rules! record {
    ($(#[$attribute:meta])* $name:ident, $size:literal bytes { $($(#[$about:meta])* $field:ident: $kind:ty,)+ }) => {
        $(#[$attribute])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(C)]
        pub struct $name {
            $($(#[$about])* pub $field: $kind,)+
        }

        const _: () = {
            const fn only_plain_fields<T: Plain>() {}
            $(only_plain_fields::<$kind>();)+
            assert!(size_of::<$name>() == $size, "the record is not as long as declared");
            assert!(0 $(+ size_of::<$kind>())+ == $size, "the record has padding: order its fields by size");
        };

        // SAFETY: every field is `Plain` and together they fill the record, so it has no padding.
        unsafe impl Plain for $name {}

        impl $name {
            /// Length in bytes.
            pub const BYTES: usize = $size;

            /// The record as it is in a map.
            pub fn to_bytes(self) -> [u8; $size] {
                // SAFETY: same size, and a `Plain` record has no padding.
                unsafe { core::mem::transmute(self) }
            }

            /// The record behind the bytes of a map value.
            pub fn from_bytes(bytes: [u8; $size]) -> Self {
                // SAFETY: same size, and every bit pattern is a value of a `Plain` record.
                unsafe { core::mem::transmute(bytes) }
            }
        }
    };
}

record! {
    /// One sandbox slot: a cache line of its own. Each field has one writer.
    Slot, 64 bytes {
        /// A [`crate::Word`]; control and the exit hook change it by compare-and-swap only.
        word: u64,
        /// When control last changed the word, CLOCK_MONOTONIC nanoseconds.
        since_ns: u64,
        /// When the init process exited, CLOCK_MONOTONIC nanoseconds; 0 while it has not. Written before the word.
        ended_ns: u64,
        /// Start time of the init process in clock ticks since boot (field 22 of `/proc/PID/stat`): tells a reused pid.
        init_started: u64,
        /// Raw wait status of the init process, or [`crate::EXIT_CODE_UNKNOWN`]. Written before the word.
        exit_code: u32,
        /// Thread group id of the init process as the host sees it; 0 while unknown.
        tgid: u32,
        /// Address the sandbox listens on, IPv4 mapped into IPv6.
        address: [u8; 16],
        /// Port it listens on, host byte order.
        port: u16,
        /// Who noticed the exit, a [`crate::ChangedBy`]. Written before the word.
        ended_by: u8,
        /// Zero.
        reserved: [u8; 5],
    }
}

record! {
    /// What an address or a pid stands for: one generation of one slot.
    SlotRef, 16 bytes {
        /// The generation that owns the address or the pid.
        generation: u64,
        /// Index into `SLOTS`.
        slot: u32,
        /// Zero.
        reserved: u32,
    }
}

record! {
    /// One exit, as the ring buffers carry it.
    Event, 32 bytes {
        /// The [`crate::Word`] after the change.
        word: u64,
        /// When, CLOCK_MONOTONIC nanoseconds.
        at_ns: u64,
        /// Index into `SLOTS`.
        slot: u32,
        /// Raw wait status.
        exit_code: u32,
        /// Thread group id of the process that exited.
        tgid: u32,
        /// Who noticed, a [`crate::ChangedBy`].
        by: u8,
        /// Zero.
        reserved: [u8; 3],
    }
}

record! {
    /// What a table says about itself, so that a daemon never adopts one it cannot read.
    AbiRecord, 56 bytes {
        /// [`crate::MAGIC`].
        magic: u64,
        /// [`crate::VERSION`].
        version: u32,
        /// Bytes of a [`Slot`].
        slot_bytes: u32,
        /// Bytes of a [`SlotRef`].
        ref_bytes: u32,
        /// Bytes of an [`Event`].
        event_bytes: u32,
        /// Number of slots.
        capacity: u32,
        /// Number of counters.
        stats: u32,
        /// Hash of the object and of every constant the loader put into it. The kernel's program tag leaves constants out.
        config_hash: u64,
        /// The boot the table belongs to (`/proc/sys/kernel/random/boot_id`): pids and times of another one mean nothing.
        boot_id: [u8; 16],
    }
}

impl Slot {
    /// A slot nobody ever used.
    pub const FREE: Self = Self {
        word: 0,
        since_ns: 0,
        ended_ns: 0,
        init_started: 0,
        exit_code: 0,
        tgid: 0,
        address: [0; 16],
        port: 0,
        ended_by: 0,
        reserved: [0; 5],
    };
}

impl SlotRef {
    /// The reference to `generation` of `slot`.
    #[inline(always)]
    pub const fn new(slot: u32, generation: u64) -> Self {
        Self {
            generation,
            slot,
            reserved: 0,
        }
    }
}

impl AbiRecord {
    /// The record of a table this build makes.
    pub const fn new(capacity: u32, config_hash: u64, boot_id: [u8; 16]) -> Self {
        Self {
            magic: crate::MAGIC,
            version: crate::VERSION,
            slot_bytes: Slot::BYTES as u32,
            ref_bytes: SlotRef::BYTES as u32,
            event_bytes: Event::BYTES as u32,
            capacity,
            stats: crate::Stat::COUNT,
            config_hash,
            boot_id,
        }
    }

    /// Whether this build reads and writes the tables behind `found`: the layout counts, not the hash or the boot.
    pub const fn fits(&self, found: &Self) -> bool {
        self.magic == found.magic
            && self.version == found.version
            && self.slot_bytes == found.slot_bytes
            && self.ref_bytes == found.ref_bytes
            && self.event_bytes == found.event_bytes
            && self.stats == found.stats
    }
}

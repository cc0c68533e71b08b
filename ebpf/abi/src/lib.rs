//! Decides the byte contract between the kernel programs and everything that maps their tables.
//!
//! No dependencies and no `std`: the same source is compiled for the kernel and for the host.
#![no_std]

mod record;
mod state;
mod word;

pub use record::{AbiRecord, Event, Plain, Slot, SlotRef};
pub use state::State;
pub use word::Word;

/// Version of every record in this crate. A daemon refuses pins that carry another one.
///
/// It changes when a record does. A map that is new to a release is none of theirs: whoever adopts a table that lacks it
/// makes it and fills it from the slots, and an older release leaves it alone.
pub const VERSION: u32 = 1;

/// First eight bytes of an [`AbiRecord`]: `"MIRENFP\0"` read as a little-endian number.
pub const MAGIC: u64 = u64::from_le_bytes(*b"MIRENFP\0");

/// Exit status when nobody could read the real one (a process that was gone before it was watched).
pub const EXIT_CODE_UNKNOWN: u32 = 0xffff_ffff;

/// Bytes in front of the first slot when the table is a file: one page, which holds the [`AbiRecord`].
pub const FILE_HEADER_BYTES: usize = 4096;

/// Bytes of each of the two ring buffers: about 6,500 events before one is counted as dropped.
pub const RING_BYTES: u32 = 256 * 1024;

/// Names of the maps, which are also the names of their pins.
pub mod maps {
    /// Array of [`crate::Slot`], mapped into control (writable) and proxies (read-only).
    pub const SLOTS: &str = "SLOTS";
    /// 16-byte address (IPv4 mapped into IPv6) → [`crate::SlotRef`].
    pub const BY_ADDR: &str = "SANDBOX_BY_ADDR";
    /// Thread group id of a sandbox's init, as the host sees it → [`crate::SlotRef`].
    pub const BY_PID: &str = "SANDBOX_BY_PID";
    /// Cookie of the network namespace a sandbox is in → [`crate::SlotRef`]. The kernel gives no cookie twice in a boot.
    pub const BY_NETNS: &str = "SANDBOX_BY_NETNS";
    /// Ring buffer of [`crate::Event`], read by control.
    pub const EVENTS: &str = "EVENTS";
    /// Ring buffer of [`crate::Event`], read by the proxy as a hint.
    pub const EVENTS_PROXY: &str = "EVENTS_PROXY";
    /// Per-CPU counters, one for each [`crate::Stat`].
    pub const STATS: &str = "STATS";
    /// One [`crate::AbiRecord`], written when the other maps are complete.
    pub const ABI: &str = "ABI";
}

/// Who moved a slot to the state it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ChangedBy {
    /// The control daemon.
    Control = 0,
    /// The exit hook in the kernel.
    Kernel = 1,
}

impl ChangedBy {
    /// The writer behind a byte of a record; a byte nobody writes reads as control.
    pub const fn from_byte(byte: u8) -> Self {
        match byte {
            1 => Self::Kernel,
            _ => Self::Control,
        }
    }
}

/// Index of a counter in the `STATS` map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Stat {
    /// Words the exit hook moved to STOPPED or DEAD.
    Transitions = 0,
    /// Connections the connect hook refused.
    RefusedConnects = 1,
    /// TCP segments the packet hook answered with RST, first segments of new connections among them.
    ResetPackets = 2,
    /// Packets to an ended sandbox that cannot be answered with RST (not TCP, RST itself, IP options) and were dropped.
    DroppedPackets = 3,
    /// Events that did not fit into `EVENTS`.
    DroppedEvents = 4,
    /// Events that did not fit into `EVENTS_PROXY`.
    DroppedProxyEvents = 5,
    /// Times the exit hook found the word changed under it and tried again.
    ExitRetries = 6,
    /// Exits the hook gave up on after its last try; control's own watch has to notice them.
    LostExits = 7,
}

impl Stat {
    /// Number of counters.
    pub const COUNT: u32 = 8;
}

/// The key of an IPv4 address in the address map: `::ffff:a.b.c.d`.
#[inline(always)]
pub const fn mapped_address(v4: [u8; 4]) -> [u8; 16] {
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, v4[0], v4[1], v4[2], v4[3]]
}

//! Decides which maps the programs share and how they look at them.

use aya_ebpf::{
    macros::map,
    maps::{Array, HashMap, PerCpuArray, RingBuf},
};
use miren_abi::{Event, RING_BYTES, Slot, SlotRef, Stat, Word};

mod connect;
mod exit;
mod packet;

/// `BPF_F_MMAPABLE`: user space maps the array.
const MMAPABLE: u32 = 1024;
/// The loader puts the configured capacity in the place of this.
const CAPACITY: u32 = 4096;

#[map]
static SLOTS: Array<Slot> = Array::with_max_entries(CAPACITY, MMAPABLE);
#[map]
static SANDBOX_BY_ADDR: HashMap<[u8; 16], SlotRef> = HashMap::with_max_entries(CAPACITY, 0);
#[map]
static SANDBOX_BY_PID: HashMap<u32, SlotRef> = HashMap::with_max_entries(CAPACITY, 0);
#[map]
static SANDBOX_BY_NETNS: HashMap<u64, SlotRef> = HashMap::with_max_entries(CAPACITY, 0);
#[map]
static EVENTS: RingBuf = RingBuf::with_byte_size(RING_BYTES, 0);
#[map]
static EVENTS_PROXY: RingBuf = RingBuf::with_byte_size(RING_BYTES, 0);
#[map]
static STATS: PerCpuArray<u64> = PerCpuArray::with_max_entries(Stat::COUNT, 0);

/// Counts on this CPU.
#[inline(always)]
fn count(stat: Stat) {
    if let Some(counter) = STATS.get_ptr_mut(stat as u32) {
        // SAFETY: the map's own memory, and no other program runs on this CPU meanwhile that counts the same.
        unsafe { *counter += 1 }
    }
}

/// The word of the slot that `address` belongs to, and whose it was when it was published; `None` for an unknown one.
#[inline(always)]
fn owner_of(address: &[u8; 16]) -> Option<(Word, SlotRef)> {
    // SAFETY: a copy is taken at once; an entry that is replaced meanwhile is whole in either version.
    let owner = unsafe { SANDBOX_BY_ADDR.get(address) }.copied()?;
    let slot = SLOTS.get_ptr(owner.slot)?;
    // SAFETY: the map's own memory; an aligned word is read in one piece.
    let bits = unsafe { core::ptr::read_volatile(&raw const (*slot).word) };
    Some((Word::from_bits(bits), owner))
}

/// Says one event to both rings. A full ring is counted and never waited for.
#[inline(always)]
fn announce(event: Event) {
    for (ring, dropped) in [
        (&EVENTS, Stat::DroppedEvents),
        (&EVENTS_PROXY, Stat::DroppedProxyEvents),
    ] {
        match ring.reserve::<Event>(0) {
            Some(mut place) => {
                place.write(event);
                place.submit(0);
            }
            None => count(dropped),
        }
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// The kernel lends its helpers to programs under a licence compatible with its own.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

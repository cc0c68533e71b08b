//! Decides what the end of a sandbox's init process does to its slot.

use core::{
    ffi::c_void,
    intrinsics::{AtomicOrdering::SeqCst, atomic_cxchg},
    mem::MaybeUninit,
    ptr::read_volatile,
};

use aya_ebpf::{
    helpers::generated::{bpf_get_current_pid_tgid, bpf_ktime_get_ns, bpf_probe_read_kernel},
    macros::raw_tracepoint,
    programs::RawTracePointContext,
};
use miren_abi::{ChangedBy, EXIT_CODE_UNKNOWN, Event, Slot, SlotRef, Stat, Word};

use super::{SANDBOX_BY_PID, SLOTS, announce, count};

/// `offsetof(struct task_struct, signal)` of the running kernel; the loader fills it in.
#[unsafe(no_mangle)]
static TASK_SIGNAL: u32 = 0;
/// `offsetof(struct task_struct, exit_code)`.
#[unsafe(no_mangle)]
static TASK_EXIT_CODE: u32 = 0;
/// `offsetof(struct signal_struct, live)`: threads of the group that have not exited.
#[unsafe(no_mangle)]
static SIGNAL_LIVE: u32 = 0;
/// `offsetof(struct signal_struct, flags)`.
#[unsafe(no_mangle)]
static SIGNAL_FLAGS: u32 = 0;
/// `offsetof(struct signal_struct, group_exit_code)`.
#[unsafe(no_mangle)]
static SIGNAL_GROUP_EXIT_CODE: u32 = 0;

/// `SIGNAL_GROUP_EXIT` of the kernel's `linux/sched/signal.h`: the group ends as a whole, with a status of its own.
const GROUP_EXIT: u32 = 4;

/// Each failure needs a change by control at the same instant, and control changes a word once per transition.
const TRIES: u32 = 32;

/// Runs for every thread that exits, on the whole machine, before it closes its files; nearly all leave at the lookup.
#[raw_tracepoint(tracepoint = "sched_process_exit")]
fn exit_hook(ctx: RawTracePointContext) -> i32 {
    // SAFETY: no arguments.
    let tgid = (unsafe { bpf_get_current_pid_tgid() } >> 32) as u32;
    // SAFETY: a copy is taken at once.
    let Some(owner) = unsafe { SANDBOX_BY_PID.get(&tgid) }.copied() else {
        return 0;
    };
    let task = ctx.arg::<u64>(0) as usize;
    let Some(signal) = read_field::<usize>(task, &TASK_SIGNAL) else {
        return 0;
    };
    // The leader of a group may exit first, and a group ends only with its last thread.
    if read_field::<i32>(signal, &SIGNAL_LIVE) != Some(0) {
        return 0;
    }
    end(&owner, tgid, status(task, signal));
    forget(tgid, &owner);
    0
}

/// What the parent will be told. The thread that is last may have been on its way out by itself, with a status of its own,
/// when the group was ended.
#[inline(always)]
fn status(task: usize, signal: usize) -> u32 {
    let found = match read_field::<u32>(signal, &SIGNAL_FLAGS) {
        Some(flags) if flags & GROUP_EXIT != 0 => read_field(signal, &SIGNAL_GROUP_EXIT_CODE),
        Some(_) => read_field(task, &TASK_EXIT_CODE),
        None => None,
    };
    found.unwrap_or(EXIT_CODE_UNKNOWN)
}

#[inline(always)]
fn end(owner: &SlotRef, tgid: u32, exit_code: u32) {
    let Some(slot) = SLOTS.get_ptr_mut(owner.slot) else {
        return;
    };
    // SAFETY: no arguments.
    let at_ns = unsafe { bpf_ktime_get_ns() };
    for _ in 0..TRIES {
        // SAFETY: the map's own memory; an aligned word is read in one piece.
        let found = Word::from_bits(unsafe { read_volatile(&raw const (*slot).word) });
        let Some(ended) = found.exited(owner.generation) else {
            return;
        };
        if swap(slot, found, ended, at_ns, exit_code) {
            count(Stat::Transitions);
            let by = ChangedBy::Kernel as u8;
            announce(Event {
                word: ended.bits(),
                at_ns,
                slot: owner.slot,
                exit_code,
                tgid,
                by,
                reserved: [0; 3],
            });
            return;
        }
        count(Stat::ExitRetries);
    }
    count(Stat::LostExits);
}

/// Time and code go first: whoever sees the new word sees them too, for the exchange is a full barrier.
#[inline(always)]
fn swap(slot: *mut Slot, found: Word, ended: Word, at_ns: u64, exit_code: u32) -> bool {
    // SAFETY: the map's own memory. These fields are the exit's alone, and a process exits once.
    unsafe {
        (*slot).ended_ns = at_ns;
        (*slot).exit_code = exit_code;
        (*slot).ended_by = ChangedBy::Kernel as u8;
        atomic_cxchg::<u64, { SeqCst }, { SeqCst }>(&raw mut (*slot).word, found.bits(), ended.bits()).1
    }
}

/// The pid may be given to another process from now on. An entry that control made for another life stays.
#[inline(always)]
fn forget(tgid: u32, owner: &SlotRef) {
    // SAFETY: compared at once.
    if let Some(entry) = unsafe { SANDBOX_BY_PID.get(&tgid) }
        && entry.generation == owner.generation
        && entry.slot == owner.slot
    {
        // Only fails if it is gone already.
        let _ = SANDBOX_BY_PID.remove(&tgid);
    }
}

/// A field of a kernel structure, at an offset the loader filled in.
#[inline(always)]
fn read_field<T: Copy>(structure: usize, offset: &'static u32) -> Option<T> {
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: the constant is read as it is in memory, not as the compiler knows it. The helper writes the whole value
    // or fails, and checks the address itself.
    unsafe {
        let address = structure.wrapping_add(read_volatile(offset) as usize);
        let failed = bpf_probe_read_kernel(
            value.as_mut_ptr().cast(),
            size_of::<T>() as u32,
            address as *const c_void,
        );
        if failed == 0 { Some(value.assume_init()) } else { None }
    }
}

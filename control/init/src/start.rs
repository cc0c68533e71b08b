//! Decides how the program begins where there is no C library to do it, and what stands in for the parts of one that the compiler counts on.

use crate::{Texts, run, system};
use core::arch::global_asm;

/// What a program that has gone wrong ends with, as `abort` would have it seen.
const WRONG: i32 = 134;

#[cfg(target_arch = "x86_64")]
global_asm!(
    ".globl _start",
    "_start:",
    "xor ebp, ebp",
    "mov rdi, rsp",
    "and rsp, -16",
    "call {begin}",
    "ud2",
    begin = sym begin,
);

#[cfg(target_arch = "aarch64")]
global_asm!(
    ".globl _start",
    "_start:",
    "mov x29, #0",
    "mov x30, #0",
    "mov x0, sp",
    "bl {begin}",
    "brk #1",
    begin = sym begin,
);

/// # Safety
/// `stack` is as the kernel hands it to a program: a number, as many texts, a null; the environment, a null.
unsafe extern "C" fn begin(stack: *mut usize) -> ! {
    // SAFETY: promised by the caller.
    unsafe {
        let count = *stack;
        let arguments: Texts = stack.add(1).cast();
        run(count, arguments, arguments.add(count + 1))
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    system::exit(WRONG)
}

/// What the compiler calls where it copies, fills, compares and measures memory. Written byte by byte and volatile: it would find itself in
/// anything else.
mod memory {
    /// # Safety
    /// As of the C library.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
        for at in 0..count {
            // SAFETY: both have so many bytes.
            unsafe { to.add(at).write_volatile(from.add(at).read()) };
        }
        to
    }

    /// # Safety
    /// As of the C library.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn memset(to: *mut u8, byte: i32, count: usize) -> *mut u8 {
        for at in 0..count {
            // SAFETY: it has so many bytes.
            unsafe { to.add(at).write_volatile(byte as u8) };
        }
        to
    }

    /// # Safety
    /// As of the C library.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn memcmp(one: *const u8, other: *const u8, count: usize) -> i32 {
        for at in 0..count {
            // SAFETY: both have so many bytes.
            let (a, b) = unsafe { (one.add(at).read_volatile(), other.add(at).read_volatile()) };
            if a != b {
                return i32::from(a) - i32::from(b);
            }
        }
        0
    }

    /// # Safety
    /// As of the C library.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn bcmp(one: *const u8, other: *const u8, count: usize) -> i32 {
        // SAFETY: promised by the caller.
        unsafe { memcmp(one, other, count) }
    }

    /// # Safety
    /// As of the C library.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn strlen(text: *const u8) -> usize {
        let mut length = 0;
        // SAFETY: a text has a zero.
        while unsafe { text.add(length).read_volatile() } != 0 {
            length += 1;
        }
        length
    }
}

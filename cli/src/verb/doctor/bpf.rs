//! Whether the kernel takes a program for itself from this process: asked by giving it the smallest there is.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

/// `BPF_PROG_LOAD` and `BPF_PROG_TYPE_SOCKET_FILTER` (linux/bpf.h): needs nothing to be attached to.
const PROG_LOAD: libc::c_int = 5;
const SOCKET_FILTER: u32 = 1;
/// `r0 = 0`, then `exit`.
const PROGRAM: [u64; 2] = [0x0000_0000_0000_00b7, 0x0000_0000_0000_0095];
const LICENSE: &[u8; 4] = b"GPL\0";

/// The beginning of `union bpf_attr` as `BPF_PROG_LOAD` has it.
#[repr(C)]
#[derive(Default)]
struct Load {
    kind: u32,
    instructions: u32,
    program: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
}

/// Loads a program and lets go of it at once.
pub fn load() -> io::Result<()> {
    let order = Load {
        kind: SOCKET_FILTER,
        instructions: u32::try_from(PROGRAM.len()).unwrap_or_default(),
        program: PROGRAM.as_ptr() as u64,
        license: LICENSE.as_ptr() as u64,
        ..Load::default()
    };
    // SAFETY: the kernel reads `size_of::<Load>()` bytes of `order` and what its pointers name, all of which outlive the call; the
    // rest of the attributes counts as zero.
    let answer = unsafe { libc::syscall(libc::SYS_bpf, PROG_LOAD, &raw const order, size_of::<Load>()) };
    match i32::try_from(answer) {
        Ok(descriptor) if descriptor >= 0 => {
            // SAFETY: a descriptor that the kernel has just made, and nobody else knows.
            drop(unsafe { OwnedFd::from_raw_fd(descriptor) });
            Ok(())
        }
        _ => Err(io::Error::last_os_error()),
    }
}

//! Makes a machine poorer for one process: a system call that it may not use.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// `struct seccomp_data` starts with the number of the system call (seccomp(2)).
const OFFSET_OF_NUMBER: u32 = 0;

/// Lets `command` and everything it starts fail with EPERM in bpf(2), as kernels do that do not allow it.
pub fn bpf(command: &mut Command) {
    let number = u32::try_from(libc::SYS_bpf).expect("system calls have small numbers");
    // SAFETY: between fork and exec only prctl(2) is called, on memory that lives on this stack.
    unsafe {
        command.pre_exec(move || refuse(number));
    }
}

/// Installs a filter that answers one system call with EPERM and allows the rest.
fn refuse(number: u32) -> io::Result<()> {
    let statement = |code: u32, k: u32| libc::sock_filter {
        code: code as u16,
        jt: 0,
        jf: 0,
        k,
    };
    let load = statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, OFFSET_OF_NUMBER);
    let mut compare = statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, number);
    compare.jf = 1;
    let eperm = libc::SECCOMP_RET_ERRNO | (libc::EPERM as u32 & libc::SECCOMP_RET_DATA);
    let answer = |what: u32| statement(libc::BPF_RET | libc::BPF_K, what);
    let mut filter = [load, compare, answer(eperm), answer(libc::SECCOMP_RET_ALLOW)];
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: `program` points to `filter`, and both outlive the call, which copies them.
    match unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

//! Decides how a system call is made on aarch64, and what each is called there.

use core::arch::asm;

/// # Safety
/// As the call that is made: what it reads and writes has to be there for as long as it takes.
pub(super) unsafe fn call(number: usize, arguments: [usize; 6]) -> isize {
    let answer;
    // SAFETY: the kernel changes nothing but this register, and memory that the caller answers for.
    unsafe {
        asm!(
            "svc #0",
            in("x8") number,
            inlateout("x0") arguments[0] as isize => answer,
            in("x1") arguments[1],
            in("x2") arguments[2],
            in("x3") arguments[3],
            in("x4") arguments[4],
            in("x5") arguments[5],
            options(nostack),
        );
    }
    answer
}

/// `asm-generic/unistd.h`.
pub(super) mod number {
    pub(crate) const FCNTL: usize = 25;
    pub(crate) const IOCTL: usize = 29;
    pub(crate) const FACCESSAT: usize = 48;
    pub(crate) const READ: usize = 63;
    pub(crate) const WRITE: usize = 64;
    pub(crate) const EXIT_GROUP: usize = 94;
    pub(crate) const WAITID: usize = 95;
    pub(crate) const KILL: usize = 129;
    pub(crate) const RT_SIGPROCMASK: usize = 135;
    pub(crate) const RT_SIGTIMEDWAIT: usize = 137;
    pub(crate) const RT_SIGQUEUEINFO: usize = 138;
    pub(crate) const SETPGID: usize = 154;
    pub(crate) const GETPID: usize = 172;
    pub(crate) const SOCKET: usize = 198;
    pub(crate) const CONNECT: usize = 203;
    pub(crate) const CLONE: usize = 220;
    pub(crate) const EXECVE: usize = 221;
    pub(crate) const WAIT4: usize = 260;
}

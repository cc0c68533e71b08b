//! Decides which system calls this program makes; all of its `unsafe` about the kernel is here.

use crate::Texts;
use core::ffi::CStr;

#[cfg(target_arch = "aarch64")]
mod aarch64;
#[cfg(target_arch = "x86_64")]
mod x86_64;

#[cfg(target_arch = "aarch64")]
use aarch64::{call, number};
#[cfg(target_arch = "x86_64")]
use x86_64::{call, number};

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("the init of sandboxes makes its system calls itself and knows them of x86_64 and aarch64 only");

// Of the kernel's `asm-generic`, the same on both.
pub const ENOENT: i32 = 2;
pub const ENOEXEC: i32 = 8;
pub const EACCES: i32 = 13;
pub const ENOTDIR: i32 = 20;
pub const SIGCHLD: i32 = 17;
pub(crate) const SIGCONT: i32 = 18;
pub(crate) const SIGTSTP: i32 = 20;
pub const SIGTTIN: i32 = 21;
pub const SIGTTOU: i32 = 22;
const AT_FDCWD: isize = -100;
const AF_UNIX: u16 = 1;
const SOCK_STREAM_CLOEXEC: usize = 1 | 0o2_000_000;
const F_SETFD: usize = 2;
const FD_CLOEXEC: usize = 1;
const SIG_SETMASK: usize = 2;
const WNOHANG: usize = 1;
const WSTOPPED: usize = 2;
const P_PID: usize = 1;
const TIOCSPGRP: usize = 0x5410;
/// `si_code` of `sigqueue(3)`.
const SI_QUEUE: i32 = -1;
/// Bytes of the kernel's set of signals.
const SET: usize = 8;

/// What is known of a signal that came: the kernel's `siginfo_t`.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default)]
pub struct Received {
    words: [i32; 32],
}

impl Received {
    /// Whether a value was sent along.
    pub(crate) fn is_queued(&self) -> bool {
        self.words[2] == SI_QUEUE
    }

    /// The signal that stopped a child, where `waitid` has found one.
    fn of_child(&self) -> Option<i32> {
        (self.words[0] == SIGCHLD).then_some(self.words[6])
    }
}

/// `sockaddr_un`.
#[repr(C)]
struct Address {
    family: u16,
    path: [u8; 108],
}

fn checked(answer: isize) -> Result<usize, i32> {
    usize::try_from(answer).map_err(|_| answer.unsigned_abs() as i32)
}

/// Ends this process.
pub fn exit(status: i32) -> ! {
    loop {
        // SAFETY: an integer.
        unsafe { call(number::EXIT_GROUP, [status as usize, 0, 0, 0, 0, 0]) };
    }
}

/// Becomes another program; the error number if that is not possible.
pub(crate) fn execute(file: &CStr, words: Texts, environment: Texts) -> i32 {
    let arguments = [file.as_ptr() as usize, words as usize, environment as usize, 0, 0, 0];
    // SAFETY: three pointers to what `execve` wants, which it only reads.
    let answer = unsafe { call(number::EXECVE, arguments) };
    checked(answer).err().unwrap_or_default()
}

pub(crate) fn exists(file: &CStr) -> bool {
    // SAFETY: a text, and integers.
    let answer = unsafe {
        call(
            number::FACCESSAT,
            [AT_FDCWD as usize, file.as_ptr() as usize, 0, 0, 0, 0],
        )
    };
    answer == 0
}

/// 0 in the new process. Nothing is shared with it.
pub(crate) fn fork() -> Result<i32, i32> {
    // SAFETY: no new stack, no memory of ours is to be written to: a fork.
    let answer = unsafe { call(number::CLONE, [SIGCHLD as usize, 0, 0, 0, 0, 0]) };
    checked(answer).map(|process| process as i32)
}

/// Blocks every signal that can be; those that were before.
pub(crate) fn block_all_signals() -> u64 {
    let (all, mut before) = (u64::MAX, 0_u64);
    let arguments = [
        SIG_SETMASK,
        (&raw const all) as usize,
        (&raw mut before) as usize,
        SET,
        0,
        0,
    ];
    // SAFETY: both sets live as long as the call.
    unsafe { call(number::RT_SIGPROCMASK, arguments) };
    before
}

pub(crate) fn set_blocked_signals(set: u64) {
    let arguments = [SIG_SETMASK, (&raw const set) as usize, 0, SET, 0, 0];
    // SAFETY: the set lives as long as the call.
    unsafe { call(number::RT_SIGPROCMASK, arguments) };
}

/// Waits for a signal.
pub(crate) fn next_signal(info: &mut Received) -> i32 {
    let all = u64::MAX;
    let arguments = [(&raw const all) as usize, (&raw mut *info) as usize, 0, SET, 0, 0];
    loop {
        // SAFETY: the set and what is written to live as long as the call.
        if let Ok(signal) = checked(unsafe { call(number::RT_SIGTIMEDWAIT, arguments) }) {
            return signal as i32;
        }
    }
}

/// One that has ended, with its raw status, unless there is none.
pub(crate) fn wait_for_any() -> Option<(i32, i32)> {
    let mut status = 0_i32;
    let any = usize::MAX;
    // SAFETY: the status lives as long as the call.
    let answer = unsafe { call(number::WAIT4, [any, (&raw mut status) as usize, WNOHANG, 0, 0, 0]) };
    match checked(answer) {
        Ok(0) | Err(_) => None,
        Ok(process) => Some((process as i32, status)),
    }
}

/// Which signal has stopped a child since this was asked last, if one has.
pub(crate) fn stopped_by(process: i32) -> Option<i32> {
    let mut told = Received::default();
    let place = (&raw mut told) as usize;
    let arguments = [P_PID, process as usize, place, WSTOPPED | WNOHANG, 0, 0];
    // SAFETY: what is written to lives as long as the call.
    let answer = unsafe { call(number::WAITID, arguments) };
    checked(answer).ok().and_then(|_| told.of_child())
}

/// One that is gone needs no signal.
pub(crate) fn kill(process: i32, signal: i32) {
    // SAFETY: integers.
    unsafe { call(number::KILL, [process as usize, signal as usize, 0, 0, 0, 0]) };
}

/// Sends a signal with what came along; false if it could not be.
pub(crate) fn queue(process: i32, signal: i32, info: &Received) -> bool {
    let arguments = [process as usize, signal as usize, (&raw const *info) as usize, 0, 0, 0];
    // SAFETY: what is known of the signal lives as long as the call.
    unsafe { call(number::RT_SIGQUEUEINFO, arguments) == 0 }
}

/// Makes this process the leader of a group, and that the one in the foreground if there is a terminal.
pub(crate) fn lead_group_and_terminal() {
    // SAFETY: integers; 0 is whoever asks.
    unsafe { call(number::SETPGID, [0; 6]) };
    // SAFETY: no arguments.
    let own = unsafe { call(number::GETPID, [0; 6]) } as i32;
    put_in_foreground(own);
}

/// Gives the terminal, if there is one, to a group.
pub(crate) fn put_in_foreground(group: i32) {
    // SAFETY: the number lives as long as the call, which is refused where there is no terminal.
    unsafe { call(number::IOCTL, [0, TIOCSPGRP, (&raw const group) as usize, 0, 0, 0]) };
}

pub(crate) fn close_on_execute(descriptor: i32) {
    // SAFETY: integers.
    unsafe { call(number::FCNTL, [descriptor as usize, F_SETFD, FD_CLOEXEC, 0, 0, 0]) };
}

/// A connection to a socket that is a file; closed as this process becomes another program.
pub(crate) fn connect(path: &[u8]) -> Option<i32> {
    let mut address = Address {
        family: AF_UNIX,
        path: [0; 108],
    };
    address.path.get_mut(..path.len())?.copy_from_slice(path);
    // SAFETY: integers.
    let socket = unsafe { call(number::SOCKET, [usize::from(AF_UNIX), SOCK_STREAM_CLOEXEC, 0, 0, 0, 0]) };
    let socket = checked(socket).ok()?;
    let arguments = [socket, (&raw const address) as usize, size_of::<Address>(), 0, 0, 0];
    // SAFETY: the address lives as long as the call.
    let connected = unsafe { call(number::CONNECT, arguments) } == 0;
    connected.then_some(socket as i32)
}

/// Fills all of it; false if there is no more.
pub(crate) fn read(descriptor: i32, into: &mut [u8]) -> bool {
    let arguments = [descriptor as usize, into.as_mut_ptr() as usize, into.len(), 0, 0, 0];
    // SAFETY: the place lives as long as the call.
    unsafe { call(number::READ, arguments) == into.len() as isize }
}

/// Of a few bytes, which pipes and sockets take at once or never.
pub(crate) fn write(descriptor: i32, bytes: &[u8]) {
    let arguments = [descriptor as usize, bytes.as_ptr() as usize, bytes.len(), 0, 0, 0];
    // SAFETY: the bytes live as long as the call.
    unsafe { call(number::WRITE, arguments) };
}

//! Decides what is known of the end of a process, and how it is told.

use crate::order::EndedBy;
use miren_api::settings::Bytes;
use nix::sys::signal::Signal;

/// What a shell answers for a command it cannot find.
const SHELL_NOT_FOUND: i32 = 127;

/// Status as shells count it: 128 + the signal if a signal ended the process.
pub(crate) fn exit_code(status: i32) -> Option<i32> {
    if libc::WIFEXITED(status) {
        return Some(libc::WEXITSTATUS(status));
    }
    libc::WIFSIGNALED(status).then(|| 128 + libc::WTERMSIG(status))
}

/// The end of a process, as far as whoever tells of it knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The raw wait status.
    Status(i32),
    /// The number that a shell would show, where it may mean a signal as well as an exit with that number.
    Either(i32),
}

impl Ending {
    /// From the number that a shell would show.
    pub(crate) fn of_number(number: i32) -> Self {
        match Signal::try_from(number - 128) {
            Ok(_) => Self::Either(number),
            Err(_) => Self::Status((number & 0xff) << 8),
        }
    }

    /// What two observers know together. Who reaped it knows; but it may know no more than the number, and the kernel's hook has
    /// seen the raw status.
    pub(crate) fn agreed(told: Option<Self>, seen: Option<i32>) -> Option<Self> {
        match (told, seen) {
            (Some(told), Some(seen)) if told.exit_code() == exit_code(seen) => Some(Self::Status(seen)),
            (told, seen) => told.or(seen.map(Self::Status)),
        }
    }

    pub(crate) fn exit_code(self) -> Option<i32> {
        match self {
            Self::Status(status) => exit_code(status),
            Self::Either(number) => Some(number),
        }
    }

    /// What ended it; `out_of_memory` says whether the kernel killed something of it for its memory limit. A number that may be
    /// either counts as an exit: then it is the app that has to prove itself.
    pub(crate) fn by(self, out_of_memory: bool) -> EndedBy {
        let signal = match self {
            Self::Status(status) => libc::WIFSIGNALED(status).then(|| libc::WTERMSIG(status)),
            Self::Either(number) => (out_of_memory && number - 128 == libc::SIGKILL).then_some(libc::SIGKILL),
        };
        match signal {
            Some(libc::SIGKILL) if out_of_memory => EndedBy::OutOfMemory,
            Some(signal) => EndedBy::Signal(signal),
            None => EndedBy::Exit,
        }
    }
}

/// How a process ended, for people. `memory` is the limit, if the kernel killed something because of it.
pub(crate) fn describe(ending: Option<Ending>, memory: Option<Bytes>) -> String {
    let Some(ending) = ending else {
        return "exited with an unknown status".to_owned();
    };
    let code = ending.exit_code().unwrap_or_default();
    match (ending.by(memory.is_some()), memory) {
        (EndedBy::OutOfMemory, Some(limit)) => format!("killed by out-of-memory (oom): its limit is {limit}"),
        (EndedBy::Signal(number), _) => format!("killed by {}", named(number)),
        (_, Some(limit)) => {
            format!("exited with status {code} after out-of-memory (oom) killed a process of it: its limit is {limit}")
        }
        (_, None) => match ending {
            Ending::Either(code) => format!("exited with status {code}, or was killed by {}", named(code - 128)),
            Ending::Status(_) if code == SHELL_NOT_FOUND => format!("exited with status {code} (command not found)"),
            Ending::Status(_) => format!("exited with status {code}"),
        },
    }
}

fn named(signal: i32) -> String {
    match Signal::try_from(signal) {
        Ok(name) => format!("signal {signal} ({name})"),
        Err(_) => format!("signal {signal}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXITED_3: i32 = 3 << 8;
    const KILLED: i32 = libc::SIGKILL;

    #[test]
    fn b2_every_way_to_end_has_its_reason() {
        let limit = Some(Bytes(64 << 20));
        let told = |status, memory| describe(Some(Ending::Status(status)), memory);
        assert_eq!(told(EXITED_3, None), "exited with status 3");
        assert_eq!(told(KILLED, None), "killed by signal 9 (SIGKILL)");
        assert_eq!(told(KILLED, limit), "killed by out-of-memory (oom): its limit is 64MiB");
        assert!(told(EXITED_3, limit).starts_with("exited with status 3 after out-of-memory (oom)"));
        assert_eq!(told(127 << 8, None), "exited with status 127 (command not found)");
        assert_eq!(describe(None, None), "exited with an unknown status");
    }

    #[test]
    fn exit_codes_are_those_of_a_shell() {
        assert_eq!(exit_code(EXITED_3), Some(3));
        assert_eq!(exit_code(KILLED), Some(137));
    }

    #[test]
    fn f7_the_raw_status_tells_an_exit_from_a_signal() {
        for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGKILL, libc::SIGTERM] {
            let number = 128 + signal;
            assert_eq!(Ending::Status(signal).by(false), EndedBy::Signal(signal));
            assert_eq!(Ending::Status(number << 8).by(false), EndedBy::Exit, "exit {number}");
            assert_eq!(Ending::of_number(number).by(false), EndedBy::Exit, "nobody knows");
            let seen = Ending::agreed(Some(Ending::of_number(number)), Some(signal));
            assert_eq!(seen, Some(Ending::Status(signal)), "the hook knows");
            let seen = Ending::agreed(Some(Ending::of_number(number)), Some(number << 8));
            assert_eq!(seen, Some(Ending::Status(number << 8)), "the hook knows");
        }
        let either = describe(Some(Ending::of_number(137)), None);
        assert_eq!(either, "exited with status 137, or was killed by signal 9 (SIGKILL)");
    }

    #[test]
    fn f7_memory_that_ran_out_is_told_by_either_number() {
        assert_eq!(Ending::Status(KILLED).by(true), EndedBy::OutOfMemory);
        assert_eq!(Ending::of_number(137).by(true), EndedBy::OutOfMemory);
        assert_eq!(Ending::Status(EXITED_3).by(true), EndedBy::Exit);
        assert_eq!(Ending::of_number(143).by(true), EndedBy::Exit);
    }

    #[test]
    fn who_reaped_it_knows_how_it_ended() {
        let killed = Some(Ending::Status(KILLED));
        assert_eq!(Ending::agreed(killed, Some(0)), killed);
        assert_eq!(Ending::agreed(None, Some(KILLED)), killed);
        assert_eq!(Ending::agreed(killed, None), killed);
        assert_eq!(Ending::of_number(3), Ending::Status(EXITED_3));
        assert_eq!(Ending::of_number(255), Ending::Status(255 << 8));
    }
}

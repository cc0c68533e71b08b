//! Decides how the end of a process is told.

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

/// How a process ended, for people. `memory` is the limit, if the kernel killed something because of it.
pub(crate) fn describe(status: Option<i32>, memory: Option<Bytes>) -> String {
    let Some(status) = status else {
        return "exited with an unknown status".to_owned();
    };
    let killed = libc::WIFSIGNALED(status).then(|| libc::WTERMSIG(status));
    match (killed, memory) {
        (Some(libc::SIGKILL), Some(limit)) => format!("killed by out-of-memory (oom): its limit is {limit}"),
        (Some(number), _) => match Signal::try_from(number) {
            Ok(signal) => format!("killed by signal {number} ({signal})"),
            Err(_) => format!("killed by signal {number}"),
        },
        (None, Some(limit)) => {
            format!(
                "exited with status {} after out-of-memory (oom) killed a process of it: its limit is {limit}",
                libc::WEXITSTATUS(status)
            )
        }
        (None, None) => match libc::WEXITSTATUS(status) {
            SHELL_NOT_FOUND => format!("exited with status {SHELL_NOT_FOUND} (command not found)"),
            code => format!("exited with status {code}"),
        },
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
        assert_eq!(describe(Some(EXITED_3), None), "exited with status 3");
        assert_eq!(describe(Some(KILLED), None), "killed by signal 9 (SIGKILL)");
        assert_eq!(
            describe(Some(KILLED), limit),
            "killed by out-of-memory (oom): its limit is 64MiB"
        );
        assert!(describe(Some(EXITED_3), limit).starts_with("exited with status 3 after out-of-memory (oom)"));
        assert_eq!(
            describe(Some(127 << 8), None),
            "exited with status 127 (command not found)"
        );
        assert_eq!(describe(None, None), "exited with an unknown status");
    }

    #[test]
    fn exit_codes_are_those_of_a_shell() {
        assert_eq!(exit_code(EXITED_3), Some(3));
        assert_eq!(exit_code(KILLED), Some(137));
    }
}

//! Decides what the process that becomes the app and the daemon say to each other before it does.
//!
//! It comes to a socket; whoever is there learns from the kernel which process it is, and lets it go on. Nothing said after that
//! means that it runs: the socket closes as it becomes the command.

use crate::command::Command;
use crate::system;

/// Where the daemon waits, inside.
pub const SOCKET: &str = "/dev/miren/gate";
/// What the daemon says: the command may run.
pub const GO: u8 = b'g';
/// Exit statuses of a shell for a command that is not there and for one that cannot be executed.
const NOT_FOUND: i32 = 127;
const NOT_EXECUTED: i32 = 126;
/// Of one that nobody lets go on.
const UNWANTED: i32 = 125;

/// Why there is no command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    NotFound,
    NotExecutable,
    /// The file is there; what its first line names, or its loader, is not.
    NoInterpreter,
    /// The error number of the system.
    Refused(i32),
    /// No process could be made for it; the error number.
    NoProcess(i32),
}

/// A [`Failure`] as it is said: its kind and its number.
pub type Said = [u8; 5];

impl Failure {
    pub fn said(self) -> Said {
        let (kind, number) = match self {
            Self::NotFound => (b'n', 0),
            Self::NotExecutable => (b'x', 0),
            Self::NoInterpreter => (b'i', 0),
            Self::Refused(number) => (b'r', number),
            Self::NoProcess(number) => (b'p', number),
        };
        let [a, b, c, d] = number.to_le_bytes();
        [kind, a, b, c, d]
    }

    /// None: that is no failure.
    pub fn heard([kind, number @ ..]: Said) -> Option<Self> {
        let number = i32::from_le_bytes(number);
        Some(match kind {
            b'n' => Self::NotFound,
            b'x' => Self::NotExecutable,
            b'i' => Self::NoInterpreter,
            b'r' => Self::Refused(number),
            b'p' => Self::NoProcess(number),
            _ => return None,
        })
    }

    fn status(self) -> i32 {
        match self {
            Self::NotFound | Self::NoInterpreter => NOT_FOUND,
            _ => NOT_EXECUTED,
        }
    }
}

/// Becomes the command once the daemon allows it; `ready` is done just before.
pub fn pass(command: &Command, ready: impl FnOnce()) -> ! {
    let gate = wait();
    ready();
    fail(gate, command.execute())
}

/// Says that there can be no process, once somebody listens, and ends.
pub(crate) fn no_process(error: i32) -> ! {
    fail(wait(), Failure::NoProcess(error))
}

/// Waits to be let go on. The daemon that is not there any more never wanted it.
fn wait() -> i32 {
    let Some(gate) = system::connect(SOCKET.as_bytes()) else {
        system::exit(UNWANTED);
    };
    let mut answer = [0];
    if !system::read(gate, &mut answer) || answer != [GO] {
        system::exit(UNWANTED);
    }
    gate
}

fn fail(gate: i32, failure: Failure) -> ! {
    system::write(gate, &failure.said());
    system::exit(failure.status())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g4_every_failure_is_heard_as_it_was_said() {
        for failure in [
            Failure::NotFound,
            Failure::NotExecutable,
            Failure::NoInterpreter,
            Failure::Refused(8),
            Failure::NoProcess(11),
        ] {
            assert_eq!(Failure::heard(failure.said()), Some(failure));
        }
        assert_eq!(Failure::heard([b'g', 0, 0, 0, 0]), None);
        assert_eq!((Failure::NotFound.status(), Failure::Refused(8).status()), (127, 126));
    }
}

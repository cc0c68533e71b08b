//! Decides how init of a sandbox becomes the app's command, and what is said when it cannot.

use crate::runtime::{not_executable, not_found};
use libcontainer::oci_spec::runtime::{LinuxSeccomp, Spec};
use libcontainer::seccomp::initialize_seccomp;
use libcontainer::workload::{Executor, ExecutorError, ExecutorValidationError};
use nix::errno::Errno;
use nix::libc;
use nix::pty::Winsize;
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::unistd::{AccessFlags, access, execvp};
use std::ffi::CString;
use std::path::{Path, PathBuf};

nix::ioctl_write_ptr_bad!(set_window_size, libc::TIOCSWINSZ, Winsize);

/// Stands in front of what is for the user in an error text; what the runtime wraps around it is cut off.
pub(super) const USER_ERROR: &str = "miren: ";

/// Replaces init by the command of the specification.
#[derive(Clone)]
pub(super) struct Command;

impl Executor for Command {
    /// Runs when everything is set up and the daemon has allowed the start; returns only when it fails.
    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        let arguments = arguments(spec);
        let strings: Result<Vec<CString>, _> = arguments.iter().map(|text| CString::new(text.as_bytes())).collect();
        let strings = strings.map_err(|_| ExecutorError::InvalidArg)?;
        let command = strings.first().ok_or(ExecutorError::InvalidArg)?;
        // Our own runtime ignores it, and ignored signals stay so across exec: a pipeline would never end.
        // SAFETY: no handler of ours is installed, and no other thread exists.
        unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) }.map_err(failed)?;
        set_size(spec);
        let Err(error) = execvp(command, &strings);
        miren_log::complain(&format!("cannot execute {}: {}", arguments[0], error.desc()));
        Err(failed(error))
    }

    /// Runs inside the sandbox before the start is allowed, with `/app` as the current folder.
    fn validate(&self, spec: &Spec) -> Result<(), ExecutorValidationError> {
        let arguments = arguments(spec);
        let command = arguments.first().map_or("", String::as_str);
        find(command, path_of(spec))
            .map(drop)
            .map_err(|why| ExecutorValidationError::ArgValidationError(format!("{USER_ERROR}{why}")))
    }
}

/// Its terminal, if it has one, is as large as it should be before it looks. Whoever speaks with it says so again.
fn set_size(spec: &Spec) {
    let size = spec.process().as_ref().and_then(|process| process.console_size());
    if let Some(size) = size {
        let size = Winsize {
            ws_row: u16::try_from(size.height()).unwrap_or(u16::MAX),
            ws_col: u16::try_from(size.width()).unwrap_or(u16::MAX),
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        // SAFETY: `size` lives as long as the call, which reads it.
        let _ = unsafe { set_window_size(libc::STDIN_FILENO, &raw const size) };
    }
}

/// As [`Command`], for one that joins a sandbox: behind the system-call filter, which is not put on otherwise.
#[derive(Clone)]
pub(super) struct Filtered {
    pub(super) command: Command,
    pub(super) filter: LinuxSeccomp,
}

impl Executor for Filtered {
    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        // Last of all; "no new privileges" is set by now.
        initialize_seccomp(&self.filter).map_err(|error| ExecutorError::Other(error.to_string()))?;
        self.command.exec(spec)
    }

    fn validate(&self, spec: &Spec) -> Result<(), ExecutorValidationError> {
        self.command.validate(spec)
    }
}

fn failed(error: Errno) -> ExecutorError {
    ExecutorError::Other(error.desc().to_owned())
}

fn arguments(spec: &Spec) -> &[String] {
    let process = spec.process().as_ref();
    process
        .and_then(|process| process.args().as_deref())
        .unwrap_or_default()
}

fn path_of(spec: &Spec) -> &str {
    let process = spec.process().as_ref();
    let env = process.and_then(|process| process.env().as_deref()).unwrap_or_default();
    env.iter()
        .find_map(|variable| variable.strip_prefix("PATH="))
        .unwrap_or_default()
}

/// The file that a command means, found as the kernel and `execvp` will find it.
fn find(command: &str, path: &str) -> Result<PathBuf, String> {
    let candidates: Vec<PathBuf> = match command.contains('/') {
        true => vec![PathBuf::from(command)],
        false => path.split(':').map(|dir| Path::new(dir).join(command)).collect(),
    };
    let there: Vec<&PathBuf> = candidates.iter().filter(|file| file.is_file()).collect();
    match there.iter().find(|file| access(**file, AccessFlags::X_OK).is_ok()) {
        Some(file) => Ok((*file).clone()),
        None if there.is_empty() => Err(not_found(command)),
        None => Err(not_executable(command)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b2_a_command_that_cannot_run_is_named() {
        assert!(find("sh", "/nowhere:/bin").is_ok());
        assert_eq!(
            find("no-such-program", "/bin"),
            Err("command not found: no-such-program".into())
        );
        assert_eq!(find("./absent", "/bin"), Err("command not found: ./absent".into()));
        let found = find("/etc/passwd", "/bin").expect_err("not executable");
        assert!(found.starts_with("command not executable: /etc/passwd"), "{found}");
    }
}

//! Decides how the log of a container is written: by a process of ours that the shim starts and that outlives both daemons.

use crate::bundle::{Job, SandboxDir};
use crate::exit::{Ending, describe};
use crate::files;
use crate::process::{Process, ProcessRef};
use miren_api::resource::LogStream;
use nix::sys::signal::{SigHandler, Signal, signal};
use serde::{Deserialize, Serialize};
use std::error::Error;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::path::Path;

/// The helper's first argument. Its second one is the folder of the sandbox.
const NAME: &str = "miren-sandbox-log";
/// What the shim leaves open for it: the reading ends of both outputs, and what is closed to say that it is ready.
const STDOUT: RawFd = 3;
const STDERR: RawFd = 4;
const READY: RawFd = 5;

/// The process that writes a log, and the shim that started it.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct ShimAndLog {
    pub(super) process: ProcessRef,
    pub(super) shim: ProcessRef,
}

/// What the shim is told to send both outputs to.
pub(super) fn uri(program: &Path, dir: &SandboxDir) -> String {
    format!("binary://{}?{NAME}={}", escaped(program), escaped(dir.path()))
}

/// Everything that means something in a URI, percent-encoded (RFC 3986 §2.1).
fn escaped(path: &Path) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_.~".contains(&byte);
    let bytes = path.as_os_str().as_encoded_bytes().iter();
    bytes.fold(String::new(), |mut text, byte| {
        match is_plain(*byte) {
            true => text.push(char::from(*byte)),
            false => text.push_str(&format!("%{byte:02X}")),
        }
        text
    })
}

/// Runs the helper that writes the log of one container and exits, if that is what this process was started for.
pub(crate) fn main_if_asked() {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().as_deref() != Some(OsStr::new(NAME)) {
        return;
    }
    let ended = match arguments.next() {
        Some(dir) => run(&SandboxDir(dir.into())),
        None => Err("the folder of the sandbox is missing".into()),
    };
    if let Err(error) = ended {
        miren_log::complain(&error.to_string());
        std::process::exit(1);
    }
    std::process::exit(0);
}

fn run(dir: &SandboxDir) -> Result<(), Box<dyn Error>> {
    // The shim sends it once it has closed the outputs: what is left in them is to be read first.
    // SAFETY: no handler of ours is installed, and no other thread exists.
    unsafe { signal(Signal::SIGTERM, SigHandler::SigIgn) }?;
    let [stdout, stderr, ready] = [STDOUT, STDERR, READY].map(inherited);
    let _alive = files::lock(&dir.lock())?;
    let job = job(dir)?;
    let mut log = job.open_log()?;
    let helper = ShimAndLog {
        process: Process::open(std::process::id())?.reference(),
        shim: Process::open(std::os::unix::process::parent_id())?.reference(),
    };
    files::write_json(&dir.helper(), &helper)?;
    drop(ready);
    Ok(job.pump(dir, [stdout, stderr], None, &mut log)?)
}

fn inherited(fd: RawFd) -> OwnedFd {
    // SAFETY: the shim opened it for this process, which takes each of them once.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

fn job(dir: &SandboxDir) -> Result<Job, Box<dyn Error>> {
    Ok(files::read_json(&dir.job())?.ok_or("there is no job.json")?)
}

/// Notes the shim where no helper writes a log: it is what holds the container.
pub(super) fn without(dir: &SandboxDir, init: &Process) -> io::Result<()> {
    let parent = init.parent()?.ok_or_else(|| io::Error::other("its shim is gone"))?;
    let shim = Process::open(parent)?.reference();
    files::write_json(&dir.helper(), &ShimAndLog { process: shim, shim })
}

/// The last line of a log whose helper has ended.
pub(super) fn say_how_it_ended(dir: &SandboxDir, ending: Ending) {
    match job(dir).and_then(|job| Ok(job.open_log()?)) {
        Ok(mut log) => {
            log.line(LogStream::System, describe(Some(ending), None).as_bytes());
            log.flush();
        }
        Err(error) => tracing::warn!(dir = %dir.path().display(), %error, "the end of a log could not be written"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_survives_being_part_of_a_uri() {
        let dir = SandboxDir::new(Path::new("/run/my node+1%"), "sb-1");
        assert_eq!(
            uri(Path::new("/usr/bin/miren-control"), &dir),
            "binary:///usr/bin/miren-control?miren-sandbox-log=/run/my%20node%2B1%25/sandboxes/sb-1"
        );
    }
}

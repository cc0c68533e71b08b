//! Decides where the log lines of sandboxes are kept, how much of them, and how they are found again.
//!
//! `<log_dir>/<app>/<service>/<sandbox>.log`, older parts of it with `.1`, `.2` … appended; one JSON `LogLine` a line.

use miren_api::id::{AppName, SandboxId};
use std::path::{Path, PathBuf};

mod allowance;
mod follow;
mod history;
mod prune;
pub(crate) mod pump;
mod read;
mod tail;
mod writer;

pub use allowance::Dropped;
pub use history::in_short;
pub(crate) use history::last_lines;
pub(crate) use prune::prune;
pub use read::{LogQuery, read};
pub(crate) use writer::LogWriter;

/// Ends the name of the file that is being written.
const SUFFIX: &str = ".log";

/// The file a sandbox's lines go to.
pub(crate) fn file(log_dir: &Path, app: &AppName, service: &str, sandbox: &SandboxId) -> PathBuf {
    log_dir
        .join(app.as_str())
        .join(service)
        .join(format!("{sandbox}{SUFFIX}"))
}

/// An older part of a log file; 0 is the file itself.
fn part(file: &Path, number: u32) -> PathBuf {
    if number == 0 {
        return file.to_owned();
    }
    let mut name = file.as_os_str().to_owned();
    name.push(format!(".{number}"));
    PathBuf::from(name)
}

/// The parts of a log that exist, oldest first.
fn parts(file: &Path) -> Vec<PathBuf> {
    let mut parts: Vec<PathBuf> = (0..)
        .map(|number| part(file, number))
        .take_while(|part| part.exists())
        .collect();
    parts.reverse();
    parts
}

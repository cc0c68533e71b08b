//! What can go wrong with a disk, told apart by what a caller can do about it.

use crate::disk::DiskId;
use std::io;
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    #[error("disk {id:?} does not exist", id = .id.name())]
    NotFound { id: DiskId },
    /// A disk of that name is there, and is another one.
    #[error("disk {id:?} exists: {what}", id = .id.name())]
    Exists { id: DiskId, what: String },
    /// In use; `holders` are some of the processes that use it, as far as could be seen.
    #[error("{what}{}", held_by(.holders))]
    Busy { what: String, holders: Vec<String> },
    #[error("{doing} {}: no space left", .path.display())]
    NoSpace { doing: &'static str, path: PathBuf },
    /// Nothing was changed on account of it.
    #[error("{}: {what}", .path.display())]
    Damaged { path: PathBuf, what: String },
    #[error("{program} is not installed: install the package {package}")]
    MissingProgram {
        program: &'static str,
        package: &'static str,
    },
    #[error("{what}")]
    Unsupported { what: String },
    /// What was asked for cannot be.
    #[error("{what}")]
    Invalid { what: String },
    /// A step failed, or took too long, for a reason that is no damage; `detail` is the end of what its program wrote.
    #[error("{doing}: {detail}")]
    Failed { doing: String, detail: String },
    #[error("{doing} {}: {source}", .path.display())]
    Io {
        doing: &'static str,
        path: PathBuf,
        source: io::Error,
    },
}

impl DiskError {
    /// For `map_err`: what was being done, and to which file.
    pub(crate) fn io<E: Into<io::Error>>(doing: &'static str, path: &Path) -> impl FnOnce(E) -> Self {
        let path = path.to_owned();
        move |error| {
            let source = error.into();
            match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace { doing, path },
                _ => Self::Io { doing, path, source },
            }
        }
    }

    pub(crate) fn damaged(path: &Path, what: impl Into<String>) -> Self {
        Self::Damaged {
            path: path.to_owned(),
            what: what.into(),
        }
    }

    pub(crate) fn busy(what: impl Into<String>) -> Self {
        Self::Busy {
            what: what.into(),
            holders: Vec::new(),
        }
    }
}

fn held_by(holders: &[String]) -> String {
    if holders.is_empty() {
        String::new()
    } else {
        format!("; held by {}", holders.join(", "))
    }
}

//! Freezing a file system for a moment: whatever happens, it is thawed.

use super::ioctl;
use crate::error::DiskError;
use nix::errno::Errno;
use nix::unistd::syncfs;
use std::fs::File;
use std::path::{Path, PathBuf};

/// A file system nobody can change. Writers wait; they get no error.
pub(crate) struct Frozen {
    folder: File,
    at: PathBuf,
}

impl Frozen {
    pub(crate) fn freeze(at: &Path) -> Result<Self, DiskError> {
        let folder = File::open(at).map_err(DiskError::io("opening", at))?;
        // What is written before needs not be written while everybody waits.
        syncfs(&folder).map_err(DiskError::io("syncing", at))?;
        match ioctl::freeze(&folder) {
            Ok(()) => Ok(Self {
                folder,
                at: at.to_owned(),
            }),
            Err(Errno::EBUSY) => Err(DiskError::busy(format!("{} is frozen by somebody else", at.display()))),
            Err(error) => Err(DiskError::io("freezing", at)(error)),
        }
    }

    /// Ends it; an error means that it is still frozen.
    pub(crate) fn thaw(self) -> Result<(), DiskError> {
        thaw(&self.folder, &self.at)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        if let Err(error) = thaw(&self.folder, &self.at) {
            tracing::error!(%error, "a file system stays frozen");
        }
    }
}

/// Thaws what a daemon that was killed left frozen. A mount that cannot even be asked is left to whoever uses it next.
pub(crate) fn thaw_if_frozen(at: &Path) {
    let folder = File::open(at).map_err(DiskError::io("opening", at));
    if let Err(error) = folder.and_then(|folder| thaw(&folder, at)) {
        tracing::warn!(%error, "a file system may still be frozen");
    }
}

fn thaw(folder: &File, at: &Path) -> Result<(), DiskError> {
    match ioctl::thaw(folder) {
        // EINVAL: it is not frozen.
        Ok(()) | Err(Errno::EINVAL) => Ok(()),
        Err(error) => Err(DiskError::io("thawing", at)(error)),
    }
}

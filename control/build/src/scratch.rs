//! Decides where the files of one build are that go with it, and which of them is the image.

use crate::builds::Settings;
use crate::error::BuildError;
use crate::storage;
use std::fs;
use std::io;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

/// What the image is called in the folder for it.
pub(crate) const IMAGE: &str = "image.tar";

/// A folder that vanishes with its handle; a build may have filled what is in it.
#[derive(Debug)]
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn make(settings: &Settings) -> io::Result<Self> {
        let scratch = Self(settings.new_path("build"));
        fs::create_dir(&scratch.0)?;
        for folder in [scratch.large(), scratch.out()] {
            storage::give(&folder, settings.first_user)?;
        }
        Ok(scratch)
    }

    /// What only control writes is here.
    pub(crate) fn folder(&self) -> &Path {
        &self.0
    }

    /// What the builder has no memory for.
    pub(crate) fn large(&self) -> PathBuf {
        self.0.join("large")
    }

    /// Where the image is put.
    pub(crate) fn out(&self) -> PathBuf {
        self.0.join("out")
    }

    /// Takes the image out of the builder's hands.
    pub(crate) fn take(&self, to: &Path) -> Result<(), BuildError> {
        let from = self.out().join(IMAGE);
        let taken = || {
            // A link there, or a pipe, is no image.
            if !fs::symlink_metadata(&from)?.is_file() {
                return Err(io::Error::other("the builder made no file of it"));
            }
            fs::rename(&from, to)?;
            chown(to, Some(0), Some(0))
        };
        taken().map_err(BuildError::io("taking the image", &from))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let folder = std::mem::take(&mut self.0);
        std::thread::spawn(move || {
            if let Err(error) = storage::remove(&folder) {
                tracing::warn!(folder = %folder.display(), %error, "what a build left stays until the next start");
            }
        });
    }
}

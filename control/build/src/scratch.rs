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

/// A folder that goes with the turn of its build, which may have filled what is in it.
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

    /// Where the image is once nobody but control writes to it.
    pub(crate) fn image(&self) -> PathBuf {
        self.0.join(IMAGE)
    }

    /// Where docker's client writes the id of what was built.
    pub(crate) fn id(&self) -> PathBuf {
        self.0.join("id")
    }

    /// Takes the image out of the builder's hands.
    pub(crate) fn take(&self) -> Result<(), BuildError> {
        let (from, to) = (self.out().join(IMAGE), self.image());
        let taken = || {
            // A link there, or a pipe, is no image.
            if !fs::symlink_metadata(&from)?.is_file() {
                return Err(io::Error::other("the builder made no file of it"));
            }
            fs::rename(&from, &to)?;
            chown(&to, Some(0), Some(0))
        };
        taken().map_err(BuildError::io("taking the image", &from))
    }
}

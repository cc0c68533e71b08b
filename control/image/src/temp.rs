//! Decides where things are while they are not whole: in one folder that is emptied at every start.

use crate::error::{ImageError, at};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A file or folder that vanishes unless it is moved to its place.
#[derive(Debug)]
pub(crate) struct Temp {
    path: PathBuf,
}

impl Temp {
    /// A name nobody has; nothing is made.
    pub(crate) fn name(folder: &Path) -> Self {
        Self {
            path: folder.join(format!("{:032x}", rand::random::<u128>())),
        }
    }

    pub(crate) fn folder(folder: &Path) -> Result<Self, ImageError> {
        let temp = Self::name(folder);
        fs::create_dir(&temp.path).map_err(at("making", &temp.path))?;
        Ok(temp)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Moves it to its place. It is there after a crash too, once this returns.
    pub(crate) fn settle(self, place: &Path) -> Result<(), ImageError> {
        fs::rename(&self.path, place).map_err(at("making", place))?;
        place.parent().map_or(Ok(()), sync_folder)
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "something half written stays until the next start");
        }
    }
}

/// Removes a file, a folder with all there is in it, or nothing.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// The names in this folder are on disk.
pub(crate) fn sync_folder(path: &Path) -> Result<(), ImageError> {
    let synced = fs::File::open(path).and_then(|folder| folder.sync_all());
    synced.map_err(at("writing", path))
}

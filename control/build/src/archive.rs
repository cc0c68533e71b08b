//! Decides where a built image is until it is taken in: in a file that vanishes with its handle.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A built image, as `docker save` writes it.
#[derive(Debug)]
pub struct Archive {
    path: PathBuf,
}

impl Archive {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Archive {
    fn drop(&mut self) {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(path = %self.path.display(), %error, "a built image stays until the next start");
            }
            _ => {}
        }
    }
}

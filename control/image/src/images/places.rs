//! Decides where everything lies in the folder of a store.

use crate::digest::Digest;
use crate::error::{ImageError, at};
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// The root of a layer, in its folder.
pub(super) const ROOT: &str = "fs";

#[derive(Clone, Debug)]
pub(super) struct Places {
    folder: PathBuf,
}

impl Places {
    /// Nobody but its owner may look in: layers hold programs that change who runs them.
    pub(super) fn make(folder: &Path) -> Result<Self, ImageError> {
        let places = Self {
            folder: folder.to_owned(),
        };
        for part in [
            folder.to_owned(),
            places.part("images"),
            places.part("layers"),
            places.temp(),
        ] {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(&part);
            made.map_err(at("making", &part))?;
        }
        Ok(places)
    }

    fn part(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub(super) fn lock(&self) -> PathBuf {
        self.part("lock")
    }

    pub(super) fn temp(&self) -> PathBuf {
        self.part("temp")
    }

    pub(super) fn image_folder(&self) -> PathBuf {
        self.part("images")
    }

    pub(super) fn image(&self, digest: &Digest) -> PathBuf {
        self.image_folder().join(format!("{}.json", digest.hex()))
    }

    pub(super) fn layer(&self, diff_id: &Digest) -> PathBuf {
        self.part("layers").join(diff_id.hex())
    }

    /// All images, sorted.
    pub(super) fn images(&self) -> Result<Vec<Digest>, ImageError> {
        digests(&self.image_folder())
    }

    /// All layers, sorted.
    pub(super) fn layers(&self) -> Result<Vec<Digest>, ImageError> {
        digests(&self.part("layers"))
    }
}

fn digests(folder: &Path) -> Result<Vec<Digest>, ImageError> {
    let entries = entries(folder)?;
    let names = entries.iter().filter_map(|path| path.file_stem()?.to_str());
    let mut found: Vec<Digest> = names.filter_map(Digest::from_hex).collect();
    found.sort_unstable();
    Ok(found)
}

pub(super) fn entries(folder: &Path) -> Result<Vec<PathBuf>, ImageError> {
    let paths = || -> io::Result<Vec<PathBuf>> { fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect() };
    paths().map_err(at("reading", folder))
}

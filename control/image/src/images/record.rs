//! Decides what is written down about images and layers, and when it counts.

use super::places::ROOT;
use crate::config::Config;
use crate::digest::Digest;
use crate::error::{Fault, ImageError, at};
use crate::layer::Unpacked;
use crate::temp::Temp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// An image whose layers are all there.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct ImageRecord {
    pub(super) digest: Digest,
    pub(super) reference: Option<String>,
    pub(super) config: Config,
    pub(super) layers: Vec<Digest>,
}

impl ImageRecord {
    pub(super) fn read(path: &Path) -> Result<Option<Self>, ImageError> {
        read(path)
    }

    /// What is to be held for it: itself and its layers.
    pub(super) fn needs(&self) -> Vec<Digest> {
        self.layers.iter().copied().chain([self.digest]).collect()
    }

    /// Replaces what is there. It is there after a crash too, once this returns.
    pub(super) fn write(&self, temp: &Path, place: &Path) -> Result<(), ImageError> {
        let whole = Temp::name(temp);
        write(whole.path(), self)?;
        whole.settle(place)
    }
}

/// A layer that is whole.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct LayerRecord {
    pub(super) bytes: u64,
    pub(super) files: u64,
    /// Whether nothing of lower layers is to be seen.
    pub(super) opaque: bool,
}

impl LayerRecord {
    /// None if there is no such layer.
    pub(super) fn read(layer: &Path) -> Result<Option<Self>, ImageError> {
        read(&layer.join("layer.json"))
    }

    /// Moves an unpacked layer to its place, with everything in it on disk.
    pub(super) fn settle(unpacked: &Unpacked, folder: Temp, place: &Path) -> Result<(), ImageError> {
        let record = Self {
            bytes: unpacked.bytes,
            files: unpacked.files,
            opaque: unpacked.opaque,
        };
        write(&folder.path().join("layer.json"), &record)?;
        let root = folder.path().join(ROOT);
        let synced = File::open(&root).and_then(|root| Ok(rustix::fs::syncfs(&root)?));
        synced.map_err(at("writing", &root))?;
        folder.settle(place)
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, ImageError> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(at("reading", path)(error)),
    };
    let parsed = serde_json::from_slice(&text);
    parsed
        .map(Some)
        .map_err(|error| at("reading", path)(Fault::corrupt(error)))
}

fn write(path: &Path, record: &impl Serialize) -> Result<(), ImageError> {
    let written = || -> io::Result<()> {
        let mut file = File::create(path)?;
        file.write_all(&serde_json::to_vec(record)?)?;
        file.sync_all()
    };
    written().map_err(at("writing", path))
}

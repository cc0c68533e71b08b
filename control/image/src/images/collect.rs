//! Decides what is removed: images nobody keeps, then layers no image needs.

use super::record::{ImageRecord, LayerRecord};
use super::{Images, Shared};
use crate::digest::Digest;
use crate::error::{Fault, ImageError, at};
use crate::temp::{Temp, sync_folder};
use std::collections::HashSet;
use std::fs;
use std::io;

/// What a collection removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    pub images: Vec<Digest>,
    /// Diff ids.
    pub layers: Vec<Digest>,
    /// Of the layers.
    pub bytes: u64,
}

impl Images {
    /// Removes every image that is neither in `keep` nor held as an [`super::Image`], and every layer
    /// that is left without an image. What a pull needs that is going on stays.
    pub async fn collect(&self, keep: &HashSet<Digest>) -> Result<Collected, ImageError> {
        let (shared, keep) = (self.shared.clone(), keep.clone());
        let collecting = tokio::task::spawn_blocking(move || {
            let (collected, removed) = shared.take_out(&keep)?;
            // Out of their places already: this is the slow part, and nobody waits for it.
            drop(removed);
            Ok(collected)
        });
        let joined = collecting.await.map_err(|error| Fault::Io(io::Error::other(error)));
        joined.map_err(|fault| fault.during("collecting images"))?
    }
}

impl Shared {
    /// Records go first and are gone for good before any layer is touched, so that no record ever
    /// names a layer that is not there.
    fn take_out(&self, keep: &HashSet<Digest>) -> Result<(Collected, Vec<Temp>), ImageError> {
        let mut collected = Collected::default();
        let mut removed = Vec::new();
        self.holds.locked(|held| {
            let mut needed = HashSet::new();
            for image in self.places.images()? {
                let place = self.places.image(&image);
                if !keep.contains(&image) && !held.has(&image) {
                    fs::remove_file(&place).map_err(at("removing", &place))?;
                    collected.images.push(image);
                } else if let Some(record) = ImageRecord::read(&place)? {
                    needed.extend(record.layers);
                }
            }
            if !collected.images.is_empty() {
                sync_folder(&self.places.image_folder())?;
            }
            for layer in self.places.layers()? {
                if needed.contains(&layer) || held.has(&layer) {
                    continue;
                }
                let place = self.places.layer(&layer);
                let record = LayerRecord::read(&place)?;
                let out = Temp::name(&self.places.temp());
                fs::rename(&place, out.path()).map_err(at("removing", &place))?;
                removed.push(out);
                collected.layers.push(layer);
                collected.bytes += record.map_or(0, |record| record.bytes);
            }
            Ok((collected, removed))
        })
    }
}

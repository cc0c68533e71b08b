//! Decides which image of a `docker save` archive is meant: `manifest.json` lists files and tags.
//!
//! Such an archive has no manifest of a registry. The image's name is then the digest of its
//! configuration, which names all layers: what docker shows as the image's id.

use super::{Chosen, LayerFile, Spool, single};
use crate::digest::Digest;
use crate::error::Fault;
use crate::limits::Limits;
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Option<Vec<String>>,
}

pub(super) fn choose(spool: &Spool, name: Option<&str>, limits: &Limits) -> Result<Chosen, Fault> {
    let text = spool.small("manifest.json", limits.manifest)?;
    let broken = |error| Fault::corrupt(format_args!("its manifest.json is broken: {error}"));
    let images: Vec<Saved> = serde_json::from_slice(&text).map_err(broken)?;
    let candidates = images
        .into_iter()
        .map(|mut image| (image.repo_tags.take().unwrap_or_default(), image));
    let (reference, image) = single(candidates.collect(), name)?;
    let config = spool.small(&image.config, limits.config)?;
    let layers = image.layers.unwrap_or_default().into_iter().map(|layer| {
        Ok(LayerFile {
            path: spool.path(&layer)?,
            digest: None,
        })
    });
    Ok(Chosen {
        digest: Digest::of(&config),
        reference,
        layers: layers.collect::<Result<_, Fault>>()?,
        config,
    })
}

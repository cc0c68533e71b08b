//! Decides which image of an OCI layout is meant: `index.json` names them, blobs lie under their digests.

use super::spool::blob_name;
use super::{Chosen, LayerFile, Spool, single};
use crate::digest::Digest;
use crate::error::Fault;
use crate::limits::Limits;
use crate::manifest::{self, Descriptor, Manifest, Platform};
use std::collections::HashSet;

/// Where an image's name is written: in full, and as a full name or a tag.
const NAMES: [&str; 2] = ["io.containerd.image.name", "org.opencontainers.image.ref.name"];
/// Deepest index within an index.
const DEPTH_MAX: usize = 3;

pub(super) fn choose(spool: &Spool, name: Option<&str>, limits: &Limits) -> Result<Chosen, Fault> {
    let index = spool.small("index.json", limits.manifest)?;
    let Manifest::Index(entries) = Manifest::parse(&index)? else {
        return Err(Fault::corrupt("its index.json is no index"));
    };
    let is_possible = |entry: &Descriptor| entry.platform.as_ref().is_none_or(Platform::is_ours);
    let (reference, entry) = single(candidates(entries.into_iter().filter(is_possible)), name)?;
    let (digest, config, layers) = image(spool, entry, limits)?;
    let layers = layers.into_iter().map(|layer| {
        Ok(LayerFile {
            path: spool.path(&blob_name(&layer.digest))?,
            digest: Some(layer.digest),
        })
    });
    Ok(Chosen {
        digest,
        reference,
        config: spool.blob(&config.digest, limits.config)?,
        layers: layers.collect::<Result<_, Fault>>()?,
    })
}

/// One for each image; an image that is listed under several names is one.
fn candidates(entries: impl Iterator<Item = Descriptor>) -> Vec<(Vec<String>, Digest)> {
    let mut found: Vec<(Vec<String>, Digest)> = Vec::new();
    for entry in entries {
        let names = NAMES.iter().filter_map(|key| entry.annotations.get(*key).cloned());
        match found.iter_mut().find(|(_, digest)| *digest == entry.digest) {
            Some((known, _)) => known.extend(names),
            None => found.push((names.collect(), entry.digest)),
        }
    }
    for (names, _) in &mut found {
        let mut seen = HashSet::new();
        names.retain(|name| seen.insert(name.clone()));
    }
    found
}

/// The manifest itself, through indexes of platforms.
fn image(spool: &Spool, entry: Digest, limits: &Limits) -> Result<(Digest, Descriptor, Vec<Descriptor>), Fault> {
    let mut digest = entry;
    for _ in 0..DEPTH_MAX {
        match Manifest::parse(&spool.blob(&digest, limits.manifest)?)? {
            Manifest::Image { config, layers } => return Ok((digest, config, layers)),
            Manifest::Index(manifests) => digest = manifest::choose(&manifests)?.digest,
        }
    }
    Err(Fault::corrupt("its indexes lead from one to the next"))
}

//! Decides what an archive of images holds, and which of them is meant.
//!
//! Its files are set aside under names of ours before anything is read: an archive may come as a
//! stream, with what describes it at the end, and no name in it ever becomes a path.

mod layout;
mod saved;
mod spool;

use crate::digest::Digest;
use crate::error::{Fault, ImageError};
use crate::limits::Limits;
use crate::reference::Reference;
use std::path::PathBuf;

pub(crate) use spool::Spool;

/// One image of an archive.
#[derive(Debug)]
pub(crate) struct Chosen {
    pub(crate) digest: Digest,
    pub(crate) reference: Option<Reference>,
    /// The text of its configuration.
    pub(crate) config: Vec<u8>,
    /// Lowest first.
    pub(crate) layers: Vec<LayerFile>,
}

#[derive(Debug)]
pub(crate) struct LayerFile {
    pub(crate) path: PathBuf,
    /// Of the file as it is, if the archive says.
    pub(crate) digest: Option<Digest>,
}

/// The image with this name, or the only one.
pub(crate) fn choose(spool: &Spool, name: Option<&str>, limits: &Limits) -> Result<Chosen, ImageError> {
    let chosen = if spool.has("index.json") && spool.has("oci-layout") {
        layout::choose(spool, name, limits)
    } else if spool.has("manifest.json") {
        saved::choose(spool, name, limits)
    } else {
        let why = "it is neither an OCI layout nor made by docker save";
        Err(Fault::unsupported(why))
    };
    chosen.map_err(|fault| fault.during("looking for the image in it"))
}

/// The one candidate that a name, or no name, leaves. Each is given with the names it has.
fn single<T>(candidates: Vec<(Vec<String>, T)>, name: Option<&str>) -> Result<(Option<Reference>, T), Fault> {
    let known: Vec<String> = candidates.iter().flat_map(|(names, _)| names.clone()).collect();
    let count = candidates.len();
    let is_meant = |names: &[String]| name.is_none_or(|name| names.iter().any(|other| is_same(other, name)));
    let mut left = candidates.into_iter().filter(|(names, _)| is_meant(names));
    match (left.next(), left.next()) {
        (Some((names, image)), None) => {
            let name = name.or(names.first().map(String::as_str));
            Ok((name.and_then(reference), image))
        }
        (None, _) => Err(Fault::NotFound(match name {
            Some(name) => format!("the archive has no image {name:?}, but {}", listed(&known)),
            None => "the archive has no image for this machine".into(),
        })),
        (Some(_), Some(_)) => Err(Fault::Invalid(format!(
            "the archive has {count} images, name one: {}",
            listed(&known)
        ))),
    }
}

fn listed(names: &[String]) -> String {
    if names.is_empty() {
        return "none with a name".into();
    }
    let names: Vec<&str> = names.iter().map(String::as_str).take(50).collect();
    names.join(", ")
}

fn is_same(one: &str, other: &str) -> bool {
    one == other || reference(one).is_some_and(|name| Some(name) == reference(other))
}

/// A tag alone is no name of an image.
fn reference(name: &str) -> Option<Reference> {
    let is_full = name.contains(['/', ':', '@']);
    is_full.then(|| name.parse().ok()).flatten()
}

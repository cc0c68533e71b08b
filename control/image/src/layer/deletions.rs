//! Decides which deletions of a layer have no effect: those in folders that hide all of lower layers anyway.
//!
//! Such a folder is shown by overlayfs as it is, deletions included: a listing would name files
//! that cannot be opened.

use super::entries::parts;
use super::place::{Root, is_opaque, is_whiteout, stat};
use crate::error::Fault;
use rustix::fs::AtFlags;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// The deletions of a layer, by the path that is deleted.
#[derive(Default)]
pub(super) struct Deletions {
    paths: Vec<Vec<u8>>,
}

impl Deletions {
    pub(super) fn add(&mut self, folder: &[&[u8]], name: &[u8]) {
        let path = [folder, &[name]].concat();
        self.paths.push(path.join(&b'/'));
    }

    /// Removes those without effect, once the layer is complete.
    pub(super) fn prune(&self, root: &Root) -> Result<(), Fault> {
        let mut known = HashMap::new();
        for path in &self.paths {
            let parts = parts(path)?;
            let Some((name, above)) = parts.split_last() else {
                continue;
            };
            if !hides_all(root, above, &mut known) {
                continue;
            }
            let folder = root.existing(above)?;
            if stat(&folder, name)?.is_some_and(|stat| is_whiteout(&stat)) {
                rustix::fs::unlinkat(&folder, OsStr::from_bytes(name), AtFlags::empty())?;
            }
        }
        Ok(())
    }
}

/// Whether a folder, or one above it, hides what lower layers have; asked once for each.
fn hides_all(root: &Root, folder: &[&[u8]], known: &mut HashMap<Vec<u8>, bool>) -> bool {
    let mut hides = false;
    for depth in 0..=folder.len() {
        let above = hides;
        let path = folder[..depth].join(&b'/');
        let look = || above || root.existing(&folder[..depth]).is_ok_and(|fd| is_opaque(&fd));
        hides = *known.entry(path).or_insert_with(look);
    }
    hides
}

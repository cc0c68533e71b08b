//! Decides what a collection must leave alone because someone uses it or is about to.

use crate::digest::Digest;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

/// How many hold each image and layer.
type Counts = HashMap<Digest, usize>;

/// All that is held.
#[derive(Debug, Default)]
pub(super) struct Holds {
    counts: Arc<Mutex<Counts>>,
}

/// What is held at one moment: nothing is added or let go while this is borrowed.
pub(super) struct Held<'a>(&'a mut Counts);

impl Held<'_> {
    pub(super) fn has(&self, digest: &Digest) -> bool {
        self.0.contains_key(digest)
    }
}

/// Keeps a set of images and layers until the last clone is dropped.
#[derive(Clone, Debug)]
pub(super) struct Hold {
    _set: Arc<Set>,
}

#[derive(Debug)]
struct Set {
    digests: Vec<Digest>,
    counts: Arc<Mutex<Counts>>,
}

impl Holds {
    /// Does something that must see the same as every other call of this.
    pub(super) fn locked<T>(&self, action: impl FnOnce(&mut Held<'_>) -> T) -> T {
        action(&mut Held(&mut self.counts.lock()))
    }

    pub(super) fn add(&self, held: &mut Held<'_>, digests: Vec<Digest>) -> Hold {
        for digest in &digests {
            *held.0.entry(*digest).or_default() += 1;
        }
        let set = Set {
            digests,
            counts: self.counts.clone(),
        };
        Hold { _set: Arc::new(set) }
    }
}

impl Drop for Set {
    fn drop(&mut self) {
        let mut counts = self.counts.lock();
        for digest in &self.digests {
            if let Some(count) = counts.get_mut(digest) {
                *count -= 1;
                if *count == 0 {
                    counts.remove(digest);
                }
            }
        }
    }
}

//! Decides what a store is: one folder with complete layers, and records of the images that need them.
//!
//! ```text
//! images/<digest>.json     an image, written when all its layers are there
//! layers/<diff id>/fs      a layer; layer.json beside it says how large it is
//! temp/                    what is not whole; emptied at every start
//! ```

mod add;
mod collect;
mod hold;
mod import;
mod places;
mod pull;
mod record;
mod single;

pub use collect::Collected;

use crate::config::Config;
use crate::digest::Digest;
use crate::error::{Fault, ImageError, at};
use crate::limits::Limits;
use crate::reference::Reference;
use crate::user::{self, User};
use crate::{temp, view};
use hold::{Hold, Holds};
use places::Places;
use record::{ImageRecord, LayerRecord};
use rustix::fs::FlockOperation;
use single::SingleFlight;
use std::collections::HashSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A store of images. Clones are the same store.
#[derive(Clone, Debug)]
pub struct Images {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    places: Places,
    limits: Limits,
    holds: Holds,
    /// By layer: two pulls of the same one fetch it once.
    flights: SingleFlight,
    /// Of the whole folder, against a second process.
    _lock: File,
}

/// An image that is there. While a value of it lives, [`Images::collect`] leaves it and its layers alone.
#[derive(Clone, Debug)]
pub struct Image {
    /// Of the manifest for this machine; what was imported without one has the digest of its configuration.
    pub digest: Digest,
    /// The name it was last pulled or imported under.
    pub reference: Option<Reference>,
    pub config: Config,
    /// Diff ids, lowest first.
    pub layers: Vec<Digest>,
    /// Dropped with this value, that is all it is for.
    _hold: Hold,
}

impl Images {
    /// Opens or makes a store; removes what an earlier process left half written. Needs root, and blocks.
    pub fn open(folder: &Path, limits: Limits) -> Result<Self, ImageError> {
        let places = Places::make(folder)?;
        let lock = File::create(places.lock()).map_err(at("opening", &places.lock()))?;
        if rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            let why = "another process has this store open";
            return Err(Fault::Invalid(why.into()).during(format_args!("opening {}", folder.display())));
        }
        for left in places::entries(&places.temp())? {
            temp::remove(&left).map_err(at("removing", &left))?;
        }
        Ok(Self {
            shared: Arc::new(Shared {
                places,
                limits,
                holds: Holds::default(),
                flights: SingleFlight::default(),
                _lock: lock,
            }),
        })
    }

    /// The image of this digest, if it is there.
    pub fn get(&self, digest: &Digest) -> Result<Option<Image>, ImageError> {
        let shared = &self.shared;
        // Under the lock: once read it is held, or a collection has removed it.
        shared.holds.locked(|held| {
            let record = ImageRecord::read(&shared.places.image(digest))?;
            Ok(record.map(|record| {
                let hold = shared.holds.add(held, record.needs());
                Image::new(record, hold)
            }))
        })
    }

    /// Every image, by digest.
    pub fn list(&self) -> Result<Vec<Image>, ImageError> {
        let digests = self.shared.places.images()?;
        let found = digests.iter().filter_map(|digest| self.get(digest).transpose());
        found.collect()
    }

    /// The folders of an image's layers, topmost first, as overlayfs takes them; none twice.
    ///
    /// Options of `mount(2)` have to fit into a page: an image of many layers is mounted by
    /// `fsconfig(2)` with one `lowerdir+` for each.
    pub fn lower_dirs(&self, image: &Image) -> Result<Vec<PathBuf>, ImageError> {
        let mut seen = HashSet::new();
        let mut folders = Vec::new();
        for layer in image.layers.iter().rev() {
            let place = self.shared.places.layer(layer);
            let missing = || Fault::corrupt("it is not in the store").during(format_args!("layer {layer}"));
            let record = LayerRecord::read(&place)?.ok_or_else(missing)?;
            // What a layer has twice, its upper copy hides.
            if seen.insert(layer) {
                folders.push(place.join(places::ROOT));
            }
            // The kernel does not look at this mark on the root of a layer.
            if record.opaque {
                break;
            }
        }
        Ok(folders)
    }

    /// Who `user` is in this image, by its own accounts. Reads two small files.
    ///
    /// Takes `user`, `uid`, `user:group`, any mix of names and numbers, or nothing, which is user 0.
    pub fn resolve_user(&self, image: &Image, user: &str) -> Result<User, ImageError> {
        let layers = self.lower_dirs(image)?;
        let read = |path| view::read(&layers, path, user::ACCOUNTS_MAX);
        let accounts = || -> Result<User, Fault> {
            let (passwd, group) = (read("/etc/passwd")?, read("/etc/group")?);
            user::resolve(user, &passwd.unwrap_or_default(), &group.unwrap_or_default())
        };
        accounts().map_err(|fault| {
            // It may be as long as an image wants.
            let shown: String = user.chars().take(100).collect();
            fault.during(format_args!("looking for user {shown:?} in image {}", image.digest))
        })
    }

    /// Bytes of all layers, about as they lie on disk.
    pub fn usage(&self) -> Result<u64, ImageError> {
        let mut bytes = 0;
        for layer in self.shared.places.layers()? {
            let record = LayerRecord::read(&self.shared.places.layer(&layer))?;
            bytes += record.map_or(0, |record| record.bytes);
        }
        Ok(bytes)
    }
}

impl Image {
    fn new(record: ImageRecord, hold: Hold) -> Self {
        Self {
            digest: record.digest,
            reference: record.reference.and_then(|text| text.parse().ok()),
            config: record.config,
            layers: record.layers,
            _hold: hold,
        }
    }
}

//! Decides how an image gets into the store: each layer once, whole or not at all; the record last.

use super::hold::Hold;
use super::places::ROOT;
use super::record::{ImageRecord, LayerRecord};
use super::{Image, Images, Shared};
use crate::archive::LayerFile;
use crate::digest::{Digest, Hashing};
use crate::error::{Fault, ImageError, at};
use crate::layer;
use crate::limits::Budget;
use crate::manifest::Descriptor;
use crate::progress::{Progress, Watch};
use crate::registry::Registry;
use crate::temp::Temp;
use futures_util::{TryStreamExt, stream};
use std::fs::{DirBuilder, File};
use std::io::{self, BufReader};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::Arc;

/// Where a layer comes from.
pub(super) enum Source {
    Registry(Arc<Registry>, Descriptor),
    Archive(LayerFile),
}

/// A layer's blob on disk.
struct Blob {
    path: PathBuf,
    /// What it has to be, if that is not known yet to be so.
    digest: Option<Digest>,
    /// Removed when it is unpacked.
    _temp: Option<Temp>,
}

/// Ends what is being unpacked for an image when nobody waits for it any more.
struct Stop(Arc<Budget>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.bytes.exhaust();
    }
}

impl Images {
    /// Adds what an image lacks, then its record.
    pub(super) async fn add(
        &self,
        record: ImageRecord,
        sources: Vec<Source>,
        watch: Watch<'_>,
    ) -> Result<Image, ImageError> {
        let shared = &self.shared;
        // From here on no collection removes what is found to be there.
        let hold = shared.holds.locked(|held| shared.holds.add(held, record.needs()));
        let budget = Arc::new(Budget::new(&shared.limits));
        let _stop = Stop(budget.clone());
        let layers = record.layers.iter().copied().zip(sources).map(Ok);
        let added = stream::iter(layers).map_ok(|(layer, source)| {
            let (budget, hold) = (budget.clone(), hold.clone());
            async move {
                let added = self.add_layer(layer, source, (budget, hold), watch).await;
                added.map_err(|error| error.within(format_args!("layer {layer}")))
            }
        });
        added
            .try_buffer_unordered(shared.limits.at_once.max(1))
            .try_for_each(|()| async { Ok(()) })
            .await?;
        record.write(&shared.places.temp(), &shared.places.image(&record.digest))?;
        Ok(Image::new(record, hold))
    }

    async fn add_layer(
        &self,
        layer: Digest,
        source: Source,
        (budget, hold): (Arc<Budget>, Hold),
        watch: Watch<'_>,
    ) -> Result<(), ImageError> {
        let shared = self.shared.clone();
        let turn = shared.flights.turn(&layer).await;
        if let Some(there) = LayerRecord::read(&shared.places.layer(&layer))? {
            let counted = budget
                .bytes
                .take(there.bytes)
                .and_then(|()| budget.files.take(there.files));
            counted.map_err(|fault| fault.during("counting it"))?;
            watch(Progress::Kept { layer });
            return Ok(());
        }
        let blob = self.blob(layer, source, watch).await?;
        watch(Progress::Unpacking { layer });
        let unpacking = tokio::task::spawn_blocking(move || {
            // It goes on when nobody waits for it: the turn and the hold have to last as long.
            let _kept = (turn, hold);
            unpack(&shared, &layer, &blob, &budget)
        });
        let joined = unpacking.await.map_err(|error| Fault::Io(io::Error::other(error)));
        joined.map_err(|fault| fault.during("unpacking it"))??;
        watch(Progress::Unpacked { layer });
        Ok(())
    }

    async fn blob(&self, layer: Digest, source: Source, watch: Watch<'_>) -> Result<Blob, ImageError> {
        match source {
            Source::Archive(file) => Ok(Blob {
                path: file.path,
                digest: file.digest,
                _temp: None,
            }),
            Source::Registry(registry, blob) => {
                let temp = Temp::name(&self.shared.places.temp());
                let of = blob.size;
                let told = |bytes| watch(Progress::Downloading { layer, bytes, of });
                let downloaded = registry.download(&blob, temp.path(), &told).await;
                downloaded.map_err(|fault| fault.during(format_args!("downloading blob {}", blob.digest)))?;
                Ok(Blob {
                    path: temp.path().to_owned(),
                    digest: None,
                    _temp: Some(temp),
                })
            }
        }
    }
}

fn unpack(shared: &Shared, diff_id: &Digest, blob: &Blob, budget: &Budget) -> Result<(), ImageError> {
    let folder = Temp::folder(&shared.places.temp())?;
    let root = folder.path().join(ROOT);
    let made = DirBuilder::new().mode(0o755).create(&root);
    // Not what the process's mask left of it.
    let made = made.and_then(|()| std::fs::set_permissions(&root, PermissionsExt::from_mode(0o755)));
    made.map_err(at("making", &root))?;
    let file = File::open(&blob.path).map_err(at("opening", &blob.path))?;
    let mut reader = BufReader::with_capacity(128 << 10, Hashing::new(file));
    let unpacked = layer::unpack(&mut reader, &root, diff_id, budget)?;
    if let Some(digest) = &blob.digest {
        let verified = reader.into_inner().verify(digest);
        verified.map_err(|fault| fault.during("reading it from the archive"))?;
    }
    LayerRecord::settle(&unpacked, folder, &shared.places.layer(diff_id))
}

//! Decides what of an image is fetched from its registry, and in which order.

use super::add::Source;
use super::record::ImageRecord;
use super::{Image, Images};
use crate::auths::Auths;
use crate::config::ConfigFile;
use crate::digest::{Digest, Hasher};
use crate::error::{Fault, ImageError};
use crate::limits::Limits;
use crate::manifest::{self, Descriptor, Manifest};
use crate::progress::{Progress, Watch};
use crate::reference::Reference;
use crate::registry::Registry;
use std::sync::Arc;

/// The manifest of one image.
struct Resolved {
    digest: Digest,
    config: Descriptor,
    layers: Vec<Descriptor>,
}

impl Images {
    /// Fetches what is missing of an image. A name with a digest that is there asks nobody.
    ///
    /// When it fails or is dropped, layers that were complete stay for the next try, until [`Images::collect`].
    pub async fn pull(&self, reference: &str, auths: &Auths, watch: Watch<'_>) -> Result<Image, ImageError> {
        let reference: Reference = reference.parse()?;
        let limit = self.shared.limits.whole;
        let pulling = tokio::time::timeout(limit, self.pull_now(&reference, auths, watch));
        let pulled = pulling.await.unwrap_or_else(|_| {
            let what = "the pull";
            Err(Fault::TimedOut { what, limit }.during("fetching it"))
        });
        pulled.map_err(|error| error.within(format_args!("pulling {reference}")))
    }

    async fn pull_now(&self, reference: &Reference, auths: &Auths, watch: Watch<'_>) -> Result<Image, ImageError> {
        if let Some(digest) = reference.digest()
            && let Some(image) = self.get(digest)?
        {
            return Ok(image);
        }
        let limits = &self.shared.limits;
        let credentials = auths.of(reference.registry()).await;
        let credentials = credentials.map_err(|fault| fault.during("looking for credentials"))?;
        let registry = Registry::new(reference, credentials, limits);
        let registry = Arc::new(registry.map_err(|fault| fault.during("setting up the client"))?);
        let resolved = resolve(&registry, reference, limits).await;
        let resolved = resolved.map_err(|fault| fault.during("fetching its manifest"))?;
        watch(Progress::Resolved {
            digest: resolved.digest,
            layers: resolved.layers.len(),
        });
        let file = configuration(&registry, &resolved, limits).await;
        let file = file.map_err(|fault| fault.during("fetching its configuration"))?;
        let record = ImageRecord {
            digest: resolved.digest,
            reference: Some(reference.to_string()),
            config: file.config,
            layers: file.diff_ids,
        };
        let layers = resolved.layers.into_iter();
        let sources = layers.map(|layer| Source::Registry(registry.clone(), layer));
        self.add(record, sources.collect(), watch).await
    }
}

async fn resolve(registry: &Registry, reference: &Reference, limits: &Limits) -> Result<Resolved, Fault> {
    let (bytes, digest) = match (reference.digest(), reference.tag()) {
        (Some(digest), _) => (by_digest(registry, digest, limits).await?, *digest),
        (None, tag) => {
            let bytes = registry.manifest(tag.unwrap_or("latest"), limits.manifest).await?;
            let digest = Digest::of(&bytes);
            (bytes, digest)
        }
    };
    let (manifest, digest) = match Manifest::parse(&bytes)? {
        Manifest::Index(manifests) => {
            let digest = manifest::choose(&manifests)?.digest;
            (Manifest::parse(&by_digest(registry, &digest, limits).await?)?, digest)
        }
        manifest => (manifest, digest),
    };
    let Manifest::Image { config, layers } = manifest else {
        return Err(Fault::unsupported("its index leads to another index"));
    };
    Ok(Resolved { digest, config, layers })
}

async fn by_digest(registry: &Registry, digest: &Digest, limits: &Limits) -> Result<Vec<u8>, Fault> {
    let bytes = registry.manifest(&digest.to_string(), limits.manifest).await?;
    let mut hasher = Hasher::default();
    hasher.update(&bytes);
    hasher.verify(digest)?;
    Ok(bytes)
}

/// The configuration, once it is known that the image is not too large to be fetched.
async fn configuration(registry: &Registry, image: &Resolved, limits: &Limits) -> Result<ConfigFile, Fault> {
    let max = limits.compressed;
    let sizes = image.layers.iter().map(|layer| layer.size);
    if sizes.fold(0, u64::saturating_add) > max {
        let what = "the number of bytes of its layers";
        return Err(Fault::TooLarge { what, max });
    }
    let bytes = registry.blob(&image.config.digest, limits.config).await?;
    let file = ConfigFile::parse(&bytes)?;
    check_layers(&file, image.layers.len(), limits)?;
    Ok(file)
}

/// A layer for each diff id, and not too many.
pub(super) fn check_layers(file: &ConfigFile, layers: usize, limits: &Limits) -> Result<(), Fault> {
    if layers > limits.layers {
        return Err(Fault::TooLarge {
            what: "the number of its layers",
            max: limits.layers as u64,
        });
    }
    if file.diff_ids.len() != layers {
        return Err(Fault::corrupt(format_args!(
            "its manifest has {layers} layers, its configuration {}",
            file.diff_ids.len()
        )));
    }
    Ok(())
}

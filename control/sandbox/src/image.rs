//! Decides which image a sandbox gets, and that it stays on this machine for as long as the sandbox does.

use crate::node::Node;
use crate::order::{Root, StartOrder};
use miren_image::{Digest, Image, ImageError, User};
use std::path::PathBuf;

/// Why a sandbox does not get its image.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoImage {
    #[error("{0} is not on this machine any more; deploy it again")]
    Gone(Digest),
    #[error("this node keeps no images")]
    NoStore,
    #[error(transparent)]
    Unusable(#[from] ImageError),
}

/// An image, where its layers are, and who runs in it.
pub(crate) struct Found {
    pub(crate) image: Image,
    /// Topmost first.
    pub(crate) layers: Vec<PathBuf>,
    pub(crate) user: User,
}

/// Reads small files.
pub(crate) fn find(node: &Node, digest: &Digest) -> Result<Found, NoImage> {
    let images = node.config.images.as_ref().ok_or(NoImage::NoStore)?;
    let image = images.get(digest)?.ok_or(NoImage::Gone(*digest))?;
    Ok(Found {
        layers: images.lower_dirs(&image)?,
        user: images.resolve_user(&image, &image.config.user)?,
        image,
    })
}

/// The image of a sandbox that runs already. One that is damaged does not end it.
pub(crate) fn of_running(node: &Node, order: &StartOrder) -> Option<Image> {
    let Root::Image(digest) = &order.root else { return None };
    let found = node.config.images.as_ref().map(|images| images.get(digest));
    found?.unwrap_or_else(|error| {
        tracing::warn!(sandbox = %order.id, %error, "its image cannot be read");
        None
    })
}

//! Why there is no image, in words for whoever deployed the folder.

use miren_api::beneath::Unreadable;
use miren_image::ImageError;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Why a build did not end with an image.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// None that is asked for, or none at all.
    #[error(
        "{tried}; install buildah on the server (apt-get install buildah), or set build.base to run the folder without a build"
    )]
    NoBuilder { tried: String },
    #[error("{file} {why}; make it a file, or a link to one in the folder")]
    Outside { file: String, why: Unreadable },
    #[error(
        "{image} is in {registry}, which may be this machine or its own network, where builds do not go; if they are to use that registry, name it in images.registries of the server's control.toml"
    )]
    Registry { image: String, registry: String },
    #[error("credentials for a base image: {0}")]
    Login(ImageError),
    #[error("the build needed more memory than it may use (images.build_memory): {0}")]
    OutOfMemory(Box<Self>),
    #[error("{doing}: {status}{tail}")]
    Failed { doing: String, status: String, tail: Tail },
    #[error("{doing} took longer than {limit:?} (images.build_timeout)")]
    TooLong { doing: String, limit: Duration },
    #[error("{doing} {path}: {source}", path = .path.display())]
    Io {
        doing: &'static str,
        path: PathBuf,
        source: io::Error,
    },
}

impl BuildError {
    pub(crate) fn io(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { doing, path, source }
    }
}

/// The last lines that a builder wrote.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tail(pub(crate) Vec<String>);

impl std::fmt::Display for Tail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|line| write!(f, "\n  {line}"))
    }
}

//! Decides how the images that a deploy names get to this machine: a few at a time, each with its progress.

use crate::artifact;
use crate::executor::Executor;
use crate::record::Content;
use miren_api::app_file::{Build, dockerfile_of};
use miren_api::id::AppName;
use miren_api::resource::NodeFault;
use miren_api::settings::Bytes;
use miren_build::{BuildError, Builds};
use miren_image::{Auths, Digest, Image, ImageError, Images, Progress, Reference};
use miren_sandbox::{node_fault_of_io, node_fault_of_pull};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use tokio::sync::Semaphore;

mod building;

pub use crate::record::Pins;

/// Images that are there, by the names a version gives them.
pub type Fetched = BTreeMap<String, Image>;

/// How often a growing layer is worth a word.
const WORTH_TELLING: u64 = 8 << 20;

/// Images kept that were sent last.
const SENT: usize = 16;

/// Fetches images for all deploys of this node.
pub struct Fetcher {
    pub store: Images,
    auths: Auths,
    turns: Semaphore,
    builds: Arc<Builds>,
    /// Sent lately, newest first; not yet named by any deploy, perhaps.
    sent: Mutex<VecDeque<Image>>,
}

/// What a version is made of.
#[derive(Clone)]
pub struct Wanted<'w> {
    pub app: &'w AppName,
    pub content: &'w Content,
    /// Has the folder that a Dockerfile is in.
    pub artifacts: &'w Path,
    /// As its folder says.
    pub build: Build,
}

/// Why a deploy does not get its image.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error(transparent)]
    Image(#[from] ImageError),
    /// Nobody but its sender has what was sent as an archive.
    #[error("image {0} is not on this machine; send it again with --image-archive")]
    Gone(Digest),
    /// Building it once more might make another one.
    #[error("the image that {0} became is not on this machine any more; deploy the folder again")]
    Unbuilt(String),
    #[error(transparent)]
    Build(#[from] BuildError),
    #[error("{0}")]
    Settings(String),
    #[error("a network for the build: {0}")]
    Outlet(String),
    #[error("reading what was built: {0}")]
    Archive(std::io::Error),
    #[error("the node stops")]
    Stopping,
}

impl FetchError {
    /// Whether it is the node's, and passes without the deploy changing.
    pub fn node_fault(&self) -> Option<NodeFault> {
        match self {
            Self::Image(error) => node_fault_of_pull(&error.fault),
            Self::Archive(error) | Self::Build(BuildError::Io { source: error, .. }) => node_fault_of_io(error),
            _ => None,
        }
    }
}

/// Why there are no images, for whoever decides what comes next.
#[derive(Clone, Debug)]
pub struct NotFetched {
    pub why: String,
    /// None: trying again does not help.
    pub node_fault: Option<NodeFault>,
}

impl From<FetchError> for NotFetched {
    fn from(error: FetchError) -> Self {
        Self {
            why: error.to_string(),
            node_fault: error.node_fault(),
        }
    }
}

impl Fetcher {
    /// `at_once`: images fetched at a time; the others wait.
    pub fn new(store: Images, auths: Auths, at_once: usize, builds: Builds) -> Self {
        Self {
            store,
            auths,
            builds: Arc::new(builds),
            turns: Semaphore::new(at_once),
            sent: Mutex::default(),
        }
    }

    /// For an image that was just sent: the deploy that wants it comes next.
    pub fn keep_for_a_while(&self, image: Image) {
        let mut sent = self.sent.lock();
        sent.truncate(SENT - 1);
        sent.push_front(image);
    }

    /// Every image of a version, pulled or built. One whose digest is known is taken under that digest only.
    ///
    /// `tell` gets what is to be read by people.
    pub async fn fetch(
        &self,
        Wanted {
            app,
            content,
            artifacts,
            build,
        }: Wanted<'_>,
        executor: &dyn Executor,
        tell: &(dyn Fn(String) + Send + Sync),
    ) -> Result<Fetched, FetchError> {
        let mut fetched = Fetched::new();
        for (name, pinned) in &content.images {
            let image = match (dockerfile_of(name), self.find_kept(name, *pinned).await?) {
                (_, Some(image)) => image,
                (Some(dockerfile), None) if pinned.is_some() => return Err(FetchError::Unbuilt(dockerfile.to_owned())),
                (Some(dockerfile), None) => {
                    let folder = artifact::folder(artifacts, &content.artifact);
                    let wanted = building::Wanted {
                        app,
                        folder,
                        dockerfile,
                        builder: build.builder,
                    };
                    self.build(wanted, executor, tell).await?
                }
                (None, None) => self.pull(name, *pinned, tell).await?,
            };
            fetched.insert(name.clone(), image);
        }
        Ok(fetched)
    }

    /// One that need not be looked for elsewhere.
    async fn find_kept(&self, name: &str, pinned: Option<Digest>) -> Result<Option<Image>, FetchError> {
        let sent: Option<Digest> = name.parse().ok();
        match pinned.or(sent) {
            Some(digest) => match (self.find(digest).await?, sent) {
                (None, Some(digest)) => Err(FetchError::Gone(digest)),
                (found, _) => Ok(found),
            },
            None => Ok(None),
        }
    }

    async fn pull(
        &self,
        name: &str,
        pinned: Option<Digest>,
        tell: &(dyn Fn(String) + Send + Sync),
    ) -> Result<Image, FetchError> {
        let reference = match pinned {
            Some(digest) => pinned_to(&name.parse()?, &digest),
            None => name.to_owned(),
        };
        tell(format!("waiting to pull {name}"));
        let _turn = self.turns.acquire().await.map_err(|_| FetchError::Stopping)?;
        let tally = Mutex::new(Tally::default());
        let watch = |progress| {
            if let Some(story) = tally.lock().take(progress) {
                tell(format!("pulling {name}: {story}"));
            }
        };
        Ok(self.store.pull(&reference, &self.auths, &watch).await?)
    }

    /// An image that is there.
    pub async fn find(&self, digest: Digest) -> Result<Option<Image>, ImageError> {
        let store = self.store.clone();
        let found = tokio::task::spawn_blocking(move || store.get(&digest)).await;
        // It only ends without an answer when the process does.
        found.unwrap_or(Ok(None))
    }
}

fn pinned_to(reference: &Reference, digest: &Digest) -> String {
    format!("{}/{}@{digest}", reference.registry(), reference.repository())
}

/// How far one pull is.
#[derive(Debug, Default)]
struct Tally {
    layers: usize,
    ready: usize,
    bytes: HashMap<Digest, (u64, u64)>,
    told: u64,
}

impl Tally {
    /// What is to be said about a step, if anything.
    fn take(&mut self, progress: Progress) -> Option<String> {
        match progress {
            Progress::Resolved { layers, .. } => self.layers = layers,
            Progress::Kept { .. } | Progress::Unpacked { .. } => self.ready += 1,
            Progress::Unpacking { .. } => return None,
            Progress::Downloading { layer, bytes, of } => {
                self.bytes.insert(layer, (bytes, of));
                if self.fetched() < self.told + WORTH_TELLING {
                    return None;
                }
            }
        }
        self.told = self.fetched();
        let whole: u64 = self.bytes.values().map(|(_, of)| of).sum();
        let layers = format!("{} of {} layers", self.ready, self.layers);
        Some(match whole {
            0 => layers,
            whole => format!("{layers}, {} of {}", rounded(self.told), rounded(whole)),
        })
    }

    fn fetched(&self) -> u64 {
        self.bytes.values().map(|(bytes, _)| bytes).sum()
    }
}

/// Whole mebibytes, or kibibytes, so that the number stays short.
fn rounded(bytes: u64) -> Bytes {
    let unit = if bytes >= 1 << 20 { 1 << 20 } else { 1 << 10 };
    Bytes(bytes / unit * unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pull_is_told_by_whole_layers_and_large_pieces() {
        let mut tally = Tally::default();
        let layer = Digest::of(b"layer");
        let digest = Digest::of(b"image");
        let resolved = tally.take(Progress::Resolved { digest, layers: 2 });
        assert_eq!(resolved.as_deref(), Some("0 of 2 layers"));
        assert_eq!(
            tally.take(Progress::Kept { layer: digest }).as_deref(),
            Some("1 of 2 layers")
        );
        let mut at = |bytes| {
            tally.take(Progress::Downloading {
                layer,
                bytes,
                of: 20 << 20,
            })
        };
        assert_eq!(at(4 << 20), None);
        assert_eq!(at(9 << 20).as_deref(), Some("1 of 2 layers, 9MiB of 20MiB"));
        assert_eq!(at(10 << 20), None);
        assert_eq!(tally.take(Progress::Unpacking { layer }), None);
        let done = tally.take(Progress::Unpacked { layer });
        assert_eq!(done.as_deref(), Some("2 of 2 layers, 10MiB of 20MiB"));
    }

    #[test]
    fn a_known_digest_is_asked_for_in_place_of_a_tag() {
        let digest = Digest::of(b"image");
        let reference = "localhost:5000/shop:v1".parse().unwrap();
        assert_eq!(pinned_to(&reference, &digest), format!("localhost:5000/shop@{digest}"));
    }
}

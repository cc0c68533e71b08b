//! Decides which builder makes an image, when, and within which bounds.

use crate::archive::Archive;
use crate::buildkit::BUILDKIT;
use crate::docker::DOCKER;
use crate::error::BuildError;
use crate::job::Tell;
use crate::program::Programs;
use crate::registry::{self, Base};
use crate::turn::Turn;
use crate::{base, buildah, buildkit, context, docker, storage};
use miren_api::app_file::Builder;
use miren_image::{Auths, Registries};
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// Where layers were as long as builders were the host's root.
const FORMER_LAYERS: &str = "buildah";

/// In the order in which they are looked for.
const BUILDERS: [Builder; 3] = [Builder::Buildkit, Builder::Buildah, Builder::Docker];

/// What builds need to know of their node.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Keeps buildah's layers from build to build, and what is under way.
    pub folder: PathBuf,
    /// Empty: roots of builds are put together there, each where only its own processes see it.
    pub run_dir: PathBuf,
    /// A program that begins with [`helper_main_if_asked`](crate::helper_main_if_asked).
    pub helper: PathBuf,
    /// Credentials for registries; a builder is only handed those that it needs.
    pub auths: Auths,
    /// Those that the operator named.
    pub registries: Registries,
    /// Those that are spoken to without TLS, as host or host:port.
    pub plain_http: Vec<String>,
    /// The host's user and group that is root in builds; those after it are their other users.
    pub first_user: u32,
    /// Longest build, from its turn on.
    pub limit: Duration,
    /// What all processes of a build together may use, bytes.
    pub memory: u64,
    /// Most processes and threads of a build.
    pub processes: u64,
    /// Size from which buildah's layers are thrown away after a build, bytes.
    pub cache: u64,
    /// Looked through for builders before the usual places.
    pub programs: Option<PathBuf>,
}

/// Makes images of folders, one at a time: what serves has the better part of the machine.
#[derive(Debug)]
pub struct Builds {
    pub(crate) settings: Settings,
    pub(crate) programs: Programs,
    turns: Arc<Semaphore>,
}

/// A folder to make an image of.
#[derive(Clone, Copy, Debug)]
pub struct Order<'o> {
    /// Name of the app whose folder it is; the layers of one are never used for another.
    pub app: &'o str,
    pub folder: &'o Path,
    /// Path of the Dockerfile in it.
    pub dockerfile: &'o str,
    /// None: the first that is there.
    pub builder: Option<Builder>,
    /// The part of the machine that a builder without isolation of its own uses. None: no network, and no limits.
    pub outside: Option<&'o Outside>,
}

/// What a build sees of the machine besides its folder.
#[derive(Clone, Debug)]
pub struct Outside {
    /// A network namespace.
    pub network: PathBuf,
    /// Below the root of every hierarchy.
    pub cgroup: String,
    /// In the form of `resolv.conf`: servers that can be reached from that namespace.
    pub resolvers: String,
}

/// One build that has its turn.
pub(crate) struct Build<'b> {
    pub(crate) builds: &'b Arc<Builds>,
    pub(crate) order: Order<'b>,
    /// The file of the folder that says what is left out of it, by its path there.
    pub(crate) rules: Option<String>,
    /// Images that the Dockerfile names.
    pub(crate) bases: Vec<Base>,
    pub(crate) turn: Arc<Turn>,
    pub(crate) tell: Tell<'b>,
}

impl Builds {
    /// Makes its folders; what an earlier process had under way is removed.
    ///
    /// # Errors
    /// When the folders cannot be made.
    pub fn open(settings: Settings) -> io::Result<Self> {
        let under_way = settings.under_way();
        for folder in [&settings.folder, &settings.run_dir] {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        for folder in [&under_way, &settings.folder.join(FORMER_LAYERS)] {
            storage::put_aside(&settings, folder)?;
        }
        storage::remove_discarded(&settings)?;
        fs::DirBuilder::new().mode(0o700).create(&under_way)?;
        Ok(Self {
            programs: Programs::new(settings.programs.as_deref()),
            settings,
            turns: Arc::new(Semaphore::new(1)),
        })
    }

    /// Makes an image. `tell` gets every line that the builder writes. A build that is dropped is killed.
    ///
    /// # Errors
    /// Why there is none, with the last lines of the builder.
    pub async fn build(self: &Arc<Self>, order: Order<'_>, tell: Tell<'_>) -> Result<Archive, BuildError> {
        let (folder, dockerfile) = (order.folder.to_owned(), order.dockerfile.to_owned());
        let checking = tokio::task::spawn_blocking(move || context::check(&folder, &dockerfile));
        let checked = checking.await.map_err(io::Error::other);
        let context = checked.map_err(BuildError::io("reading", order.dockerfile))??;
        let builder = self.choose(order.builder).await?;
        let mut images = base::of(&context.dockerfile);
        if builder != Builder::Buildah {
            images.extend(base::frontend(&context.dockerfile));
        }
        let bases = registry::admit(&images, &self.settings.registries)?;
        if self.turns.available_permits() == 0 {
            tell("waiting for another build".to_owned());
        }
        let permit = Arc::clone(&self.turns).acquire_owned().await;
        let permit = permit.map_err(|closed| BuildError::io("waiting for", "a turn")(io::Error::other(closed)))?;
        let (turn, over) =
            Turn::new(self, permit).map_err(BuildError::io("making a folder in", &self.settings.folder))?;
        tell(format!("building {} with {}", order.dockerfile, builder.as_str()));
        let build = Build {
            builds: self,
            order,
            rules: context.rules,
            bases,
            turn: Arc::new(turn),
            tell,
        };
        match tokio::time::timeout(self.settings.limit, build.run(builder)).await {
            Ok(built) => {
                // Its end is when that has been cleared away.
                let _ = over.await;
                built
            }
            Err(_) => Err(BuildError::TooLong {
                doing: format!("building {}", order.dockerfile),
                limit: self.settings.limit,
            }),
        }
    }

    /// Throws away what builds of an app left for its next one: an app that gets its name later has none of it. Blocks.
    ///
    /// # Errors
    /// When it cannot be moved out of the way.
    pub fn forget(&self, app: &str) -> io::Result<()> {
        storage::discard(&self.settings, app)
    }

    /// The one that was asked for, or the first that answers.
    async fn choose(&self, wanted: Option<Builder>) -> Result<Builder, BuildError> {
        let candidates = wanted.map_or(BUILDERS.to_vec(), |builder| vec![builder]);
        let mut missing = Vec::new();
        for builder in candidates {
            let answer = match builder {
                Builder::Buildkit => BUILDKIT.answers(&self.programs).await,
                Builder::Buildah => buildah::answers(&self.programs),
                Builder::Docker => DOCKER.answers(&self.programs).await,
            };
            match answer {
                Ok(()) => return Ok(builder),
                Err(why) => missing.push(why),
            }
        }
        Err(BuildError::NoBuilder {
            tried: missing.join(", "),
        })
    }
}

impl Settings {
    pub(crate) fn under_way(&self) -> PathBuf {
        self.folder.join("under-way")
    }

    /// One that nothing has.
    pub(crate) fn new_path(&self, kind: &str) -> PathBuf {
        self.under_way().join(format!("{:016x}.{kind}", rand::random::<u64>()))
    }
}

impl Build<'_> {
    async fn run(self, builder: Builder) -> Result<Archive, BuildError> {
        match builder {
            Builder::Buildkit => buildkit::build(&self).await?,
            Builder::Buildah => buildah::build(&self).await?,
            Builder::Docker => docker::build(&self).await?,
        }
        let (image, archive) = (
            self.turn.scratch().image(),
            Archive::new(self.settings().new_path("tar")),
        );
        fs::rename(&image, archive.path()).map_err(BuildError::io("taking the image", &image))?;
        Ok(archive)
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.builds.settings
    }

    /// The Dockerfile, as a builder is given it.
    pub(crate) fn dockerfile(&self) -> PathBuf {
        self.order.folder.join(self.order.dockerfile)
    }

    /// What the builder says that it built. Blocks for one short line.
    pub(crate) fn built(&self) -> Result<String, BuildError> {
        let path = self.turn.scratch().id();
        let id = fs::read_to_string(&path).map_err(BuildError::io("reading", &path))?;
        Ok(id.trim().to_owned())
    }
}

//! `[build]`: whether the folder becomes an image of its own, and what is under it otherwise.

use super::{Base, limits};
use crate::settings::Table;
use serde::{Deserialize, Serialize};
use std::path::{Component, Path};

/// Built if the folder has one, unless `[build]` says otherwise; the first that is there.
pub const DOCKERFILES: [&str; 2] = ["Dockerfile.miren", "Dockerfile"];
/// Begins what stands for the image that a Dockerfile of the folder becomes. No name of an image begins like this.
const BUILT: &str = "./";

/// A program that makes images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Builder {
    Buildkit,
    Buildah,
    Docker,
}

impl Builder {
    /// As in `build.builder`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Buildkit => "buildkit",
            Self::Buildah => "buildah",
            Self::Docker => "docker",
        }
    }
}

/// What is built of a folder.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Build {
    /// Path of a Dockerfile in the folder.
    pub dockerfile: Option<String>,
    /// None: the first that the server has.
    pub builder: Option<Builder>,
}

/// What stands for the image that this Dockerfile becomes, where an image is named.
pub(super) fn image_of(dockerfile: &str) -> String {
    format!("{BUILT}{dockerfile}")
}

/// The Dockerfile that is built where this image is named; none for an image that is there already.
pub fn dockerfile_of(image: &str) -> Option<&str> {
    image.strip_prefix(BUILT)
}

/// What `[build]` says.
#[derive(Default)]
pub(super) struct Declared {
    pub(super) base: Base,
    pub(super) build: Build,
}

/// `has`: whether the folder has such a file. `is_image`: the app runs an image that is there already.
pub(super) fn declare(root: &mut Table<'_, '_, '_>, has: &dyn Fn(&str) -> bool, is_image: bool) -> Declared {
    root.table("build", |build| {
        let doc = "Dockerfile to build, as a path in the folder. Otherwise `Dockerfile.miren` or `Dockerfile` is built if \
                   the folder has one, no image is named and `build.base` is not set.";
        let named = build.optional("dockerfile", doc, |path| dockerfile(path, has));
        let doc = "Who builds it: `buildkit`, `buildah`, `docker`, or `auto`, the first of them that the server has.";
        let builder = build.choice(
            "builder",
            "auto",
            doc,
            &[
                ("auto", None),
                ("buildkit", Some(Builder::Buildkit)),
                ("buildah", Some(Builder::Buildah)),
                ("docker", Some(Builder::Docker)),
            ],
        );
        let doc = "What a sandbox sees besides `/app` when nothing is built: `host` is the host's system folders, read-only; \
                   `scratch` is nothing; anything else is an image.";
        let base = build.parsed("base", "host", doc, limits::base);
        for stack in ["onbuild", "version", "alpine_image"] {
            build.foreign(stack, "belongs to builds without a Dockerfile, which are not made here; write one");
        }
        if build.has("base") && build.has("dockerfile") {
            build.refuse("dockerfile", "does not go with build.base: what is built has no folder on top");
        }
        let found = || DOCKERFILES.into_iter().find(|file| has(file)).map(str::to_owned);
        let dockerfile = match build.has("base") || build.has("dockerfile") {
            true => named,
            false => found(),
        };
        Declared {
            base,
            build: Build {
                dockerfile: dockerfile.filter(|_| !is_image),
                builder,
            },
        }
    })
}

fn dockerfile(path: &str, has: &dyn Fn(&str) -> bool) -> Result<String, String> {
    let path = limits::path(path)?;
    let plain = Path::new(&path)
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    if path.is_empty() || !plain || path.ends_with('/') {
        return Err(format!("{path:?} is no path of a file in the folder"));
    }
    match has(&path) {
        true => Ok(path),
        false => Err(format!("the folder has no file {path:?}")),
    }
}

//! Decides whether a folder can be given to a builder: what the builder reads as the host must be in the folder itself.

use crate::error::BuildError;
use miren_api::beneath::{self, Unreadable};
use std::path::Path;

/// Largest Dockerfile, and largest file of rules beside it, in bytes.
const TEXT_MAX: usize = 1 << 20;
/// For every Dockerfile that has none of its own.
pub(crate) const RULES: &str = ".dockerignore";
/// Read by buildah alone, where docker would read none.
const RULES_OF_BUILDAH: &str = ".containerignore";

/// What a builder reads of a folder before it reads anything else.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Context {
    /// The text of the Dockerfile.
    pub(crate) dockerfile: String,
    /// What is left out is said by this file: that of the Dockerfile, and of all Dockerfiles only where it has none of its own.
    pub(crate) rules: Option<String>,
}

/// A link out of the folder would have the builder show a file of the host in its complaints.
pub(crate) fn check(folder: &Path, dockerfile: &str) -> Result<Context, BuildError> {
    let own = format!("{dockerfile}{RULES}");
    let mut rules = None;
    for file in [own.as_str(), RULES, RULES_OF_BUILDAH] {
        let there = text(folder, file)?.is_some();
        rules = rules.or((there && file != RULES_OF_BUILDAH).then(|| file.to_owned()));
    }
    let Some(dockerfile) = text(folder, dockerfile)? else {
        let why = std::io::ErrorKind::NotFound.into();
        return Err(BuildError::io("reading", dockerfile)(why));
    };
    Ok(Context { dockerfile, rules })
}

fn text(folder: &Path, file: &str) -> Result<Option<String>, BuildError> {
    match beneath::read(folder, file, TEXT_MAX) {
        Ok(text) => Ok(text.map(|text| String::from_utf8_lossy(&text).into_owned())),
        Err(Unreadable::Io(source)) => Err(BuildError::io("reading", file)(source)),
        Err(why) => Err(BuildError::Outside {
            file: file.to_owned(),
            why,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g6_the_rules_of_a_dockerfile_take_the_place_of_those_of_all() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |file: &str| std::fs::write(folder.path().join(file), "FROM scratch\n").expect("a file");
        let rules = |dockerfile: &str| check(folder.path(), dockerfile).expect("a context").rules;
        std::fs::create_dir(folder.path().join("docker")).expect("a folder");
        for file in ["Dockerfile", "docker/api.Dockerfile", ".containerignore"] {
            write(file);
        }
        assert_eq!(rules("Dockerfile"), None);
        write(".dockerignore");
        assert_eq!(rules("Dockerfile").as_deref(), Some(".dockerignore"));
        write("docker/api.Dockerfile.dockerignore");
        let own = "docker/api.Dockerfile.dockerignore";
        assert_eq!(rules("docker/api.Dockerfile").as_deref(), Some(own));
        assert_eq!(rules("Dockerfile").as_deref(), Some(".dockerignore"));
        // Nothing in it means nothing left out.
        std::fs::write(folder.path().join("Dockerfile.dockerignore"), "").expect("a file");
        assert_eq!(rules("Dockerfile").as_deref(), Some("Dockerfile.dockerignore"));
    }
}

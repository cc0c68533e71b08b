//! What of an app's folder is deployed, and its form as a tar stream: the same folder always gives the same bytes.

use miren_api::beneath::{self, Unreadable};
use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

mod dockerignore;
mod gitignore;
mod glob;
mod rules_file;
#[cfg(test)]
mod tests;
mod walk;
mod write;

/// The app's settings, deployed even where rules exclude them.
const SETTINGS: &str = ".miren";
/// Most links on the way to a file: what the kernel follows.
const LINKS_MAX: usize = 40;

/// Why a folder cannot be packed.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// A file of rules cannot be read, or has a line that is no rule.
    #[error("{place} {why}")]
    Rules { place: String, why: String },
    #[error("include pattern {pattern:?} {why}")]
    Pattern { pattern: String, why: &'static str },
    #[error("{file} {why}; make it a file, or a link to one in the folder")]
    Needed { file: String, why: Unreadable },
    #[error("{path} is {kind}: only files, folders and symbolic links can be deployed", path = .path.display())]
    Unsupported { path: PathBuf, kind: &'static str },
    #[error("{path}: {source}", path = .path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{path} changed while it was being packed", path = .0.display())]
    Changed(PathBuf),
    /// Whoever reads the stream no longer does.
    #[error("the upload broke off: {0}")]
    Output(#[source] io::Error),
}

/// Checks patterns as [`Listing::of`] does, without looking at any file.
pub fn check_patterns(include: &[String]) -> Result<(), ArchiveError> {
    walk::included(include).map(|_| ())
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Folder,
    File { bytes: u64, executable: bool },
    Link { to: PathBuf },
}

/// Everything that is to be packed, in order.
#[derive(Clone, Debug)]
pub struct Listing {
    root: PathBuf,
    entries: BTreeMap<PathBuf, Kind>,
}

impl Listing {
    /// Looks through `root`: what its `.gitignore` files and its `.dockerignore` leave, plus what `include` names (patterns
    /// as in `.gitignore`), plus what the server reads: its settings, `needed`, and its Dockerfile with the rules for that.
    ///
    /// Rules outside the folder (a parent's, the user's own) do not count: the same folder deploys the same anywhere.
    pub fn of(
        root: &Path,
        include: &[String],
        needed: &[&str],
        dockerfile: Option<&str>,
    ) -> Result<Self, ArchiveError> {
        let rules = walk::Rules::of(root, include, dockerfile)?;
        let mut listing = Self::only(root, needed)?;
        for path in walk::chosen(root, &rules)? {
            listing.add_with_parents(&path)?;
        }
        for file in dockerfile.into_iter().chain(rules.docker_file.as_deref()) {
            listing.add_needed(file)?;
        }
        Ok(listing)
    }

    /// Only what is named, where it is there: for an app whose folder is not part of what runs.
    pub fn only(root: &Path, files: &[&str]) -> Result<Self, ArchiveError> {
        let mut listing = Self {
            root: root.to_owned(),
            entries: BTreeMap::new(),
        };
        for file in files {
            listing.add_needed(file)?;
        }
        Ok(listing)
    }

    /// Number of files and links.
    pub fn files(&self) -> usize {
        self.entries
            .values()
            .filter(|kind| !matches!(kind, Kind::Folder))
            .count()
    }

    /// Size of all files together.
    pub fn bytes(&self) -> u64 {
        let size = |kind: &Kind| if let Kind::File { bytes, .. } = kind { *bytes } else { 0 };
        self.entries.values().map(size).sum()
    }

    /// Paths relative to the folder, in the order in which they are packed.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.entries.keys().map(PathBuf::as_path)
    }

    fn add(&mut self, path: &Path) -> Result<&Kind, ArchiveError> {
        if !self.entries.contains_key(path) {
            let kind = kind_of(&self.root.join(path), path)?;
            self.entries.insert(path.to_owned(), kind);
        }
        Ok(&self.entries[path])
    }

    fn add_with_parents(&mut self, path: &Path) -> Result<(), ArchiveError> {
        let parents = path.ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty());
        for parent in parents.collect::<Vec<_>>().into_iter().rev() {
            self.add(parent)?;
        }
        self.add(path).map(|_| ())
    }

    /// Takes a file that the server reads, if it is there, and every link that leads to it.
    fn add_needed(&mut self, file: &str) -> Result<(), ArchiveError> {
        let needed = |why| ArchiveError::Needed {
            file: file.to_owned(),
            why,
        };
        if !beneath::find(&self.root, file).map_err(needed)? {
            return Ok(());
        }
        let mut rest = names(Path::new(file));
        let (mut here, mut links) = (PathBuf::new(), 0);
        while let Some(name) = rest.pop_front() {
            if name == ".." {
                here.pop();
                continue;
            }
            here.push(name);
            let Kind::Link { to } = self.add(&here)? else { continue };
            let mut on = names(to);
            on.append(&mut rest);
            rest = on;
            here.pop();
            links += 1;
            if links > LINKS_MAX {
                return Err(needed(Unreadable::Dangling));
            }
        }
        Ok(())
    }
}

/// The parts of a relative path, which the kernel has followed already.
fn names(path: &Path) -> VecDeque<OsString> {
    let parts = path.components().filter(|part| *part != Component::CurDir);
    parts.map(|part| part.as_os_str().to_owned()).collect()
}

fn kind_of(path: &Path, relative: &Path) -> Result<Kind, ArchiveError> {
    let read_error = |source| ArchiveError::Read {
        path: relative.to_owned(),
        source,
    };
    let facts = fs::symlink_metadata(path).map_err(read_error)?;
    let kind = facts.file_type();
    if kind.is_dir() {
        Ok(Kind::Folder)
    } else if kind.is_symlink() {
        Ok(Kind::Link {
            to: fs::read_link(path).map_err(read_error)?,
        })
    } else if kind.is_file() {
        Ok(Kind::File {
            bytes: facts.len(),
            executable: facts.permissions().mode() & 0o111 != 0,
        })
    } else {
        Err(ArchiveError::Unsupported {
            path: relative.to_owned(),
            kind: odd_kind(kind),
        })
    }
}

fn odd_kind(kind: fs::FileType) -> &'static str {
    use std::os::unix::fs::FileTypeExt;
    if kind.is_socket() {
        "a socket"
    } else if kind.is_fifo() {
        "a named pipe"
    } else {
        "a device"
    }
}

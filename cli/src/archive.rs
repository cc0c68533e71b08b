//! What of an app's folder is deployed, and its form as a tar stream: the same folder always gives the same bytes.

use dockerignore::Dockerignore;
use ignore::WalkBuilder;
use ignore::gitignore::{Gitignore, GitignoreBuilder};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

mod dockerignore;
#[cfg(test)]
mod tests;

/// Version control's own folder, never deployed.
const GIT: &str = ".git";
/// The app's settings, deployed even where `.gitignore` excludes them.
const SETTINGS: &str = ".miren";

/// Why a folder cannot be packed.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    #[error("looking through the folder: {0}")]
    Walk(#[from] ignore::Error),
    #[error("include pattern {pattern:?}: {why}")]
    Pattern { pattern: String, why: String },
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
pub fn check_patterns(root: &Path, include: &[String]) -> Result<(), ArchiveError> {
    Wanted::new(root, include).map(|_| ())
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
    /// as in `.gitignore`), plus its Dockerfile.
    ///
    /// Rules outside the folder (a parent's, the user's own) do not count: the same folder deploys the same anywhere.
    pub fn of(root: &Path, include: &[String], dockerfile: Option<&str>) -> Result<Self, ArchiveError> {
        let mut listing = Self {
            root: root.to_owned(),
            entries: BTreeMap::new(),
        };
        let docker = Dockerignore::of(root)?;
        for path in walk(root, true) {
            let path = path?;
            if !docker.excludes(path.strip_prefix(root).unwrap_or(&path)) {
                listing.add_with_parents(&path)?;
            }
        }
        if let Some(dockerfile) = dockerfile {
            listing.add_with_parents(&root.join(dockerfile))?;
        }
        let wanted = Wanted::new(root, include)?;
        for path in walk(root, false) {
            let path = path?;
            if wanted.has(&path)? {
                listing.add_with_parents(&path)?;
            }
        }
        Ok(listing)
    }

    /// Only what is named, where it is there: for an app whose folder is not part of what runs.
    pub fn only(root: &Path, files: &[&str]) -> Result<Self, ArchiveError> {
        let mut listing = Self {
            root: root.to_owned(),
            entries: BTreeMap::new(),
        };
        for path in files.iter().map(|file| root.join(file)).filter(|path| path.is_file()) {
            listing.add_with_parents(&path)?;
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

    fn add(&mut self, path: &Path) -> Result<(), ArchiveError> {
        let relative = path.strip_prefix(&self.root).unwrap_or(path);
        if relative.as_os_str().is_empty() || self.entries.contains_key(relative) {
            return Ok(());
        }
        let kind = kind_of(path, relative)?;
        self.entries.insert(relative.to_owned(), kind);
        Ok(())
    }

    fn add_with_parents(&mut self, path: &Path) -> Result<(), ArchiveError> {
        let mut within: Vec<&Path> = path.ancestors().take_while(|ancestor| *ancestor != self.root).collect();
        within.reverse();
        for part in within.into_iter().map(Path::to_owned).collect::<Vec<_>>() {
            self.add(&part)?;
        }
        Ok(())
    }

    /// Writes the tar stream. Owners and times are left out, and of the mode only whether a file is executable counts.
    pub fn write(&self, output: impl Write) -> Result<(), ArchiveError> {
        let mut tar = tar::Builder::new(output);
        for (path, kind) in &self.entries {
            match kind {
                Kind::Folder => {
                    let mut header = header(tar::EntryType::Directory, 0o755, 0);
                    tar.append_data(&mut header, path, io::empty())
                        .map_err(ArchiveError::Output)?;
                }
                Kind::Link { to } => {
                    let mut header = header(tar::EntryType::Symlink, 0o777, 0);
                    tar.append_link(&mut header, path, to).map_err(ArchiveError::Output)?;
                }
                Kind::File { bytes, executable } => {
                    let mode = if *executable { 0o755 } else { 0o644 };
                    let mut header = header(tar::EntryType::Regular, mode, *bytes);
                    self.append_file(&mut tar, &mut header, path)?;
                }
            }
        }
        tar.finish().map_err(ArchiveError::Output)
    }

    fn append_file(
        &self,
        tar: &mut tar::Builder<impl Write>,
        header: &mut tar::Header,
        path: &Path,
    ) -> Result<(), ArchiveError> {
        let full = self.root.join(path);
        let read_error = |source| ArchiveError::Read {
            path: path.to_owned(),
            source,
        };
        let file = File::open(&full).map_err(read_error)?;
        let promised = header.size().map_err(ArchiveError::Output)?;
        let mut contents = Exactly {
            file,
            left: promised,
            trouble: None,
        };
        let appended = tar.append_data(header, path, &mut contents);
        match contents.trouble {
            Some(source) => Err(read_error(source)),
            // A shorter or longer file than its header says would shift everything behind it.
            None if contents.left > 0 && appended.is_ok() => Err(ArchiveError::Changed(path.to_owned())),
            None => {
                appended.map_err(ArchiveError::Output)?;
                let grown = contents.file.read(&mut [0]).map_err(read_error)? > 0;
                if grown {
                    Err(ArchiveError::Changed(path.to_owned()))
                } else {
                    Ok(())
                }
            }
        }
    }
}

/// A file up to the size that was promised for it; keeps its own errors apart from those of the output.
struct Exactly {
    file: File,
    left: u64,
    trouble: Option<io::Error>,
}

impl Read for Exactly {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        match self.file.read(&mut buffer[..wanted]) {
            Ok(count) => {
                self.left -= count as u64;
                Ok(count)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                let shown = io::Error::new(error.kind(), error.to_string());
                self.trouble = Some(error);
                Err(shown)
            }
        }
    }
}

/// Which paths are deployed although `.gitignore` excludes them.
struct Wanted {
    root: PathBuf,
    patterns: Gitignore,
}

impl Wanted {
    fn new(root: &Path, include: &[String]) -> Result<Self, ArchiveError> {
        let mut builder = GitignoreBuilder::new(root);
        for pattern in include {
            let wrong = |why: String| ArchiveError::Pattern {
                pattern: pattern.clone(),
                why,
            };
            builder
                .add_line(None, pattern)
                .map_err(|error| wrong(error.to_string()))?;
        }
        Ok(Self {
            root: root.to_owned(),
            patterns: builder.build()?,
        })
    }

    fn has(&self, path: &Path) -> Result<bool, ArchiveError> {
        let relative = path.strip_prefix(&self.root).unwrap_or(path);
        if relative.as_os_str().is_empty() {
            return Ok(false);
        }
        if relative.starts_with(SETTINGS) {
            return Ok(true);
        }
        Ok(self
            .patterns
            .matched_path_or_any_parents(relative, path.is_dir())
            .is_ignore())
    }
}

fn walk(root: &Path, obey: bool) -> impl Iterator<Item = Result<PathBuf, ArchiveError>> {
    WalkBuilder::new(root)
        .standard_filters(false)
        .git_ignore(obey)
        .require_git(false)
        .filter_entry(|entry| entry.file_name() != GIT)
        .build()
        .map(|entry| Ok(entry?.into_path()))
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

fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

//! Decides how an uploaded folder is kept: unpacked once, under the digest of what is in it.

use miren_api::deploy::Artifact;
use miren_api::{ApiError, ErrorCode};
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

mod digest;
#[cfg(test)]
mod tests;
mod unpack;

/// Most files and folders of an artifact.
const FILES_MAX: u64 = 100_000;
/// Begins the names of folders that are being unpacked.
const STAGING: &str = ".staging-";

/// Why a folder was not taken.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// It is not a tar stream, or broke off.
    #[error("the upload is not a whole tar archive: {0}")]
    Broken(std::io::Error),
    #[error("entry {path:?} {why}")]
    Entry { path: String, why: &'static str },
    #[error("the folder has more than {max} {of}")]
    TooLarge { max: u64, of: &'static str },
    #[error("writing {path}: {source}", path = .path.display())]
    Disk { path: PathBuf, source: std::io::Error },
}

impl From<ArtifactError> for ApiError {
    fn from(error: ArtifactError) -> Self {
        let message = format!("storing the folder: {error}");
        match error {
            ArtifactError::Broken(_) => {
                Self::new(ErrorCode::InvalidRequest, message).remedy("send a plain, uncompressed tar archive")
            }
            ArtifactError::Entry { .. } => {
                Self::new(ErrorCode::InvalidRequest, message).remedy("leave the entry out of the folder")
            }
            ArtifactError::TooLarge { .. } => {
                Self::new(ErrorCode::TooLarge, message).remedy("exclude build output and dependencies with .gitignore")
            }
            ArtifactError::Disk { ref source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
                Self::new(ErrorCode::Internal, message).remedy("free space in the server's data_dir and try again")
            }
            ArtifactError::Disk { .. } => {
                Self::new(ErrorCode::Internal, message).remedy("check the server's data_dir and its log")
            }
        }
    }
}

/// Every uploaded folder of this node.
#[derive(Clone, Debug)]
pub struct Artifacts {
    folder: PathBuf,
    bytes_max: u64,
    /// When somebody last uploaded or asked for a folder, by its digest in hexadecimal. Held while one is looked at and while one
    /// is removed: who was told that a folder is there has it for as long as an upload is kept.
    wanted: Arc<Mutex<HashMap<String, Instant>>>,
}

/// Where an artifact is unpacked, below the folder of all of them.
pub fn folder(artifacts: &Path, digest: &str) -> PathBuf {
    artifacts.join(digest.strip_prefix("sha256:").unwrap_or(digest))
}

impl Artifacts {
    /// Opens the folder of artifacts; removes what an earlier process left half unpacked.
    pub fn open(folder: &Path, bytes_max: u64) -> std::io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(STAGING) {
                std::fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(Self {
            folder: folder.to_owned(),
            bytes_max,
            wanted: Arc::default(),
        })
    }

    /// Unpacks a tar stream. The same content is stored once. Blocks.
    pub fn store(&self, tar: impl Read) -> Result<Artifact, ArtifactError> {
        let staging = Staging::make(&self.folder)?;
        let contents = unpack::unpack(tar, &staging.path, self.bytes_max)?;
        let (digest, name) = digest::of(&contents);
        let place = self.folder.join(&name);
        let artifact = Artifact {
            digest,
            files: contents.files(),
            bytes: contents.bytes(),
        };
        let disk = |source| ArtifactError::Disk {
            path: place.clone(),
            source,
        };
        if self.claim(&name).map_err(disk)? {
            return Ok(artifact);
        }
        sync(&staging.path).map_err(disk)?;
        match self.put(&staging.path, &name) {
            Ok(()) => sync(&self.folder).map_err(disk)?,
            // Someone else stored the same content meanwhile.
            Err(_) if self.claim(&name).map_err(disk)? => {}
            Err(source) => return Err(disk(source)),
        }
        Ok(artifact)
    }

    /// Whether this digest was uploaded. If so it stays as one that is uploaded now: who asks is about to name it.
    pub fn has(&self, digest: &str) -> bool {
        let hex = digest.strip_prefix("sha256:").unwrap_or_default();
        let is_digest = hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_digest && self.claim(hex).unwrap_or_default()
    }

    /// Looks for a folder and keeps it, in one step. The time on disk is for a process that knows nothing of this one.
    fn claim(&self, name: &str) -> std::io::Result<bool> {
        let mut wanted = self.wanted.lock();
        let place = self.folder.join(name);
        if !place.is_dir() {
            return Ok(false);
        }
        wanted.insert(name.to_owned(), Instant::now());
        touch(&place).map(|()| true)
    }

    fn put(&self, staging: &Path, name: &str) -> std::io::Result<()> {
        let mut wanted = self.wanted.lock();
        std::fs::rename(staging, self.folder.join(name))?;
        wanted.insert(name.to_owned(), Instant::now());
        Ok(())
    }

    /// Removes every folder whose digest is not in `keep`, and that was last uploaded or asked for longer ago than `grace`. Blocks.
    pub fn remove_except(&self, keep: &HashSet<String>, grace: Duration) -> std::io::Result<usize> {
        let mut removed = 0;
        for entry in std::fs::read_dir(&self.folder)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with(STAGING) || keep.contains(&format!("sha256:{name}")) {
                continue;
            }
            // Renamed first: a folder that is there is whole.
            let out = Staging::name(&self.folder);
            if self.take_away(&name, &out.path, grace)? {
                removed += 1;
            }
        }
        self.wanted.lock().retain(|_, at| at.elapsed() < grace);
        Ok(removed)
    }

    /// False: somebody wants it.
    fn take_away(&self, name: &str, out: &Path, grace: Duration) -> std::io::Result<bool> {
        let wanted = self.wanted.lock();
        let place = self.folder.join(name);
        let is_young = match wanted.get(name) {
            Some(at) => at.elapsed() < grace,
            // Nobody has asked since this process started; the time on disk is all there is, and may be one to come.
            None => place.metadata()?.modified()?.elapsed().unwrap_or_default() < grace,
        };
        if !is_young {
            std::fs::rename(place, out)?;
        }
        Ok(!is_young)
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

/// Somebody wants it now.
fn touch(folder: &Path) -> std::io::Result<()> {
    std::fs::File::open(folder)?.set_modified(SystemTime::now())
}

/// Everything below is on disk, whatever happens next.
fn sync(path: &Path) -> std::io::Result<()> {
    nix::unistd::syncfs(std::fs::File::open(path)?).map_err(Into::into)
}

/// A folder being filled; removed on drop unless it was renamed away.
struct Staging {
    path: PathBuf,
}

impl Staging {
    fn name(folder: &Path) -> Self {
        Self {
            path: folder.join(format!("{STAGING}{:016x}", rand::random::<u64>())),
        }
    }

    fn make(folder: &Path) -> Result<Self, ArtifactError> {
        let staging = Self::name(folder);
        match std::fs::create_dir(&staging.path) {
            Ok(()) => Ok(staging),
            Err(source) => Err(ArtifactError::Disk {
                path: staging.path.clone(),
                source,
            }),
        }
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        match std::fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(path = %self.path.display(), %error, "a half unpacked folder stays until the next start");
            }
            _ => {}
        }
    }
}

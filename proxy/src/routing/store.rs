//! How the last snapshots are kept on disk, so that a restart with no control still routes.

use crate::file;
use miren_api::routing::RoutingSnapshot;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

#[cfg(test)]
mod tests;

/// Older copies kept beside the current one.
const OLDER_COPIES: usize = 3;
/// What a file of this layout begins with.
const HEADER: &str = "miren-routing 1 sha256:";

/// The folder of the copies.
#[derive(Clone, Debug)]
pub struct SnapshotStore {
    folder: PathBuf,
}

/// What was found on disk.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The newest copy that could be read.
    pub snapshot: Option<RoutingSnapshot>,
    /// Newer copies that could not, with the reason.
    pub damaged: Vec<(PathBuf, String)>,
}

impl SnapshotStore {
    pub fn new(data_dir: &Path) -> Self {
        Self {
            folder: data_dir.to_owned(),
        }
    }

    /// The newest copy that can be read. A copy that cannot is passed over, never taken for an empty table.
    pub fn load(&self) -> Loaded {
        let mut loaded = Loaded::default();
        for age in 0..=OLDER_COPIES {
            let path = self.copy(age);
            match fs::read(&path) {
                Ok(bytes) => match file::decode(HEADER, &bytes) {
                    Ok(snapshot) => {
                        loaded.snapshot = Some(snapshot);
                        return loaded;
                    }
                    Err(why) => loaded.damaged.push((path, why)),
                },
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => loaded.damaged.push((path, error.to_string())),
            }
        }
        loaded
    }

    /// Keeps `snapshot` as the current copy. A crash at any point leaves at least one copy that can be read.
    pub fn save(&self, snapshot: &RoutingSnapshot) -> io::Result<()> {
        let new = self.folder.join("routing.new");
        file::write_new(&new, &file::encode(HEADER, snapshot)?)?;
        for age in (0..OLDER_COPIES).rev() {
            match fs::rename(self.copy(age), self.copy(age + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        file::replace(&new, &self.copy(0))
    }

    fn copy(&self, age: usize) -> PathBuf {
        match age {
            0 => self.folder.join("routing"),
            age => self.folder.join(format!("routing.{age}")),
        }
    }
}

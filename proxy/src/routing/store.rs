//! How the last snapshots are kept on disk, so that a restart with no control still routes.

use miren_api::routing::RoutingSnapshot;
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

#[cfg(test)]
mod tests;

/// Older copies kept beside the current one.
const OLDER_COPIES: usize = 3;
/// What a file of this layout begins with; a checksum and a line end follow.
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
                Ok(bytes) => match decode(&bytes) {
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
        let mut file = File::create(&new)?;
        file.write_all(&encode(snapshot)?)?;
        file.sync_all()?;
        for age in (0..OLDER_COPIES).rev() {
            match fs::rename(self.copy(age), self.copy(age + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        fs::rename(&new, self.copy(0))?;
        File::open(&self.folder)?.sync_all()
    }

    fn copy(&self, age: usize) -> PathBuf {
        match age {
            0 => self.folder.join("routing"),
            age => self.folder.join(format!("routing.{age}")),
        }
    }
}

fn encode(snapshot: &RoutingSnapshot) -> io::Result<Vec<u8>> {
    let body = serde_json::to_vec(snapshot)?;
    let mut file = format!("{HEADER}{}\n", checksum(&body)).into_bytes();
    file.extend_from_slice(&body);
    Ok(file)
}

fn decode(file: &[u8]) -> Result<RoutingSnapshot, String> {
    let end = file
        .iter()
        .position(|byte| *byte == b'\n')
        .ok_or("has no header line")?;
    let (header, body) = (&file[..end], &file[end + 1..]);
    let expected = header.strip_prefix(HEADER.as_bytes()).ok_or("is of another layout")?;
    if expected != checksum(body).as_bytes() {
        return Err("does not match its checksum".into());
    }
    serde_json::from_slice(body).map_err(|error| format!("cannot be decoded: {error}"))
}

fn checksum(body: &[u8]) -> String {
    Sha256::digest(body).iter().map(|byte| format!("{byte:02x}")).collect()
}

//! How the leases in use are kept on disk, so that a proxy that starts with no control can serve.

use crate::file;
use miren_api::lease::Lease;
use miren_api::{PoolId, VersionId};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// What a file of this layout begins with.
const HEADER: &str = "miren-leases 1 sha256:";
/// Where the kernel says which boot this is.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The leases of one target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    pub pool: PoolId,
    pub version: VersionId,
    pub service: String,
    pub leases: Vec<Lease>,
}

#[derive(Serialize, Deserialize)]
struct Content {
    /// Generations are only told apart within one boot: the slot table begins anew with the next.
    boot: String,
    pools: Vec<Kept>,
}

/// The file.
#[derive(Clone, Debug)]
pub struct LeaseStore {
    path: PathBuf,
    boot: Option<String>,
}

impl LeaseStore {
    pub fn new(data_dir: &Path) -> Self {
        let boot = fs::read_to_string(BOOT_ID).ok();
        Self {
            path: data_dir.join("leases"),
            boot: boot.map(|id| id.trim().to_owned()),
        }
    }

    /// What was kept in this boot. A file that cannot be used is as good as none: control grants leases anew.
    pub(super) fn load(&self) -> Vec<Kept> {
        let content: Result<Content, String> = match fs::read(&self.path) {
            Ok(bytes) => file::decode(HEADER, &bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
            Err(error) => Err(error.to_string()),
        };
        match content {
            Ok(content) if Some(&content.boot) == self.boot.as_ref() => content.pools,
            Ok(_) => {
                tracing::info!("the kept leases are of an earlier boot");
                Vec::new()
            }
            Err(why) => {
                tracing::warn!(file = %self.path.display(), why, "the kept leases cannot be used; waiting for control");
                Vec::new()
            }
        }
    }

    /// Keeps `pools` in place of what was kept before. A crash at any point leaves one or the other.
    pub(super) fn save(&self, pools: Vec<Kept>) -> io::Result<()> {
        let Some(boot) = self.boot.clone() else {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                format!("{BOOT_ID} cannot be read"),
            ));
        };
        let new = self.path.with_extension("new");
        file::write_new(&new, &file::encode(HEADER, &Content { boot, pools })?)?;
        file::replace(&new, &self.path)
    }
}

#[cfg(test)]
impl LeaseStore {
    /// As if the machine had been started again.
    pub(super) fn after_boot(mut self) -> Self {
        self.boot = Some("another".into());
        self
    }
}

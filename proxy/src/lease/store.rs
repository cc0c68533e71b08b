//! How the leases in use are kept on disk, so that a proxy that starts with no control can serve.

use crate::file;
use miren_api::lease::Lease;
use miren_api::{PoolId, VersionId};
use miren_loader::TableId;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// What a file of this layout begins with.
const HEADER: &str = "miren-leases 2 sha256:";

/// The leases of one target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    pub pool: PoolId,
    pub version: VersionId,
    pub service: String,
    pub leases: Vec<Lease>,
    /// Whether a request that only reads may be asked of two sandboxes; said where not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub never_twice: bool,
}

#[derive(Serialize, Deserialize)]
struct Content {
    /// Slots and generations are those of this table: another one begins anew, with the next boot at the latest.
    table: String,
    pools: Vec<Kept>,
}

/// The file.
#[derive(Clone, Debug)]
pub struct LeaseStore {
    path: PathBuf,
    table: String,
}

impl LeaseStore {
    /// For leases on the slots of `table`.
    pub fn new(data_dir: &Path, table: &TableId) -> Self {
        Self {
            path: data_dir.join("leases"),
            table: table.to_string(),
        }
    }

    /// What was kept of this table. A file that cannot be used is as good as none: control grants leases anew.
    pub(super) fn load(&self) -> Vec<Kept> {
        let content: Result<Content, String> = match fs::read(&self.path) {
            Ok(bytes) => file::decode(HEADER, &bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
            Err(error) => Err(error.to_string()),
        };
        match content {
            Ok(content) if content.table == self.table => content.pools,
            Ok(_) => {
                tracing::info!("the kept leases are of another slot table");
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
        let new = self.path.with_extension("new");
        let table = self.table.clone();
        file::write_new(&new, &file::encode(HEADER, &Content { table, pools })?)?;
        file::replace(&new, &self.path)
    }
}

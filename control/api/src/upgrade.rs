//! What a program says about itself before it serves in the place of another build of it: `miren-control facts`, `miren-proxy facts`.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Of a `miren-control`, under its settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlFacts {
    pub version: String,
    pub data_dir: PathBuf,
    /// Where it listens.
    pub socket: PathBuf,
    /// The file of the store.
    pub store: PathBuf,
    /// The schema that it makes of any store; it opens none of a higher one.
    pub schema: i64,
    /// The schema that the store on disk has now; none where there is no store yet.
    pub schema_on_disk: Option<i64>,
    /// Layout of the slot table.
    pub slots: u32,
}

/// Of a `miren-proxy`, under its settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxyFacts {
    pub version: String,
    pub data_dir: PathBuf,
    /// Where the process that serves is asked to make way.
    pub socket: PathBuf,
    /// Which protocol that speaks.
    pub hand_over: u32,
    /// Layout of the slot table.
    pub slots: u32,
}

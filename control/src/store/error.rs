//! Decides what a store may answer besides what was asked for, and who has to react to it.

use super::{Cursor, Key};
use std::path::PathBuf;

/// Why the store did not do what was asked. Each has one owner, who reacts; nobody else looks for it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// A precondition did not hold; nothing was written. Owner: the ledger looks whether the record is as it wrote it. If it is not,
    /// somebody else writes to the store, and the writer of the record ends the process.
    #[error("{key} was changed by someone else")]
    Conflict { key: Key },
    /// More than one transaction takes; nothing was sent. Owner: the ledger writes many records as several transactions. One record
    /// that is too large alone is refused where it is asked for, before it is noted.
    #[error(
        "a transaction of {writes} writes and {bytes} bytes, {key} the largest, is more than the {writes_max} writes and {bytes_max} bytes of one",
        writes_max = super::WRITES_MAX,
        bytes_max = super::BYTES_MAX
    )]
    TooLarge { key: Key, writes: usize, bytes: usize },
    /// The history does not reach back that far. Owner: whoever watches reads everything again, then watches from there.
    #[error("changes up to {upto} are no longer kept")]
    Compacted { upto: Cursor },
    /// Another daemon has taken over this store. Owner: the guard of the store ends the process, whoever was told.
    #[error("another miren-control has taken over the store (epoch {current}, this one has {own})")]
    Fenced { current: u64, own: u64 },
    /// The store was written by a newer release. Owner: the start, which fails.
    #[error("{path} has schema {found}; this release knows up to {known}: start the release that wrote it, or restore a copy made before the upgrade, {path}.before-{found} if it is there", path = .path.display())]
    NewerSchema { path: PathBuf, found: i64, known: i64 },
    /// The file is not a store of ours, or damaged. Owner: the start, which fails.
    #[error("{path} cannot be read as a store: {why}; restore a copy, or move it away to begin with an empty one", path = .path.display())]
    Undecodable { path: PathBuf, why: String },
    /// Reading failed, or writing did and nothing was written. Owner: whoever asked tries again, or refuses what it was for.
    #[error("{doing}: {why}")]
    Failed { doing: &'static str, why: String },
    /// The answer to a write was lost: only reading tells whether it was made. Owner: the ledger, which reads until it knows.
    #[error("{doing}: {why}; whether it was done is not known")]
    Unknown { doing: &'static str, why: String },
    /// Nobody serves the store any more. Owner: as of [`StoreError::Fenced`].
    #[error("{doing}: the thread of the store has ended")]
    Closed { doing: &'static str },
}

impl StoreError {
    /// Whether the store takes nothing of this process any more.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Fenced { .. } | Self::Closed { .. })
    }

    /// Whether only reading tells what became of the write that it answers: one that was made and not answered makes the next
    /// one of the same record a conflict.
    pub fn leaves_doubt(&self) -> bool {
        matches!(self, Self::Unknown { .. } | Self::Conflict { .. })
    }
}

impl From<miren_fault::Fault> for StoreError {
    fn from(fault: miren_fault::Fault) -> Self {
        Self::Failed {
            doing: "writing records",
            why: fault.to_string(),
        }
    }
}

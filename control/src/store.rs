//! Decides what a store of records must do: keyed records, compare-and-set transactions, and a history that is never missed.

use async_trait::async_trait;
use std::fmt;
use std::path::PathBuf;
use tokio::sync::watch;

mod guarded;
mod lock;
mod schema;
mod sqlite;
mod watching;

pub use guarded::Guarded;
pub use lock::{Lock, LockError};
pub use sqlite::{History, Sqlite};
pub use watching::Watch;

/// Counts writes. Each written record gets its own, greater than every one before.
pub type Revision = u64;

/// What a record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    App,
    Version,
    Deploy,
    Pool,
    Sandbox,
    Route,
    /// Which version serves an app.
    Active,
    /// Which version is reached under a label of an app.
    Label,
    /// The routing snapshot.
    Snapshot,
    /// A machine that runs sandboxes.
    Node,
}

impl Kind {
    pub const ALL: [Self; 10] = [
        Self::App,
        Self::Version,
        Self::Deploy,
        Self::Pool,
        Self::Sandbox,
        Self::Route,
        Self::Active,
        Self::Label,
        Self::Snapshot,
        Self::Node,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::App => "app",
            Self::Version => "version",
            Self::Deploy => "deploy",
            Self::Pool => "pool",
            Self::Sandbox => "sandbox",
            Self::Route => "route",
            Self::Active => "active",
            Self::Label => "label",
            Self::Snapshot => "snapshot",
            Self::Node => "node",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

/// Names one record.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    pub kind: Kind,
    pub id: String,
}

impl Key {
    pub fn new(kind: Kind, id: impl Into<String>) -> Self {
        Self { kind, id: id.into() }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {}", self.kind.as_str(), self.id)
    }
}

/// One record as it was at one revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub key: Key,
    pub revision: Revision,
    /// JSON.
    pub body: String,
}

/// What must be true of a record for a transaction to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// There is none.
    Absent,
    /// It was last written at this revision.
    Revision(Revision),
}

/// A record's new content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    pub body: String,
    /// Names and values by which [`Selection::Index`] finds it.
    pub indexes: Vec<(&'static str, String)>,
}

/// One part of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    pub key: Key,
    pub expect: Expect,
    /// None deletes the record.
    pub content: Option<Content>,
}

/// Which records of a kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    All,
    /// Ids that start with this.
    Prefix(String),
    /// An exact match in an index, never a scan.
    Index(&'static str, String),
}

/// One write, as the history keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub revision: Revision,
    pub key: Key,
    /// None: the record was deleted.
    pub body: Option<String>,
}

/// Why the store did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// A precondition did not hold; nothing was written.
    #[error("{key} was changed by someone else")]
    Conflict { key: Key },
    /// The history does not reach back that far: read everything again, then watch from there.
    #[error("changes up to revision {oldest} are no longer kept")]
    Compacted { oldest: Revision },
    /// Another daemon has taken over this store.
    #[error("another miren-control has taken over the store (epoch {current}, this one has {own})")]
    Fenced { current: u64, own: u64 },
    /// The store was written by a newer release.
    #[error("{path} has schema {found}; this release knows up to {known}: start the release that wrote it, or restore a copy made before the upgrade", path = .path.display())]
    NewerSchema { path: PathBuf, found: i64, known: i64 },
    /// The file is not a store of ours, or damaged.
    #[error("{path} cannot be read as a store: {why}; restore a copy, or move it away to begin with an empty one", path = .path.display())]
    Undecodable { path: PathBuf, why: String },
    /// Reading failed, or writing did and nothing was written.
    #[error("{doing}: {why}")]
    Failed { doing: &'static str, why: String },
    /// The answer to a write was lost: only reading tells whether it was made.
    #[error("{doing}: {why}; whether it was done is not known")]
    Unknown { doing: &'static str, why: String },
    /// Nobody serves the store any more.
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

/// Records with revisions. Every method is atomic; lists are ordered by id.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    async fn get(&self, key: &Key) -> Result<Option<Record>, StoreError>;

    async fn list(&self, kind: Kind, which: Selection) -> Result<Vec<Record>, StoreError>;

    /// Writes all or nothing. The i-th write gets the i-th revision before the returned one's end: `n` writes that
    /// return `r` have the revisions `r-n+1 ..= r`. At least one write.
    async fn commit(&self, writes: Vec<Write>) -> Result<Revision, StoreError>;

    /// At most `limit` changes with a revision greater than `after`, in order. What is kept of them is bounded in number and in
    /// bytes.
    ///
    /// # Errors
    /// [`StoreError::Compacted`] when some of them are no longer kept.
    async fn changes(&self, after: Revision, limit: usize) -> Result<Vec<Change>, StoreError>;

    /// Counts the daemons that have opened this store, this one included. One that was put back counts on from its copy.
    fn epoch(&self) -> u64;

    /// The newest revision; changes after each commit.
    fn revision(&self) -> watch::Receiver<Revision>;
}

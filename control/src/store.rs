//! Decides what a store of records must do: keyed records, compare-and-set transactions, and a history that is never missed.

use async_trait::async_trait;
use std::fmt;
use tokio::sync::watch;

mod copy;
mod error;
mod guarded;
mod limits;
mod lock;
mod schema;
mod sqlite;
mod watching;

pub use copy::before as copy_before;
pub use error::StoreError;
pub use guarded::Guarded;
pub use limits::{BYTES_MAX, WRITES_MAX, check, size};
pub use lock::{Lock, LockError};
pub use schema::{KNOWN as SCHEMA, on_disk as schema_on_disk};
pub use sqlite::{History, Sqlite};
pub use watching::Watch;

/// Counts transactions. All that one writes has its revision, greater than every one before.
pub type Revision = u64;

/// A place in the history: the `n`-th write of a transaction, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cursor {
    pub revision: Revision,
    pub n: u32,
}

impl Cursor {
    /// Before everything.
    pub const START: Self = Self { revision: 0, n: 0 };

    /// Behind all of a transaction.
    pub const fn after(revision: Revision) -> Self {
        Self { revision, n: u32::MAX }
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "write {} of revision {}", self.n, self.revision)
    }
}

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
    /// A command that runs once.
    Run,
}

impl Kind {
    pub const ALL: [Self; 11] = [
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
        Self::Run,
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
            Self::Run => "run",
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
    pub at: Cursor,
    pub key: Key,
    /// None: the record was deleted.
    pub body: Option<String>,
}

/// Records with revisions. Every method is atomic; lists are ordered by id.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    async fn get(&self, key: &Key) -> Result<Option<Record>, StoreError>;

    async fn list(&self, kind: Kind, which: Selection) -> Result<Vec<Record>, StoreError>;

    /// Writes all or nothing, in one revision, which it returns. What each write expects is compared before any is made. At
    /// least one write, none of a record that another one is of, and no more than [`check`] lets through.
    ///
    /// # Errors
    /// Each of [`StoreError`] but [`StoreError::Compacted`]; after all of them but [`StoreError::Unknown`] nothing was written.
    async fn commit(&self, writes: Vec<Write>) -> Result<Revision, StoreError>;

    /// At most `limit` changes after a place, in order: it may be in the middle of a transaction, and they may end in the middle of
    /// one. What is kept of them is bounded in number and in bytes, and forgotten a transaction at a time.
    ///
    /// # Errors
    /// [`StoreError::Compacted`] when some of them are no longer kept.
    async fn changes(&self, after: Cursor, limit: usize) -> Result<Vec<Change>, StoreError>;

    /// Counts the daemons that have opened this store, this one included. One that was put back counts on from its copy.
    fn epoch(&self) -> u64;

    /// The newest revision; changes after each commit.
    fn revision(&self) -> watch::Receiver<Revision>;
}

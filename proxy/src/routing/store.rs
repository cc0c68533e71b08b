//! How the tables that were in use are kept on disk, so that a restart with no control still routes: a copy, and what changed since.

use super::RouteTable;
use crate::file;
use journal::Journal;
use miren_api::routing::{RoutingDelta, RoutingSnapshot};
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

mod journal;
#[cfg(test)]
mod tests;

/// Older copies kept beside the current one.
const OLDER_COPIES: usize = 3;
/// What a copy of this layout begins with.
const HEADER: &str = "miren-routing 1 sha256:";
/// What the names of journals begin with; the checksum of the copy that they go on from follows.
const JOURNAL: &str = "routing.changes.";

/// The folder of the copies.
#[derive(Clone, Debug)]
pub struct SnapshotStore {
    folder: PathBuf,
}

/// What was found on disk.
#[derive(Debug, Default)]
pub struct Loaded {
    /// What the newest copy that could be read has become by its changes.
    pub table: Option<RouteTable>,
    /// Newer ones that could not be read, with the reason.
    pub damaged: Vec<(PathBuf, String)>,
}

impl SnapshotStore {
    pub fn new(data_dir: &Path) -> Self {
        Self {
            folder: data_dir.to_owned(),
        }
    }

    /// What writes here. It begins with a copy, whatever is here.
    pub fn writer(&self) -> SnapshotWriter {
        SnapshotWriter {
            store: self.clone(),
            journal: None,
        }
    }

    /// The newest copy that can be read, with the changes after it. A copy that cannot is passed over, never taken for an
    /// empty table.
    pub fn load(&self) -> Loaded {
        let mut loaded = Loaded::default();
        for age in 0..=OLDER_COPIES {
            let path = self.copy(age);
            match fs::read(&path) {
                Ok(copy) => match file::decode::<RoutingSnapshot>(HEADER, &copy) {
                    Ok(snapshot) => {
                        loaded.table = Some(self.replay(&copy, &snapshot, &mut loaded.damaged));
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

    fn replay(&self, copy: &[u8], snapshot: &RoutingSnapshot, damaged: &mut Vec<(PathBuf, String)>) -> RouteTable {
        let mut table = RouteTable::new(snapshot);
        let Some(path) = file::identity(HEADER, copy).map(|checksum| self.journal(checksum)) else {
            return table;
        };
        if let Err(why) = journal::replay(&path, &mut table) {
            damaged.push((path, why));
        }
        table
    }

    /// Keeps `snapshot` as the current copy, and returns the journal of what changes from now on. A crash at any point leaves at
    /// least one copy that can be read, with its changes.
    fn save(&self, snapshot: &RoutingSnapshot) -> io::Result<Journal> {
        let new = self.folder.join("routing.new");
        let copy = file::encode(HEADER, snapshot)?;
        file::write_new(&new, &copy)?;
        let checksum = file::identity(HEADER, &copy).unwrap_or_default();
        let journal = Journal::begin(&self.journal(checksum), copy.len())?;
        self.make_room()?;
        file::replace(&new, &self.copy(0))?;
        if let Err(error) = self.remove_journals_of_none() {
            tracing::warn!(%error, "old changes of routing cannot be removed from disk");
        }
        Ok(journal)
    }

    /// Each copy becomes an older one; none does when there is room, as after an attempt that failed.
    fn make_room(&self) -> io::Result<()> {
        if !self.copy(0).try_exists()? {
            return Ok(());
        }
        for age in (0..OLDER_COPIES).rev() {
            match fs::rename(self.copy(age), self.copy(age + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Journals go with their copies.
    fn remove_journals_of_none(&self) -> io::Result<()> {
        let copies = (0..=OLDER_COPIES).map(|age| self.copy(age));
        let used: BTreeSet<PathBuf> = copies
            .filter_map(|copy| Some(self.journal(&file::identity_of(HEADER, &copy)?)))
            .collect();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let is_journal = entry.file_name().to_string_lossy().starts_with(JOURNAL);
            if is_journal && !used.contains(&entry.path()) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    fn journal(&self, checksum: &str) -> PathBuf {
        self.folder.join(format!("{JOURNAL}{checksum}"))
    }

    fn copy(&self, age: usize) -> PathBuf {
        match age {
            0 => self.folder.join("routing"),
            age => self.folder.join(format!("routing.{age}")),
        }
    }
}

/// Writes what is in use: changes as they come, and all of it when they would not do.
#[derive(Debug)]
pub struct SnapshotWriter {
    store: SnapshotStore,
    /// Of the current copy; none when that is not known to be what was written last.
    journal: Option<Journal>,
}

impl SnapshotWriter {
    /// Keeps `table`, to which `changes` have led from what was kept before; none when that is not known.
    ///
    /// # Errors
    /// When it cannot be written. What was kept before can still be read, and the next one is written as a whole.
    pub fn keep(&mut self, table: &RouteTable, changes: Option<&[RoutingDelta]>) -> io::Result<()> {
        if let (Some(mut journal), Some(changes)) = (self.journal.take(), changes)
            && journal.add(changes)?
        {
            self.journal = Some(journal);
            return Ok(());
        }
        self.journal = Some(self.store.save(&table.snapshot())?);
        Ok(())
    }
}

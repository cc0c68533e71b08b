//! How disks lie in their folder: each appears whole by one rename and goes by one, and what a crash left is told by its name.

use crate::disk::{Disk, DiskId};
use crate::error::DiskError;
use crate::mounts;
use crate::uuid::Uuid;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, Flock, FlockArg, OFlag, RenameFlags, renameat2};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// No app starts with a dot, so none of these is ever taken for a disk.
const UNFINISHED: &str = ".new-";
const REMOVED: &str = ".removed-";
const LOCK: &str = ".lock";
const RECORD: &str = "disk.json";
const NEW_RECORD: &str = "disk.json.new";

/// The folder of all disks. One process at a time has it.
pub(crate) struct Folder {
    path: PathBuf,
    _lock: Flock<File>,
}

impl Folder {
    pub(crate) fn open(path: &Path) -> Result<Self, DiskError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(DiskError::io("making", path))?;
        let path = path.canonicalize().map_err(DiskError::io("looking up", path))?;
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path.join(LOCK))
            .map_err(DiskError::io("locking", &path))?;
        match Flock::lock(lock, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Self { path, _lock: lock }),
            Err((_, Errno::EWOULDBLOCK)) => Err(DiskError::busy(format!(
                "another process keeps the disks in {}",
                path.display()
            ))),
            Err((_, error)) => Err(DiskError::io("locking", &path)(error)),
        }
    }

    pub(crate) fn disk(&self, id: &DiskId) -> PathBuf {
        self.path.join(id.to_string())
    }

    /// Whether there is such a disk. Only "no such file" means that it is not.
    pub(crate) fn has(&self, id: &DiskId) -> Result<bool, DiskError> {
        let path = self.disk(id);
        match fs::symlink_metadata(&path) {
            Ok(found) if found.is_dir() => Ok(true),
            Ok(_) => Err(DiskError::damaged(&path, "is not the folder of a disk")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(DiskError::io("reading", &path)(error)),
        }
    }

    pub(crate) fn ids(&self) -> Result<Vec<DiskId>, DiskError> {
        let names = self.names()?;
        let mut ids: Vec<DiskId> = names.iter().filter_map(|name| DiskId::parse(name)).collect();
        ids.sort();
        Ok(ids)
    }

    /// An empty folder in which a disk of that name can be made; an unfinished one of before is removed.
    pub(crate) fn unfinished(&self, id: &DiskId) -> Result<PathBuf, DiskError> {
        let path = self.path.join(format!("{UNFINISHED}{id}"));
        remove(&path)?;
        DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(DiskError::io("making", &path))?;
        Ok(path)
    }

    /// Makes an unfinished disk appear, whole and for good. One that is there stays.
    pub(crate) fn finish(&self, unfinished: &Path, id: &DiskId) -> Result<(), DiskError> {
        sync(unfinished)?;
        let path = self.disk(id);
        match renameat2(AT_FDCWD, unfinished, AT_FDCWD, &path, RenameFlags::RENAME_NOREPLACE) {
            Ok(()) => Ok(()),
            Err(Errno::EEXIST) => Err(DiskError::Exists {
                id: id.clone(),
                what: "something of that name appeared meanwhile".to_owned(),
            }),
            Err(error) => Err(DiskError::io("naming", &path)(error)),
        }
    }

    /// Makes a disk disappear, whole and for good; where it lies now.
    pub(crate) fn bury(&self, id: &DiskId) -> Result<PathBuf, DiskError> {
        let path = self.disk(id);
        let to = self.path.join(format!("{REMOVED}{id}-{}", Uuid::random()));
        fs::rename(&path, &to).map_err(DiskError::io("renaming", &path))?;
        Ok(to)
    }

    pub(crate) fn sync(&self) -> Result<(), DiskError> {
        sync(&self.path)
    }

    /// Removes what a crash left: disks that were never finished, and those that were deleted.
    pub(crate) fn clean(&self) -> Result<(), DiskError> {
        let names = self.names()?;
        let left = names
            .iter()
            .filter(|name| name.starts_with(UNFINISHED) || name.starts_with(REMOVED));
        for name in left {
            if let Err(error) = remove(&self.path.join(name)) {
                tracing::warn!(%error, name, "what is left of a disk cannot be removed");
            }
        }
        Ok(())
    }

    fn names(&self) -> Result<Vec<String>, DiskError> {
        let reading = |error| DiskError::io("reading", &self.path)(error);
        let entries = fs::read_dir(&self.path).map_err(reading)?;
        entries
            .map(|entry| Ok(entry.map_err(reading)?.file_name().to_string_lossy().into_owned()))
            .collect()
    }
}

/// Refuses a folder in which something is mounted: a removal would reach through.
pub(crate) fn must_be_free_of_mounts(path: &Path) -> Result<(), DiskError> {
    match mounts::below(path)?.first() {
        Some(point) => Err(DiskError::busy(format!("something is mounted at {}", point.display()))),
        None => Ok(()),
    }
}

/// Removes a folder, if it is there.
pub(crate) fn remove(path: &Path) -> Result<(), DiskError> {
    must_be_free_of_mounts(path)?;
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(DiskError::io("removing", path)(error)),
        _ => Ok(()),
    }
}

pub(crate) fn sync(path: &Path) -> Result<(), DiskError> {
    File::open(path)
        .and_then(|file| file.sync_all())
        .map_err(DiskError::io("syncing", path))
}

/// Writes what is known of a disk beside it: a reader finds the old text or the new one.
pub(crate) fn write_record(dir: &Path, disk: &Disk) -> Result<(), DiskError> {
    let new = dir.join(NEW_RECORD);
    let writing = |error: io::Error| DiskError::io("writing", &new)(error);
    let text = serde_json::to_vec_pretty(disk).map_err(|error| writing(error.into()))?;
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)
        .map_err(writing)?;
    file.write_all(&text).and_then(|()| file.sync_all()).map_err(writing)?;
    fs::rename(&new, dir.join(RECORD)).map_err(writing)?;
    sync(dir)
}

/// Reads it. A disk without one, or with one that is not whole, is damaged: never new.
pub(crate) fn read_record(dir: &Path, id: &DiskId) -> Result<Disk, DiskError> {
    let path = dir.join(RECORD);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(DiskError::damaged(&path, "is not there")),
        Err(error) => return Err(DiskError::io("reading", &path)(error)),
    };
    let disk: Disk = serde_json::from_slice(&text).map_err(|error| DiskError::damaged(&path, error.to_string()))?;
    if disk.id != *id {
        return Err(DiskError::damaged(&path, format!("is that of disk {}", disk.id)));
    }
    Ok(disk)
}

/// Opens a file of a disk, itself and not what a link leads to; None if it is not there.
pub(crate) fn open(path: &Path, write: bool) -> Result<Option<File>, DiskError> {
    let opened = OpenOptions::new()
        .read(true)
        .write(write)
        .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits())
        .open(path);
    match opened {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(DiskError::io("opening", path)(error)),
    }
}

//! Decides what is kept of a store that is about to be migrated: one copy of it as it was, for going back to the release before.

use super::{StoreError, schema};
use rusqlite::Connection;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// Where the copy of a store is that has become one of schema `schema`.
pub fn before(path: &Path, schema: i64) -> PathBuf {
    beside(path, &schema.to_string())
}

fn beside(path: &Path, of: &str) -> PathBuf {
    let mut name: OsString = path.as_os_str().to_owned();
    name.push(".before-");
    name.push(of);
    name.into()
}

/// Keeps a copy of what `connection` has open, in place of the one that an earlier migration left. It is there whole, or not at
/// all.
pub(super) fn keep(path: &Path, connection: &Connection, schema: i64) -> Result<(), StoreError> {
    let (part, copy) = (beside(path, "part"), before(path, schema));
    let failed = |error: io::Error| StoreError::Failed {
        doing: "copying the store before it is migrated",
        why: format!("{}: {error}", copy.display()),
    };
    remove(&part).map_err(failed)?;
    // What is in the log of writes is in the copy too, which a copy of the file would not have.
    let made = connection.execute("VACUUM INTO ?1", [part.to_string_lossy()]);
    made.map_err(|error| schema::refusal(path, &error))?;
    File::open(&part)
        .and_then(|file| file.sync_all())
        .and_then(|()| fs::rename(&part, &copy))
        .and_then(|()| keep_only(&copy))
        .map_err(failed)?;
    tracing::info!(copy = %copy.display(), "the store is migrated; a copy of it as it was is kept");
    Ok(())
}

/// Removes the copies of earlier migrations, once this one is on the disk.
fn keep_only(copy: &Path) -> io::Result<()> {
    let Some(folder) = copy.parent() else { return Ok(()) };
    File::open(folder)?.sync_all()?;
    let name = copy.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let stem = name.rsplit_once('-').map_or(&*name, |(stem, _)| stem).to_owned() + "-";
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let other = entry.file_name().to_string_lossy().into_owned();
        if other != name && other.starts_with(&stem) {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

//! How the store is copied before another build has it, and comes back. Whoever calls has locked the store: no control has it open.

use super::files;
use super::record::{Record, sync_folder};
use crate::failure::{Doing, Failure};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

/// What a store is on disk when nobody has it open: the file, and what was not moved into it yet. The index of that is made anew.
const PARTS: [&str; 2] = ["", "-wal"];
const INDEX: &str = "-shm";

fn part(store: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(store);
    name.push(suffix);
    name.into()
}

/// Where the copy is while an upgrade is under way.
fn copy_of(record: &Record) -> PathBuf {
    record.data_dir.join("upgrade.db")
}

/// Copies it in the place of any copy before.
pub fn copy(record: &Record) -> Result<(), Failure> {
    remove_copy(record)?;
    for suffix in PARTS {
        let from = part(&record.store, suffix);
        if from.exists() {
            files::copy(&from, &part(&copy_of(record), suffix))?;
        }
    }
    Ok(())
}

/// Makes the store what it was when it was copied. May be done again.
pub fn put_back(record: &Record) -> Result<(), Failure> {
    let copy = copy_of(record);
    for suffix in [PARTS[1], INDEX] {
        files::remove(&part(&record.store, suffix))?;
    }
    sync_folder(&record.store).doing(|| format!("putting back {}", record.store.display()))?;
    // What belongs to the old file first: without that file's new content it means nothing, and nobody has it open.
    for suffix in [PARTS[1], PARTS[0]] {
        let from = part(&copy, suffix);
        if from.exists() {
            files::copy(&from, &part(&record.store, suffix))?;
        }
    }
    Ok(())
}

pub fn remove_copy(record: &Record) -> Result<(), Failure> {
    PARTS
        .iter()
        .try_for_each(|suffix| files::remove(&part(&copy_of(record), suffix)))
}

/// What the copy takes on the disk, in bytes.
pub fn size(store: &Path) -> u64 {
    let sizes = PARTS.iter().filter_map(|suffix| fs::metadata(part(store, suffix)).ok());
    sizes.map(|facts| facts.len()).sum()
}

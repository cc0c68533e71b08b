//! How the store is copied before another build has it, and comes back. Whoever calls has locked the store: no control has it open.

use super::files;
use super::record::{Record, sync_folder};
use crate::failure::{Doing, Failure};
use std::ffi::OsString;
use std::fs;
use std::io;
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

/// Where the store is kept that the copy takes the place of.
fn failed_of(record: &Record) -> PathBuf {
    part(&record.store, ".failed")
}

/// What was kept of an earlier one is not what `put_back` replaces next.
pub fn forget_failed(record: &Record) -> Result<(), Failure> {
    // In this order: the file says that all of it is there.
    let failed = failed_of(record);
    files::remove(&failed)?;
    files::remove(&part(&failed, PARTS[1]))
}

/// Makes the store what it was when it was copied, and keeps what it was until now. May be done again after it has begun, and has to be:
/// in between, the log of the one may lie beside the file of the other, and would be taken for its own.
pub fn put_back(record: &Record) -> Result<(), Failure> {
    let (copy, failed) = (copy_of(record), failed_of(record));
    let what = || format!("putting back {}", record.store.display());
    if !copy.exists() {
        let why = format!("there is no {}; the store is as it was", copy.display());
        return Err(Failure::failed(why).doing(&what()));
    }
    // What takes long, and room, before the store is touched.
    let parts = PARTS.map(|suffix| {
        (
            part(&copy, suffix),
            part(&record.store, &format!("{suffix}.back")),
            suffix,
        )
    });
    for (from, beside, _) in &parts {
        files::remove(beside)?;
        if from.exists() {
            files::copy(from, beside)?;
        }
    }
    let put = || {
        if !failed.exists() {
            for suffix in [PARTS[1], PARTS[0]] {
                link(&part(&record.store, suffix), &part(&failed, suffix))?;
            }
        }
        // Without a log a file is whole or too old; with another's log it is neither.
        for suffix in [PARTS[1], INDEX] {
            remove(&part(&record.store, suffix))?;
        }
        sync_folder(&record.store)?;
        for (_, beside, suffix) in parts.iter().filter(|(_, beside, _)| beside.exists()) {
            fs::rename(beside, part(&record.store, suffix))?;
            sync_folder(&record.store)?;
        }
        Ok::<(), io::Error>(())
    };
    put().doing(what)
}

/// Of what is there.
fn link(from: &Path, to: &Path) -> io::Result<()> {
    remove(to)?;
    match fs::hard_link(from, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        linked => linked,
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Whoever calls has written down that there is none any more: `put_back` trusts what is written.
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

#[cfg(test)]
mod tests {
    use super::super::tests::record;
    use super::*;
    use crate::verb::upgrade::record::Phase;

    struct Place {
        _folder: tempfile::TempDir,
        record: Record,
    }

    impl Place {
        /// A store that has been copied, and written to since.
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let mut record = record(Phase::Control);
            record.data_dir = folder.path().to_owned();
            record.store = folder.path().join("control.db");
            let place = Self {
                _folder: folder,
                record,
            };
            place.write("", "old");
            place.write("-wal", "old log");
            copy(&place.record).unwrap();
            for (suffix, text) in [("", "new"), ("-wal", "new log"), ("-shm", "new index")] {
                place.write(suffix, text);
            }
            place
        }

        fn write(&self, suffix: &str, text: &str) {
            // As a daemon that was started anew: what was linked elsewhere stays what it was.
            let path = part(&self.record.store, suffix);
            files::remove(&path).unwrap();
            fs::write(path, text).unwrap();
        }

        fn has(&self, suffix: &str) -> Option<String> {
            fs::read_to_string(part(&self.record.store, suffix)).ok()
        }

        #[track_caller]
        fn has_all(&self, expected: [(&str, Option<&str>); 5]) {
            for (suffix, text) in expected {
                assert_eq!(self.has(suffix).as_deref(), text, "{suffix:?}");
            }
        }
    }

    const BACK: [(&str, Option<&str>); 5] = [
        ("", Some("old")),
        ("-wal", Some("old log")),
        ("-shm", None),
        (".failed", Some("new")),
        (".failed-wal", Some("new log")),
    ];

    #[test]
    fn a_store_that_comes_back_takes_the_place_of_one_that_is_kept() {
        let place = Place::new();
        fs::write(part(&place.record.store, ".failed"), "of an upgrade before").unwrap();
        forget_failed(&place.record).unwrap();
        put_back(&place.record).unwrap();
        place.has_all(BACK);
        // Killed before that was written down: what is kept is still what failed.
        put_back(&place.record).unwrap();
        place.has_all(BACK);
    }

    #[test]
    fn a_store_is_left_alone_where_there_is_no_copy() {
        let place = Place::new();
        remove_copy(&place.record).unwrap();
        let refused = put_back(&place.record).unwrap_err();
        assert!(refused.message.contains("upgrade.db"), "{}", refused.message);
        place.has_all([
            ("", Some("new")),
            ("-wal", Some("new log")),
            ("-shm", Some("new index")),
            (".failed", None),
            (".failed-wal", None),
        ]);
    }

    #[test]
    fn a_log_never_lies_beside_the_file_of_another_store_once_it_is_done_again() {
        // What a kill leaves between any two of its changes.
        for state in [
            [("", Some("new")), ("-wal", None)],
            [("", Some("old")), ("-wal", None)],
            [("", Some("old")), ("-wal", Some("old log"))],
        ] {
            let place = Place::new();
            for (suffix, text) in [(".failed", "new"), (".failed-wal", "new log")] {
                fs::write(part(&place.record.store, suffix), text).unwrap();
            }
            for (suffix, text) in state {
                match text {
                    Some(text) => place.write(suffix, text),
                    None => files::remove(&part(&place.record.store, suffix)).unwrap(),
                }
            }
            put_back(&place.record).unwrap();
            place.has_all(BACK);
        }
    }
}

//! One `miren dev` per folder and per name: a locked file that the kernel releases whatever happens.

use crate::failure::{Doing, Failure};
use nix::fcntl::{Flock, FlockArg};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Held until dropped; then the file is removed too.
pub struct Lock {
    path: PathBuf,
    file: Flock<File>,
}

impl Lock {
    /// Takes the lock, or nothing if somebody else has it.
    pub fn take(path: &Path) -> Result<Option<Self>, Failure> {
        let what = || format!("locking {}", path.display());
        loop {
            let file = OpenOptions::new()
                .create(true)
                .truncate(false)
                .read(true)
                .write(true)
                .open(path)
                .doing(what)?;
            let mut file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(file) => file,
                Err((_, nix::errno::Errno::EWOULDBLOCK)) => return Ok(None),
                Err((_, error)) => return Err(std::io::Error::from(error)).doing(what),
            };
            // The last holder may have removed the file between our opening and locking it.
            if same_file(&file, path) {
                file.set_len(0)
                    .and_then(|()| writeln!(file, "{}", std::process::id()))
                    .doing(what)?;
                return Ok(Some(Self {
                    path: path.to_owned(),
                    file,
                }));
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if same_file(&self.file, &self.path) {
            // Removing it is tidiness only; the lock goes with the file's descriptor.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Who holds a lock, as its holder wrote it.
pub fn holder(path: &Path) -> String {
    match fs::read_to_string(path)
        .ok()
        .and_then(|text| text.trim().parse::<u32>().ok())
    {
        Some(pid) => format!("process {pid}"),
        None => "another process".to_owned(),
    }
}

fn same_file(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::metadata(path)) {
        (Ok(ours), Ok(theirs)) => (ours.dev(), ours.ino()) == (theirs.dev(), theirs.ino()),
        _ => false,
    }
}

/// How often a lock is looked at that somebody else is about to release; locks cannot be awaited with a deadline.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Waits until nobody holds `path`, at most `patience`. Says whether it is free.
pub async fn released(path: &Path, patience: Duration) -> bool {
    let began = Instant::now();
    while is_held(path) {
        if began.elapsed() > patience {
            return false;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    true
}

/// Whether somebody holds a lock on `path` right now.
pub fn is_held(path: &Path) -> bool {
    let Ok(file) = File::open(path) else { return false };
    matches!(
        Flock::lock(file, FlockArg::LockExclusiveNonblock),
        Err((_, nix::errno::Errno::EWOULDBLOCK))
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_one_is_refused_until_the_first_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dev.lock");
        let first = Lock::take(&path).unwrap().expect("free");
        assert!(Lock::take(&path).unwrap().is_none());
        assert!(is_held(&path));
        assert_eq!(holder(&path), format!("process {}", std::process::id()));
        drop(first);
        assert!(!path.exists(), "nothing is left behind");
        assert!(Lock::take(&path).unwrap().is_some());
    }

    #[test]
    fn a_file_left_by_a_killed_holder_does_not_lock() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dev.lock");
        fs::write(&path, "4194304\n").unwrap();
        assert!(!is_held(&path));
        assert!(Lock::take(&path).unwrap().is_some());
    }

    #[test]
    fn a_file_removed_while_it_was_being_locked_does_not_count() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dev.lock");
        let opened = File::create(&path).unwrap();
        fs::remove_file(&path).unwrap();
        assert!(!same_file(&opened, &path), "nobody else could ever find this one");
        let _theirs = Lock::take(&path).unwrap().expect("free");
        assert!(!same_file(&opened, &path), "the path leads to another file by now");
    }
}

//! Decides when a program on disk is another one than the process that was started from it: as a build or an upgrade leaves it.

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// How long nothing has to happen in its folder: whoever writes it does so in steps.
const QUIET: Duration = Duration::from_millis(200);

/// The file of a program.
#[derive(Debug)]
pub struct Binary {
    path: PathBuf,
    /// What was started from it last, or tried.
    known: Option<Identity>,
    /// What the process runs.
    served: Option<Identity>,
    inotify: Inotify,
    /// When that has something to say.
    ready: AsyncFd<OwnedFd>,
}

/// No two files of one path have all of these in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    bytes: u64,
    changed: (i64, i64),
}

impl Binary {
    /// Watches it from now on. Must be called within a runtime.
    pub fn watch(path: &Path) -> io::Result<Self> {
        let folder = path.parent().ok_or(io::ErrorKind::NotFound)?;
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let changes = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_CLOSE_WRITE;
        inotify.add_watch(folder, changes)?;
        let same = inotify.as_fd().try_clone_to_owned()?;
        // SAFETY: the descriptor is owned by what is registered, so it stays open and the same.
        let ready = unsafe { AsyncFd::register_with_interest(same, Interest::READABLE) }?;
        Ok(Self {
            known: identity(path),
            served: None,
            path: path.to_owned(),
            inotify,
            ready,
        })
    }

    /// Waits until it is another file than before, and whole. Cancel-safe.
    pub async fn changed(&mut self) -> io::Result<()> {
        loop {
            self.event().await?;
            while let Ok(event) = tokio::time::timeout(QUIET, self.event()).await {
                event?;
            }
            if self.is_another() {
                return Ok(());
            }
        }
    }

    /// It is about to be started as it is on disk now.
    pub fn is_tried(&mut self) {
        self.known = identity(&self.path);
    }

    /// What was tried last serves.
    pub fn serves(&mut self) {
        self.served = self.known;
    }

    /// Whether what is on disk now serves.
    pub fn is_served(&self) -> bool {
        self.served.is_some() && identity(&self.path) == self.served
    }

    /// Something has happened in its folder.
    async fn event(&self) -> io::Result<()> {
        let read = |_: &OwnedFd| self.inotify.read_events().map_err(io::Error::from);
        self.ready.async_io(Interest::READABLE, read).await.map(|_| ())
    }

    /// True once for each. One that is gone for the moment is no other, nor is the one that serves, when it is back.
    fn is_another(&mut self) -> bool {
        let found = identity(&self.path);
        let is_another = found.is_some() && found != self.known;
        if is_another {
            self.known = found;
        }
        is_another && found != self.served
    }
}

fn identity(path: &Path) -> Option<Identity> {
    let facts = fs::metadata(path).ok()?;
    Some(Identity {
        device: facts.dev(),
        inode: facts.ino(),
        bytes: facts.len(),
        changed: (facts.mtime(), facts.mtime_nsec()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_program_is_another_one_when_it_was_replaced_and_not_when_something_beside_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("program");
        fs::write(&path, "old").unwrap();
        let mut binary = Binary::watch(&path).unwrap();
        fs::write(folder.path().join("beside"), "x").unwrap();
        fs::write(folder.path().join("new"), "new").unwrap();
        assert!(!binary.is_another());
        fs::rename(folder.path().join("new"), &path).unwrap();
        let changed = tokio::time::timeout(PATIENCE, binary.changed()).await;
        changed.expect("it is noticed").unwrap();
        assert!(!binary.is_another(), "once");
        fs::remove_file(&path).unwrap();
        assert!(!binary.is_another(), "it is only gone");
        fs::write(&path, "another").unwrap();
        let changed = tokio::time::timeout(PATIENCE, binary.changed()).await;
        changed.expect("it is noticed, too").unwrap();
    }
}

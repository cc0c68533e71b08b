//! Decides which process the data folder belongs to: only that one writes there, and can be asked there to make way. A successor has
//! it when the process before it lets go, or ends.

use miren_fault::Point;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

const LOCK: &str = "lock";
/// How long after a failure it is tried again.
const AGAIN: Duration = Duration::from_secs(2);

/// The folder, which may belong to this process. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Folder {
    path: Arc<Path>,
    held: watch::Sender<Tenure>,
}

#[derive(Clone, Debug)]
enum Tenure {
    NotYet,
    Ours(Pen),
    /// It is another's, for good.
    Left,
}

/// Nobody else writes while there is one.
#[derive(Clone, Debug)]
pub struct Pen(#[expect(dead_code, reason = "held for its drop")] Arc<Flock<File>>);

impl Folder {
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.into(),
            held: watch::Sender::new(Tenure::NotYet),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes it this process's as soon as it is nobody else's. Tried again where it cannot be locked at all, as on a full disk: until
    /// then it is as if it belonged to somebody else.
    pub async fn own(&self) {
        let mut said = false;
        loop {
            match self.lock().await {
                Ok(lock) => {
                    miren_fault::pass(Point::TakeFolder);
                    return self.is_owned(lock);
                }
                Err(error) if !std::mem::replace(&mut said, true) => {
                    tracing::error!(folder = %self.path.display(), %error, "the data folder cannot be locked: nothing is kept there, and no upgrade can begin");
                }
                Err(_) => {}
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn lock(&self) -> io::Result<Flock<File>> {
        let path = self.path.join(LOCK);
        match lock(&path, FlockArg::LockExclusiveNonblock) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                tracing::info!(folder = %self.path.display(), "another proxy writes here: waiting for its end");
                in_its_turn(path).await
            }
            locked => locked,
        }
    }

    fn is_owned(&self, lock: Flock<File>) {
        self.held.send_if_modified(|held| {
            let takes = matches!(held, Tenure::NotYet);
            if takes {
                *held = Tenure::Ours(Pen(Arc::new(lock)));
            }
            takes
        });
    }

    /// The right to write, once it is this process's; never if it is not any more.
    pub async fn pen(&self) -> Pen {
        let mut held = self.held.subscribe();
        loop {
            let pen = match &*held.borrow_and_update() {
                Tenure::Ours(pen) => Some(pen.clone()),
                Tenure::NotYet | Tenure::Left => None,
            };
            if let Some(pen) = pen {
                return pen;
            }
            // The sender is this one's own.
            let _ = held.changed().await;
        }
    }

    /// Leaves it to another process: what is being written is still written, nothing after it.
    pub fn leave(&self) {
        self.held.send_replace(Tenure::Left);
    }
}

/// Not polled: the kernel says when it is free.
async fn in_its_turn(path: PathBuf) -> io::Result<Flock<File>> {
    let waiting = tokio::task::spawn_blocking(move || lock(&path, FlockArg::LockExclusive));
    waiting.await.map_err(io::Error::other)?
}

/// Whether the folder belongs to a process. Nothing is made there.
pub fn is_taken(folder: &Path) -> io::Result<bool> {
    let file = match File::open(folder.join(LOCK)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        opened => opened?,
    };
    match Flock::lock(file, FlockArg::LockSharedNonblock) {
        // Let go at once. A proxy that begins at this moment waits for it, as for another one's end.
        Ok(_) => Ok(false),
        Err((_, Errno::EWOULDBLOCK)) => Ok(true),
        Err((_, errno)) => Err(errno.into()),
    }
}

fn lock(path: &Path, how: FlockArg) -> io::Result<Flock<File>> {
    let mut file = File::options().create(true).truncate(false).write(true).open(path)?;
    loop {
        match Flock::lock(file, how) {
            Ok(lock) => return Ok(lock),
            Err((again, Errno::EINTR)) => file = again,
            Err((_, errno)) => return Err(errno.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    /// Whether another process would have it: asked, and not waited for.
    fn is_free(folder: &Path) -> bool {
        lock(&folder.join(LOCK), FlockArg::LockExclusiveNonblock).is_ok()
    }

    #[tokio::test]
    async fn a_folder_is_one_process_s_until_it_lets_go_and_has_finished_writing() {
        let folder = tempfile::tempdir().unwrap();
        let own = Folder::new(folder.path());
        assert!(own.pen().now_or_never().is_none(), "not yet");
        assert!(!is_taken(folder.path()).unwrap(), "nobody was ever here");
        own.own().await;
        let pen = own.pen().now_or_never().expect("it is this one's");
        assert!(!is_free(folder.path()) && is_taken(folder.path()).unwrap());
        own.leave();
        assert!(own.pen().now_or_never().is_none(), "it is left");
        assert!(!is_free(folder.path()), "something is still being written");
        drop(pen);
        assert!(is_free(folder.path()) && !is_taken(folder.path()).unwrap());
    }

    #[tokio::test]
    async fn who_left_a_folder_before_it_had_it_never_gets_it() {
        let folder = tempfile::tempdir().unwrap();
        let own = Folder::new(folder.path());
        own.leave();
        own.own().await;
        assert!(own.pen().now_or_never().is_none());
        assert!(is_free(folder.path()), "nobody holds it");
    }
}

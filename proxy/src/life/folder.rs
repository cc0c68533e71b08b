//! Decides which process the data folder belongs to: only that one writes there, and can be asked there to make way. A successor has
//! it when the process before it lets go, or ends.

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
    held: watch::Sender<Held>,
}

#[derive(Clone, Debug)]
enum Held {
    NotYet,
    Held(Pen),
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
            held: watch::Sender::new(Held::NotYet),
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
                Ok(lock) => return self.is_owned(lock),
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
            let takes = matches!(held, Held::NotYet);
            if takes {
                *held = Held::Held(Pen(Arc::new(lock)));
            }
            takes
        });
    }

    /// The right to write, once it is this process's; never if it is not any more.
    pub async fn pen(&self) -> Pen {
        let mut held = self.held.subscribe();
        loop {
            let pen = match &*held.borrow_and_update() {
                Held::Held(pen) => Some(pen.clone()),
                Held::NotYet | Held::Left => None,
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
        self.held.send_replace(Held::Left);
    }
}

/// Not polled: the kernel says when it is free.
async fn in_its_turn(path: PathBuf) -> io::Result<Flock<File>> {
    let waiting = tokio::task::spawn_blocking(move || lock(&path, FlockArg::LockExclusive));
    waiting.await.map_err(io::Error::other)?
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

    const PATIENCE: Duration = Duration::from_secs(60);

    #[tokio::test(flavor = "multi_thread")]
    async fn f14_a_folder_is_one_process_s_until_it_lets_go_and_has_finished_writing() {
        let folder = tempfile::tempdir().unwrap();
        let (old, new) = (Folder::new(folder.path()), Folder::new(folder.path()));
        old.own().await;
        let pen = old.pen().await;
        let successor = new.clone();
        let waits = tokio::spawn(async move { successor.own().await });
        old.leave();
        assert!(futures_util::FutureExt::now_or_never(old.pen()).is_none(), "it is left");
        assert!(
            futures_util::FutureExt::now_or_never(new.pen()).is_none(),
            "something is still being written"
        );
        drop((pen, old));
        tokio::time::timeout(PATIENCE, waits)
            .await
            .expect("its turn comes")
            .unwrap();
        assert!(futures_util::FutureExt::now_or_never(new.pen()).is_some());
    }

    #[tokio::test]
    async fn f14_who_left_a_folder_before_it_had_it_never_gets_it() {
        let folder = tempfile::tempdir().unwrap();
        let one = Folder::new(folder.path());
        one.leave();
        one.own().await;
        let other = Folder::new(folder.path());
        other.own().await;
        assert!(
            futures_util::FutureExt::now_or_never(other.pen()).is_some(),
            "nobody holds it"
        );
    }
}

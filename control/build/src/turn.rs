//! Decides what happens when the last process of a build has ended, whichever way: what it left is cleared away, once, and the
//! next build begins.

use crate::builds::Builds;
use crate::scratch::Scratch;
use crate::storage::{self, Ended, Storage};
use parking_lot::Mutex;
use std::io;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// What one build keeps from others for as long as a process of it lives.
pub(crate) struct Turn {
    left: Arc<Left>,
    permit: Option<OwnedSemaphorePermit>,
    over: Option<oneshot::Sender<()>>,
}

/// What there is to be cleared away.
struct Left {
    builds: Arc<Builds>,
    scratch: Scratch,
    storage: Mutex<Option<(Storage, Ended)>>,
}

impl Turn {
    /// The receiver hears, by its error, that everything was cleared away.
    pub(crate) fn new(builds: &Arc<Builds>, permit: OwnedSemaphorePermit) -> io::Result<(Self, oneshot::Receiver<()>)> {
        let (over, is_over) = oneshot::channel();
        let left = Left {
            scratch: Scratch::make(&builds.settings)?,
            builds: Arc::clone(builds),
            storage: Mutex::default(),
        };
        let turn = Self {
            left: Arc::new(left),
            permit: Some(permit),
            over: Some(over),
        };
        Ok((turn, is_over))
    }

    /// Opens the layers of an app for this build.
    pub(crate) fn storage(&self, app: &str) -> io::Result<Storage> {
        let storage = Storage::open(&self.left.builds.settings, app)?;
        *self.left.storage.lock() = Some((storage.clone(), Ended::Badly));
        Ok(storage)
    }

    /// The build has got to its end.
    pub(crate) fn ended_well(&self) {
        if let Some((_, ended)) = &mut *self.left.storage.lock() {
            *ended = Ended::Well;
        }
    }

    pub(crate) fn scratch(&self) -> &Scratch {
        &self.left.scratch
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let (left, permit, over) = (Arc::clone(&self.left), self.permit.take(), self.over.take());
        let clearing = std::thread::Builder::new().spawn(move || {
            left.clear();
            drop(permit);
            drop(over);
        });
        if let Err(error) = clearing {
            tracing::warn!(%error, "what a build left stays until the next start");
        }
    }
}

impl Left {
    fn clear(&self) {
        if let Err(error) = storage::remove(self.scratch.folder()) {
            tracing::warn!(folder = %self.scratch.folder().display(), %error, "what a build left stays until the next start");
        }
        let Some((storage, ended)) = self.storage.lock().take() else {
            return;
        };
        if let Err(error) = storage.close(ended) {
            tracing::warn!(%error, "the layers of a build are thrown away should this machine lose its power");
        }
        if let Err(error) = storage::bound(&self.builds.settings, &self.builds.programs) {
            tracing::warn!(%error, "the layers of earlier builds stay");
        }
    }
}

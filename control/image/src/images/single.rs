//! Decides who fetches a layer that several want: the first; the others wait and find it there.

use crate::digest::Digest;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::{Arc, Weak};
use tokio::sync::OwnedMutexGuard;

/// One turn after the other, for each layer.
#[derive(Debug, Default)]
pub(super) struct SingleFlight {
    turns: Mutex<HashMap<Digest, Weak<tokio::sync::Mutex<()>>>>,
}

/// Someone's turn at a layer.
pub(super) type Turn = OwnedMutexGuard<()>;

impl SingleFlight {
    pub(super) async fn turn(&self, layer: &Digest) -> Turn {
        let queue = self.queue(layer);
        queue.lock_owned().await
    }

    fn queue(&self, layer: &Digest) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.turns.lock();
        if let Some(queue) = turns.get(layer).and_then(Weak::upgrade) {
            return queue;
        }
        turns.retain(|_, queue| queue.strong_count() > 0);
        let queue = Arc::default();
        turns.insert(*layer, Arc::downgrade(&queue));
        queue
    }
}

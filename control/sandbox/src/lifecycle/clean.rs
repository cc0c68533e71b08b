//! Decides how often a clean-up is tried, and what happens to the slot after it.

use super::Sandbox;
use crate::node::Node;
use crate::registry::CleanUp;
use miren_api::id::SandboxId;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::{sleep, timeout};

/// Delays between attempts.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(60);

impl Sandbox {
    /// Removes everything of the sandbox. Until that has worked it counts as there: "drained" waits for it.
    pub(crate) async fn clean_up(mut self, ended: Instant) {
        let node = Arc::clone(&self.node);
        let slot = self.life.as_ref().map(|life| life.slot);
        self.until_prepared().await;
        until_clean(&node, &self.order.id, slot).await;
        // Before anybody hears that it is gone.
        self.image = None;
        if let Some(life) = &self.life {
            node.rest_place(life.slot, life.generation, ended);
        }
        node.registry.remove(&self.order.id);
    }
}

impl Sandbox {
    /// Waits for files that are still being made: what is removed before that would be made again.
    async fn until_prepared(&mut self) {
        let (node, id, limit) = (&self.node, &self.order.id, self.node.config.cleanup_timeout);
        let Some(preparing) = &mut self.preparing else { return };
        for attempts in 1.. {
            // How it ends says nothing any more.
            if timeout(limit, &mut *preparing).await.is_ok() {
                return;
            }
            let error = "its files are still being made: the disk does not answer".to_owned();
            tracing::error!(sandbox = %id, attempts, error, "clean-up cannot begin");
            let id = id.clone();
            node.registry.report_clean_up(CleanUp { id, attempts, error });
        }
    }
}

/// Tries again, with growing delays, until nothing is left. Every failure is logged and visible.
pub(crate) async fn until_clean(node: &Arc<Node>, id: &SandboxId, slot: Option<u32>) {
    let limit = node.config.cleanup_timeout;
    let mut delay = FIRST_RETRY;
    for attempts in 1.. {
        let error = match timeout(limit, node.clean(id.as_str(), slot)).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error,
            Err(_) => format!("took longer than {limit:?}"),
        };
        tracing::error!(sandbox = %id, attempts, error, "clean-up failed; trying again in {delay:?}");
        let id = id.clone();
        node.registry.report_clean_up(CleanUp { id, attempts, error });
        tokio::select! {
            () = sleep(delay) => {}
            () = node.registry.hurried() => {}
        }
        delay = (delay * 2).min(LAST_RETRY);
    }
}

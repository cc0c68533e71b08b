//! Decides how it is noticed that there may be more to grant than a moment ago.

use std::time::Duration;
use tokio::sync::watch;

/// What [`super::Desk::changes`] returns.
pub struct Changes(pub(super) watch::Receiver<u64>);

impl Changes {
    /// What was changed so far is known.
    pub fn seen(&mut self) {
        self.0.mark_unchanged();
    }

    /// Whether something has changed since.
    #[cfg(test)]
    pub fn are_new(&self) -> bool {
        self.0.has_changed().unwrap_or(false)
    }

    /// Resolves at the next change, or after `at_most`: then only time has passed.
    pub async fn next(&mut self, at_most: Duration) {
        // The sender lives as long as whoever waits.
        let _ = tokio::time::timeout(at_most, self.0.changed()).await;
    }
}

//! Decides when the process has to end although nobody asked it to: its store is another's, or gone. Nothing that serves ends
//! with it, and its successor rebuilds everything from what is stored.

use std::time::Duration;
use tokio::sync::watch;

/// Where it is said that the process must end. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Fatal {
    why: watch::Sender<Option<String>>,
}

impl Fatal {
    /// The process ends for this reason; the first one is what it says.
    pub fn end(&self, why: String) {
        self.why.send_if_modified(|first| {
            let is_first = first.is_none();
            if is_first {
                tracing::error!(
                    why,
                    "control cannot go on and ends; a successor begins from what is stored"
                );
                *first = Some(why);
            }
            is_first
        });
    }

    /// Resolves with the reason once there is one.
    pub async fn ended(&self) -> String {
        let mut told = self.why.subscribe();
        match told.wait_for(Option::is_some).await {
            Ok(why) => why.clone().unwrap_or_default(),
            // There is a sender for as long as this is.
            Err(_) => std::future::pending().await,
        }
    }
}

/// What a process may take to its end once one of its own tasks is dead: its last words, on a machine that is busy.
const END: Duration = Duration::from_secs(5);

/// For whoever is owed an answer by a task that is dead: what became of what it was asked is not known here. The process ends with that task
/// (ADR 0023), and the next one reads it: nothing is decided, saved or told before. Returns only where the process goes on, as in tests.
pub async fn outlived() {
    tokio::time::sleep(END).await;
}

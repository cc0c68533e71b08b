//! Decides what a boot that failed is called: by the step that failed, then by what went wrong in it.

use std::fmt::Display;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// A boot that failed, by its step, with what went wrong in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BootError {
    /// What it was asked to run cannot be.
    #[error("config: {0}")]
    Config(String),
    /// Something it was to have mounted is not to be had.
    #[error("volume: {0}")]
    Volume(String),
    /// The files it starts with are not there.
    #[error("image: {0}")]
    Image(String),
    /// Its own root could not be made of them.
    #[error("snapshot: {0}")]
    Snapshot(String),
    /// It has no place, no namespace, or no way to be reached.
    #[error("network: {0}")]
    Network(String),
    /// It could not be put into the runtime's terms.
    #[error("spec: {0}")]
    Spec(String),
    /// The runtime did not make it.
    #[error("create: {0}")]
    Create(String),
    /// Its command did not begin to run, or ended as soon as it did.
    #[error("start: {0}")]
    Start(String),
    /// It never listened.
    #[error("port: {0}")]
    Port(String),
    /// It listened, and did not answer well.
    #[error("health: {0}")]
    Health(String),
}

/// Makes an error of one step of what went wrong in it.
pub(super) type Step = fn(String) -> BootError;

/// Names the step that failed.
pub(super) trait InStep<T> {
    fn step(self, step: Step) -> Result<T, BootError>;
}

impl<T, E: Display> InStep<T> for Result<T, E> {
    fn step(self, step: Step) -> Result<T, BootError> {
        self.map_err(|error| step(error.to_string()))
    }
}

/// The time that all steps of one boot have together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    limit: Duration,
    until: Instant,
}

impl Budget {
    /// It begins now.
    pub(super) fn new(limit: Duration) -> Self {
        let until = Instant::now() + limit;
        Self { limit, until }
    }

    /// Does the work of one step within it.
    pub(super) async fn within<T, E: Display>(
        self,
        step: Step,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, BootError> {
        match timeout_at(self.until, work).await {
            Ok(done) => done.step(step),
            Err(_) => Err(step(format!("its sandbox was not made within {:?}", self.limit))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b2_a_reason_begins_with_the_step() {
        let steps: [(Step, &str); 10] = [
            (BootError::Config, "config"),
            (BootError::Volume, "volume"),
            (BootError::Image, "image"),
            (BootError::Snapshot, "snapshot"),
            (BootError::Network, "network"),
            (BootError::Spec, "spec"),
            (BootError::Create, "create"),
            (BootError::Start, "start"),
            (BootError::Port, "port"),
            (BootError::Health, "health"),
        ];
        for (step, name) in steps {
            assert_eq!(step("why".into()).to_string(), format!("{name}: why"));
        }
    }

    #[tokio::test]
    async fn b2_a_step_that_hangs_is_named() {
        let never = std::future::pending::<Result<(), String>>();
        let budget = Budget::new(Duration::from_millis(1));
        let late = budget.within(BootError::Network, never).await;
        let expected = BootError::Network("its sandbox was not made within 1ms".into());
        assert_eq!(late, Err(expected));
    }
}

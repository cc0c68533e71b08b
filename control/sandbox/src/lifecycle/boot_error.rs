//! Decides what a boot that failed is called: by the step that failed, then by what went wrong in it.

use crate::blame::{Blame, Why};
use miren_api::resource::NodeFault;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// A boot that failed, by its step, with what went wrong in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BootError {
    /// What it was asked to run cannot be.
    #[error("config: {0}")]
    Config(Why),
    /// Something it was to have mounted is not to be had.
    #[error("volume: {0}")]
    Volume(Why),
    /// The files it starts with are not there.
    #[error("image: {0}")]
    Image(Why),
    /// Its own root could not be made of them.
    #[error("snapshot: {0}")]
    Snapshot(Why),
    /// It has no place, no namespace, or no way to be reached.
    #[error("network: {0}")]
    Network(Why),
    /// It could not be put into the runtime's terms.
    #[error("spec: {0}")]
    Spec(Why),
    /// The runtime did not make it.
    #[error("create: {0}")]
    Create(Why),
    /// Its command did not begin to run, or ended as soon as it did.
    #[error("start: {0}")]
    Start(Why),
    /// It never listened.
    #[error("port: {0}")]
    Port(Why),
    /// It listened, and did not answer well.
    #[error("health: {0}")]
    Health(Why),
}

impl BootError {
    /// None: the app's fault. What an app asked for, and what it did once it ran, is always its own.
    pub(super) fn node_fault(&self) -> Option<NodeFault> {
        match self {
            Self::Config(_) | Self::Port(_) | Self::Health(_) => None,
            // An app has no say in it.
            Self::Network(why) => why.node_fault.or(Some(NodeFault::Network)),
            Self::Volume(why) | Self::Image(why) | Self::Snapshot(why) => why.node_fault,
            Self::Spec(why) | Self::Create(why) | Self::Start(why) => why.node_fault,
        }
    }
}

/// Makes an error of one step of what went wrong in it.
pub(super) type Step = fn(Why) -> BootError;

/// Names the step that failed.
pub(super) trait InStep<T> {
    fn step(self, step: Step) -> Result<T, BootError>;
}

impl<T, E: Blame> InStep<T> for Result<T, E> {
    fn step(self, step: Step) -> Result<T, BootError> {
        self.map_err(|error| step(Why::of(&error)))
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
    pub(super) async fn within<T, E: Blame>(
        self,
        step: Step,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, BootError> {
        match timeout_at(self.until, work).await {
            Ok(done) => done.step(step),
            // Nothing of the app runs yet.
            Err(_) => Err(step(Why::node(
                NodeFault::Runtime,
                format!("its sandbox was not made within {:?}", self.limit),
            ))),
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
        let why = Why::node(NodeFault::Runtime, "its sandbox was not made within 1ms".into());
        assert_eq!(late, Err(BootError::Network(why)));
    }

    #[test]
    fn f9_what_an_app_asked_for_or_did_is_its_own_and_the_network_never_is() {
        let full = || Why::node(NodeFault::DiskFull, "no space left on device".into());
        let steps: [(Step, Option<NodeFault>, Option<NodeFault>); 10] = [
            (BootError::Config, None, None),
            (BootError::Volume, Some(NodeFault::DiskFull), None),
            (BootError::Image, Some(NodeFault::DiskFull), None),
            (BootError::Snapshot, Some(NodeFault::DiskFull), None),
            (BootError::Network, Some(NodeFault::DiskFull), Some(NodeFault::Network)),
            (BootError::Spec, Some(NodeFault::DiskFull), None),
            (BootError::Create, Some(NodeFault::DiskFull), None),
            (BootError::Start, Some(NodeFault::DiskFull), None),
            (BootError::Port, None, None),
            (BootError::Health, None, None),
        ];
        for (step, of_node, of_app) in steps {
            assert_eq!(step(full()).node_fault(), of_node, "{}", step(full()));
            assert_eq!(step("why".into()).node_fault(), of_app, "{}", step("why".into()));
        }
    }
}

//! Decides what can be asked of an app, which of it makes one, and how it is refused.

use super::PreviewOrder;
use crate::record::{Asked, Settings};
use miren_api::deploy::{Deploy, DeployRequest};
use miren_api::ephemeral::{Ephemeral, EphemeralDeployed};
use miren_api::id::{DeployId, Label, SandboxId, VersionId};
use miren_api::resource::{App, Sandbox};
use miren_api::run::{Run, RunRequest};
use miren_api::{ApiError, ErrorCode};
use miren_sandbox::Streams;
use std::time::Duration;
use tokio::sync::oneshot;

/// A deploy that was asked for.
#[derive(Debug)]
pub struct DeployOrder {
    pub request: DeployRequest,
    /// What the folder that it brings says, where that was read already.
    pub read: Option<Box<Settings>>,
    /// None of the sandboxes there are is used for it.
    pub restart: bool,
}

impl From<DeployRequest> for DeployOrder {
    fn from(request: DeployRequest) -> Self {
        Self {
            request,
            read: None,
            restart: false,
        }
    }
}

/// A run that was accepted.
pub struct Begun {
    pub run: Run,
    /// What its client will speak with it through, unless it is detached.
    pub streams: Option<oneshot::Receiver<Streams>>,
}

/// What somebody wants of an app.
pub enum Command {
    Deploy {
        order: DeployOrder,
        /// The same key means the same deploy.
        key: Option<Asked>,
        reply: oneshot::Sender<Result<Deploy, ApiError>>,
    },
    /// Deploy what serves once more, in sandboxes of its own.
    Restart {
        key: Option<Asked>,
        reply: oneshot::Sender<Result<Deploy, ApiError>>,
    },
    /// Find the deploy that the same key asked for before.
    Earlier {
        asked: Asked,
        reply: oneshot::Sender<Result<Option<Deploy>, ApiError>>,
    },
    /// End a deploy that has not switched traffic.
    Cancel {
        id: DeployId,
        reply: oneshot::Sender<Result<Deploy, ApiError>>,
    },
    /// Make a version that is reached under a label.
    Preview {
        order: Box<PreviewOrder>,
        reply: oneshot::Sender<Result<EphemeralDeployed, ApiError>>,
    },
    /// Give a preview more time, from now on.
    Extend {
        label: Label,
        ttl: Duration,
        reply: oneshot::Sender<Result<Ephemeral, ApiError>>,
    },
    /// End a preview.
    Unlabel {
        label: Label,
        reply: oneshot::Sender<Result<Ephemeral, ApiError>>,
    },
    /// The first request for a service of a preview has come: make its pool.
    Open {
        version: VersionId,
        service: String,
        reply: oneshot::Sender<Result<(), ApiError>>,
    },
    /// Drain one sandbox; its pool replaces it.
    StopSandbox {
        id: SandboxId,
        reply: oneshot::Sender<Result<Sandbox, ApiError>>,
    },
    /// Run a command once, in a sandbox of its own.
    Run {
        request: RunRequest,
        reply: oneshot::Sender<Result<Begun, ApiError>>,
    },
    /// End a run, for the given reason.
    EndRun { id: SandboxId, why: &'static str },
    Delete {
        keep_disks: bool,
        reply: oneshot::Sender<Result<App, ApiError>>,
    },
    /// Demand of a pool has changed.
    Replan,
    /// Look whether anything is over, and remove the versions that are not kept.
    Collect,
    /// Finish the current step and end.
    Close,
}

impl Command {
    /// Whether it may be the first thing that happens to an app.
    pub fn makes_app(&self) -> bool {
        match self {
            Self::Deploy { order, .. } => order.request.artifact.is_some() || order.request.image.is_some(),
            Self::Preview { order, .. } => order.request.artifact.is_some() || order.request.image.is_some(),
            _ => false,
        }
    }

    /// Whether somebody waits for the answer.
    pub fn is_awaited(&self) -> bool {
        !match self {
            Self::Deploy { reply, .. } | Self::Restart { reply, .. } | Self::Cancel { reply, .. } => reply.is_closed(),
            Self::Earlier { reply, .. } => reply.is_closed(),
            Self::Preview { reply, .. } => reply.is_closed(),
            Self::Extend { reply, .. } | Self::Unlabel { reply, .. } => reply.is_closed(),
            Self::Open { reply, .. } => reply.is_closed(),
            Self::StopSandbox { reply, .. } => reply.is_closed(),
            Self::Delete { reply, .. } => reply.is_closed(),
            Self::Run { reply, .. } => reply.is_closed(),
            Self::EndRun { .. } | Self::Replan | Self::Collect | Self::Close => true,
        }
    }

    /// Answers with why it is not done. Who asked may be gone.
    pub fn refuse(self, error: ApiError) {
        match self {
            Self::Deploy { reply, .. } | Self::Restart { reply, .. } | Self::Cancel { reply, .. } => {
                drop(reply.send(Err(error)));
            }
            Self::Earlier { reply, .. } => drop(reply.send(Err(error))),
            Self::Preview { reply, .. } => drop(reply.send(Err(error))),
            Self::Extend { reply, .. } | Self::Unlabel { reply, .. } => drop(reply.send(Err(error))),
            Self::Open { reply, .. } if error.code == ErrorCode::NotFound => {
                let code = ErrorCode::NoSuchVersion;
                drop(reply.send(Err(ApiError { code, ..error })));
            }
            Self::Open { reply, .. } => drop(reply.send(Err(error))),
            Self::StopSandbox { reply, .. } => drop(reply.send(Err(error))),
            Self::Delete { reply, .. } => drop(reply.send(Err(error))),
            Self::Run { reply, .. } => drop(reply.send(Err(error))),
            Self::EndRun { .. } | Self::Replan | Self::Collect | Self::Close => {}
        }
    }
}

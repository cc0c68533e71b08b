//! Decides how a command is asked for that runs once, in a sandbox of its own of an app's version, and what is told of it.

use crate::exec::TerminalSize;
use crate::id::{AppName, DeployId, SandboxId, VersionId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The header of an answer that says which run the connection is for.
pub const RUN_HEADER: &str = "miren-run";
/// Longest time that one may be given, in seconds: a week.
pub const TIMEOUT_MAX: u64 = 7 * 24 * 3600;

/// A command to be run once, in a sandbox of its own of the active version: with its image or folder, its variables, its limits and its
/// rules of the network, without its disks, and with no route to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RunRequest {
    /// The command and its arguments; no shell reads them.
    pub command: Vec<String>,
    /// Whose variables and limits it has; otherwise those of `web`, or of the first service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// It goes on without its client, and what it writes is in its log; otherwise the connection becomes one of `miren-exec`, and it
    /// ends with that.
    #[serde(default)]
    pub detach: bool,
    /// Whether it reads what is sent to it; else it reads nothing. Not together with `detach`.
    #[serde(default)]
    pub stdin: bool,
    /// It has a terminal of this size. Not together with `detach`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminal: Option<TerminalSize>,
    /// Seconds after which it is ended; otherwise an hour, or a day with `detach`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<u64>,
}

/// How far a run has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum RunStatus {
    /// Its command does not run yet.
    Starting,
    Running,
    /// It was told to end, and has not.
    Stopping,
    /// Its command ended with status 0.
    Succeeded,
    /// Its command ended otherwise, or could not be run; `reason` says how.
    Failed,
    /// It was ended: by request, with its client, after its time, with the node; `reason` says which.
    Stopped,
}

impl RunStatus {
    /// Whether nothing will change any more.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Stopped)
    }

    /// The text form, as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "STARTING",
            Self::Running => "RUNNING",
            Self::Stopping => "STOPPING",
            Self::Succeeded => "SUCCEEDED",
            Self::Failed => "FAILED",
            Self::Stopped => "STOPPED",
        }
    }
}

/// A command that runs once. Ended ones are kept for a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Run {
    /// That of its sandbox.
    pub id: SandboxId,
    pub app: AppName,
    pub version: VersionId,
    /// Whose variables and limits it has.
    pub service: String,
    /// As it was given, for people to read.
    pub command: String,
    pub status: RunStatus,
    /// As shells count it: 128 + the signal if a signal ended it. Absent before its end, and where nobody can tell.
    pub exit_code: Option<i32>,
    /// Why it ended, or is being ended.
    pub reason: Option<String>,
    /// The deploy whose release command it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deploy: Option<DeployId>,
    #[schema(value_type = String)]
    pub started_at: Timestamp,
    #[schema(value_type = Option<String>)]
    pub ended_at: Option<Timestamp>,
}

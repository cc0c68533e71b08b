//! Decides what is kept of a command that runs once, and of the one that a deploy runs before it switches.

use super::{BY_APP, SandboxRecord, Spec, Stored};
use crate::store::Kind;
use jiff::Timestamp;
use miren_api::exec::TerminalSize;
use miren_api::id::{AppName, DeployId, NodeId, PoolId, SandboxId, VersionId};
use miren_api::resource::SandboxState;
use miren_api::run::{Run, RunStatus};
use miren_sandbox::{Attach, EndedBy, Facts, OneOff};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// What sandboxes of runs have where others have a pool.
const NO_POOL: &str = "runs";

/// Where a sandbox of a run belongs, which is in no pool.
pub fn no_pool() -> PoolId {
    PoolId::from_text(NO_POOL)
}

/// A command that runs once, in a sandbox of its own which has the same id. Saved before that is started; it is never started again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    pub id: SandboxId,
    pub app: AppName,
    pub version: VersionId,
    /// Whose settings it has.
    pub service: String,
    pub spec: Spec,
    /// Its words; none where the spec's command says it all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub words: Vec<String>,
    /// Its client speaks with it, and it ends with that, and with the daemon that holds the connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attached: Option<Attached>,
    /// The deploy that waits for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deploy: Option<DeployId>,
    pub created_at: Timestamp,
    /// When it is ended.
    pub until: Timestamp,
    /// Why it is to end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unwanted: Option<String>,
    /// How it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
}

/// What a client speaks with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    pub stdin: bool,
    pub terminal: Option<TerminalSize>,
}

/// The end of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    pub at: Timestamp,
    /// Its command ended by itself.
    pub by_itself: bool,
    pub exit_code: Option<i32>,
    pub reason: Option<String>,
}

impl Outcome {
    pub fn status(&self) -> RunStatus {
        match (self.by_itself, self.exit_code) {
            (false, _) => RunStatus::Stopped,
            (true, Some(0)) => RunStatus::Succeeded,
            (true, _) => RunStatus::Failed,
        }
    }
}

impl RunRecord {
    pub fn is_over(&self) -> bool {
        self.outcome.is_some()
    }

    /// It has ended, and what only its sandbox needed is forgotten: its variables, and most of its size.
    #[must_use = "it is another one"]
    pub fn ended(mut self, outcome: Outcome) -> Self {
        self.outcome = Some(outcome);
        self.spec.service.env.clear();
        self.words.clear();
        self
    }

    /// How its sandbox is made.
    pub fn one_off(&self) -> OneOff {
        OneOff {
            words: self.words.clone(),
            attach: self.attached.map(|Attached { stdin, terminal }| Attach {
                stdin: stdin || terminal.is_some(),
                terminal,
            }),
        }
    }

    /// What its sandbox is called where others have the name of their service.
    pub fn sandbox_service(&self) -> &'static str {
        match self.deploy {
            Some(_) => "release",
            None => "run",
        }
    }

    /// As others see it; `state`: that of its sandbox.
    pub fn shown(&self, state: Option<SandboxState>) -> Run {
        let outcome = self.outcome.as_ref();
        Run {
            id: self.id.clone(),
            app: self.app.clone(),
            version: self.version.clone(),
            service: self.service.clone(),
            command: self.spec.service.command.clone(),
            status: match (outcome, state) {
                (Some(outcome), _) => outcome.status(),
                (None, Some(SandboxState::Pending) | None) => RunStatus::Starting,
                (None, Some(SandboxState::Running)) if self.unwanted.is_none() => RunStatus::Running,
                (None, Some(_)) => RunStatus::Stopping,
            },
            exit_code: outcome.and_then(|outcome| outcome.exit_code),
            reason: outcome.map_or(self.unwanted.clone(), |outcome| outcome.reason.clone()),
            deploy: self.deploy.clone(),
            started_at: self.created_at,
            ended_at: outcome.map(|outcome| outcome.at),
        }
    }
}

impl SandboxRecord {
    /// That of a run, which is about to be started.
    pub fn of_run(run: &RunRecord, node: NodeId) -> Self {
        Self {
            id: run.id.clone(),
            app: run.app.clone(),
            service: run.sandbox_service().to_owned(),
            version: run.version.clone(),
            pool: no_pool(),
            node,
            number: 0,
            state: SandboxState::Pending,
            reason: None,
            facts: Facts::default(),
            created_at: run.created_at,
            running_at: None,
            ended_at: None,
            unseen: false,
            node_fault: None,
            deadlines: None,
        }
    }
}

/// The run before a deploy's switch. Saved before it begins: it is run once, whatever becomes of the daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseRecord {
    pub run: SandboxId,
    /// The one it was run for, which the deploy makes when it has succeeded.
    pub version: VersionId,
}

/// Whether the end of a sandbox was that of its command, and no one else's doing.
pub fn ended_by_itself(state: SandboxState, ended_by: Option<EndedBy>, unwanted: bool) -> bool {
    state == SandboxState::Dead && !(unwanted && ended_by != Some(EndedBy::Exit))
}

impl Stored for RunRecord {
    const KIND: Kind = Kind::Run;

    fn id(&self) -> Cow<'_, str> {
        self.id.as_str().into()
    }

    fn indexes(&self) -> Vec<(&'static str, String)> {
        vec![(BY_APP, self.app.to_string())]
    }
}

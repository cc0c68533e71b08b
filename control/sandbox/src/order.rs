//! Decides what is asked for when a sandbox is started, and what is said back about it.

use crate::lifecycle::ACKNOWLEDGED_WITHIN;
use miren_api::app_file::Service;
use miren_api::exec::TerminalSize;
use miren_api::id::{AppName, SandboxId, VersionId};
use miren_api::resource::{NodeFault, SandboxState};
use miren_image::Digest;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// One sandbox to be started. `Files` says which files of the app it gets: here, where they are on this machine.
#[derive(Clone, Debug, PartialEq)]
pub struct StartOrder<Files = PathBuf> {
    pub id: SandboxId,
    pub app: AppName,
    pub service_name: String,
    pub version: VersionId,
    /// Command, port, timeouts and limits. `shutdown_timeout` is the time between SIGTERM and SIGKILL.
    pub service: Service,
    pub root: Root,
    /// Unpacked artifact: what `/app` starts as. Never written to. None: only what the root has there.
    pub app_files: Option<Files>,
    /// The complete environment, `PORT` and `MIREN_*` included; `PATH` and `HOME` are set unless given.
    pub env: BTreeMap<String, String>,
    /// It runs a command once, and serves nobody.
    pub one_off: Option<OneOff>,
}

/// A command that runs once. It is RUNNING as soon as it runs, and its end is no failure of its start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OneOff {
    /// In place of the service's command, and of what its image runs before that; none: that command as it is.
    pub words: Vec<String>,
    /// Somebody speaks with it, who has asked by [`crate::Sandboxes::attach`]; else what it writes goes to its log.
    pub attach: Option<Attach>,
}

/// What somebody speaks with a command through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attach {
    /// Whether it reads what is sent to it; else it reads nothing. With a terminal it always does.
    pub stdin: bool,
    /// It has a terminal, which begins with this size.
    pub terminal: Option<TerminalSize>,
}

impl<Files> StartOrder<Files> {
    /// What somebody speaks with its first command through, if anybody does.
    pub(crate) fn attach(&self) -> Option<Attach> {
        self.one_off.as_ref()?.attach
    }

    /// The same, its files said in other words.
    pub fn located<To>(self, find: impl FnOnce(Files) -> To) -> StartOrder<To> {
        StartOrder {
            app_files: self.app_files.map(find),
            id: self.id,
            app: self.app,
            service_name: self.service_name,
            version: self.version,
            service: self.service,
            root: self.root,
            env: self.env,
            one_off: self.one_off,
        }
    }
}

/// What a sandbox sees as `/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Root {
    /// Programs, libraries and needed settings of the host, read-only.
    Host,
    /// Nothing but what every sandbox gets.
    Scratch,
    /// A writable view of an image, which also says what to run, unless the service does, and as whom.
    Image(Digest),
}

impl Root {
    /// Whether nothing else says what runs.
    pub(crate) fn needs_command(&self) -> bool {
        !matches!(self, Self::Image(_))
    }
}

/// What a sandbox gets that is not wanted any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budgets {
    /// For the requests that were let in, from the moment on that no more are.
    pub requests: Duration,
    /// For its WebSockets, from the same moment.
    pub tunnels: Duration,
    /// From SIGTERM to SIGKILL.
    pub grace: Duration,
}

impl Budgets {
    /// Nothing is owed to it.
    pub const NONE: Self = Self {
        requests: Duration::ZERO,
        tunnels: Duration::ZERO,
        grace: Duration::ZERO,
    };

    /// Those that a service asks for.
    pub fn of(service: &Service) -> Self {
        Self {
            requests: service.drain_timeout,
            tunnels: service.tunnel_timeout,
            grace: service.shutdown_timeout,
        }
    }

    /// None of them longer than in `most`.
    #[must_use = "it is another one"]
    pub fn at_most(self, most: Self) -> Self {
        Self {
            requests: self.requests.min(most.requests),
            tunnels: self.tunnels.min(most.tunnels),
            grace: self.grace.min(most.grace),
        }
    }

    /// The longest that it can take altogether.
    pub fn total(self) -> Duration {
        let drains = self.requests.max(self.tunnels).saturating_add(ACKNOWLEDGED_WITHIN);
        drains.saturating_add(self.grace)
    }
}

/// What is known about one sandbox generation. Saved by control, handed back to [`crate::Sandboxes::adopt`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    pub slot: Option<u32>,
    pub generation: Option<u64>,
    pub ip: Option<IpAddr>,
    pub port: Option<u16>,
    /// Its app, as the host sees it, once that was let go on.
    pub pid: Option<u32>,
    /// Exit status of init; 128 + the signal if a signal ended it.
    pub exit_code: Option<i32>,
    /// What ended init. None when nobody saw it.
    #[serde(default)]
    pub ended_by: Option<EndedBy>,
}

/// What ended a process, by its raw wait status: the number that a shell shows is the same for an exit with 137 and for SIGKILL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EndedBy {
    /// It exited, with whatever number.
    Exit,
    /// This signal, whoever sent it.
    Signal(i32),
    /// The kernel, because its memory limit was reached.
    OutOfMemory,
}

/// A state that a sandbox has reached: announced once it is true, a terminal one exactly once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SandboxChange {
    pub id: SandboxId,
    pub state: SandboxState,
    /// Why it is draining or has ended.
    pub reason: Option<String>,
    /// It could not be started, and that is the node's fault: it says nothing about the app.
    pub node_fault: Option<NodeFault>,
    pub facts: Facts,
}

/// A sandbox that control believes to exist when it starts.
#[derive(Clone, Debug)]
pub struct Known<Files = PathBuf> {
    pub order: StartOrder<Files>,
    /// The last state that was announced.
    pub state: SandboxState,
    pub facts: Facts,
}

impl<Files> Known<Files> {
    /// The same, its files said in other words.
    pub fn located<To>(self, find: impl FnOnce(Files) -> To) -> Known<To> {
        Known {
            order: self.order.located(find),
            state: self.state,
            facts: self.facts,
        }
    }
}

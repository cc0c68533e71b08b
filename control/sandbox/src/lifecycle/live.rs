//! Decides when a sandbox that is RUNNING is given up although its process exists: after three failed checks in a row, or when
//! nobody reads what it writes.

use super::ready::{Unready, probe};
use super::{Life, Retirement, Sandbox, Stage};
use crate::config::RuntimeConfig;
use crate::node::Node;
use crate::order::{Budgets, StartOrder};
use crate::process::Process;
use miren_api::resource::SandboxState;
use miren_fault::Point;
use miren_loader::State;
use std::io;
use std::net::SocketAddr;
use tokio::time::sleep;

/// Processor time, nanoseconds, that processes which work use between two checks: a five hundredth of the usual 5 s.
const WORK: u64 = 10_000_000;

/// Why one is given up whose helper has ended before it.
const UNREAD: &str = "its helper process is gone: nobody reads what it writes";

/// A sandbox that is being watched.
struct Watched<'s> {
    node: &'s Node,
    order: &'s StartOrder,
    endpoint: Option<SocketAddr>,
    app: Option<&'s Process>,
}

impl Sandbox {
    /// RUNNING: until it ends, is not wanted any more, or fails its checks.
    pub(super) async fn serve(&mut self) -> Stage {
        miren_fault::pass(Point::CreateTold);
        let Some(life) = &self.life else { return Stage::Ended };
        let watched = Watched {
            node: &self.node,
            order: &self.order,
            endpoint: self.endpoint(),
            app: life.app.as_ref(),
        };
        let why = tokio::select! {
            () = life.ended(&self.node.fast_path) => return Stage::Ended,
            Some(command) = self.commands.recv() => return self.retire(command),
            why = watched.fails() => why,
            () = unread(&self.node, life) => UNREAD.to_owned(),
        };
        tracing::warn!(sandbox = %self.order.id, why, "given up");
        self.why.get_or_insert(why);
        // Control hears of it, closes its leases and says when it is idle; this is for the case that it is away.
        let retirement = Retirement::unheard(Budgets::of(&self.order.service));
        let advanced = self.advance(State::Draining, SandboxState::Draining);
        advanced.err().unwrap_or(Stage::Drain(retirement))
    }
}

/// Resolves when a sandbox of the embedded runtime lives without the process that reads its outputs. With the one it ends
/// the other ends too. The writer of a container's log goes with its shim, and then containerd ends the container.
async fn unread(node: &Node, life: &Life) {
    if node.config.runtime != RuntimeConfig::Embedded {
        return std::future::pending().await;
    }
    let gone = match &life.helper {
        Some(helper) => helper.exited().await,
        None => Ok(()),
    };
    let lives = life.app.as_ref().is_some_and(|app| !app.has_exited());
    if gone.is_err() || !lives {
        std::future::pending().await
    }
}

impl Watched<'_> {
    /// Resolves with the reason once it has failed its checks.
    async fn fails(&self) -> String {
        let limits = &self.node.config.health;
        let mut failed = 0;
        let mut used_before = None;
        loop {
            sleep(limits.interval).await;
            match self.check(used_before).await {
                None => failed = 0,
                Some(why) => {
                    failed += 1;
                    tracing::debug!(sandbox = %self.order.id, failed, why, "a check failed");
                    if failed >= limits.failures {
                        return format!("failed {failed} health checks in a row: {why}");
                    }
                }
            }
            used_before = self.cpu_used();
        }
    }

    /// Why it is not healthy. `used_before` is the processor time it had used when the last check was over.
    async fn check(&self, used_before: Option<u64>) -> Option<String> {
        if self.app.is_some_and(Process::is_stopped) {
            return Some("its process is stopped (SIGSTOP)".to_owned());
        }
        let unready = probe(self.endpoint?, self.order.service.health_path.as_deref())
            .await
            .err()?;
        let is_late = match &unready {
            Unready::Connect(error) | Unready::Answer { error, .. } => error.kind() == io::ErrorKind::TimedOut,
            Unready::Status { .. } => false,
        };
        // A queue that is full of other connections is a lot of work, not the end of it.
        let used = self.cpu_used().zip(used_before);
        let works = used.is_some_and(|(now, before)| now.saturating_sub(before) >= WORK);
        (!is_late || !works).then(|| unready.to_string())
    }

    /// Processor time that its processes have used, nanoseconds.
    fn cpu_used(&self) -> Option<u64> {
        self.node.cgroups.cpu_used(self.order.id.as_str())
    }
}

//! Decides how a sandbox is ended: when its requests are done or its time is up, gently first.

use super::leaving::{Act, Event, Leaving};
use super::{Command, Sandbox, Stage};
use crate::order::Budgets;
use crate::process::{Disposition, Process};
use crate::signal_number::SignalNumber;
use futures_util::future::BoxFuture;
use miren_api::resource::SandboxState;
use miren_fault::Point;
use miren_loader::State;
use nix::sys::signal::Signal;
use std::io;
use std::time::{Duration, Instant};
use tokio::time::{sleep, sleep_until, timeout};

/// How long SIGKILL may take before it is sent again and the operator is told.
const KILL: Duration = Duration::from_secs(10);

/// How often, and after what pauses, a process that only blocks a signal is looked at.
const LOOKS: u32 = 20;
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// What a sandbox that is DRAINING waits for.
pub(crate) struct Retirement {
    leaving: Leaving,
    idle: BoxFuture<'static, ()>,
}

impl Retirement {
    fn begin(budgets: Budgets, idle: BoxFuture<'static, ()>) -> Self {
        Self {
            leaving: Leaving::begin(budgets, Instant::now()),
            idle,
        }
    }

    /// One that control has not heard of yet: it closes the leases and says when they are given back, unless it is away.
    pub(crate) fn unheard(budgets: Budgets) -> Self {
        Self::begin(budgets, Box::pin(std::future::pending()))
    }
}

impl Sandbox {
    /// The next stage for a sandbox that is not wanted any more.
    pub(super) fn retire(&mut self, command: Command) -> Stage {
        match command {
            Command::Kill { reason } => {
                self.why.get_or_insert(reason);
                Stage::Stop { grace: None }
            }
            Command::Drain { reason, budgets, idle } => {
                self.why.get_or_insert(reason);
                let grace = budgets.grace.min(self.order.service.shutdown_timeout);
                if self.state == SandboxState::Pending {
                    return Stage::Stop { grace: Some(grace) };
                }
                let budgets = Budgets { grace, ..budgets };
                let retirement = Retirement::begin(budgets, idle);
                let advanced = self.advance(State::Draining, SandboxState::Draining);
                advanced.err().unwrap_or(Stage::Drain(retirement))
            }
        }
    }

    /// DRAINING: nothing new arrives, what is in flight goes on.
    pub(super) async fn drain(&mut self, mut retirement: Retirement) -> Stage {
        let Some(life) = &self.life else { return Stage::Ended };
        loop {
            let grace = match retirement.leaving {
                Leaving::Drains { grace, .. } => Some(grace),
                Leaving::Stops { .. } | Leaving::Killed => None,
            };
            let event = tokio::select! {
                () = life.ended(&self.node.fast_path) => return Stage::Ended,
                () = &mut retirement.idle => Event::Acknowledged,
                () = until(retirement.leaving.next()) => Event::Time,
                Some(command) = self.commands.recv() => {
                    let (reason, event) = match command {
                        Command::Kill { reason } => (reason, Event::Killed),
                        Command::Drain { reason, budgets, idle } => {
                            retirement.idle = idle;
                            (reason, Event::Asked(budgets))
                        }
                    };
                    self.why.get_or_insert(reason);
                    event
                }
            };
            match retirement.leaving.on(event, Instant::now()) {
                Act::Wait => {}
                Act::Terminate => return Stage::Stop { grace },
                Act::Kill => return Stage::Stop { grace: None },
            }
        }
    }

    /// STOPPING: SIGTERM, or what its image wants, the grace there is, SIGKILL; that at once where there is none.
    pub(super) async fn stop(&mut self, grace: Option<Duration>) -> Stage {
        if self.state != SandboxState::Stopping
            && let Err(ended) = self.advance(State::Stopping, SandboxState::Stopping)
        {
            return ended;
        }
        if let Some(grace) = grace
            && self.terminate(grace).await
        {
            return Stage::Ended;
        }
        self.kill().await;
        if let Some(life) = self.life.as_ref().filter(|life| life.init.is_none()) {
            // It never had a process whose exit would say so.
            life.end_word(&self.node.fast_path);
        }
        Stage::Ended
    }

    /// A boot that failed: SIGKILL at once, and DEAD.
    pub(super) async fn abort(&mut self) -> Stage {
        self.kill().await;
        if let Some(life) = &self.life {
            // Refused if the exit said so already.
            let _ = self.node.fast_path.advance(life.slot, life.generation, State::Dead);
        }
        Stage::Ended
    }

    /// What asks it to end: the STOPSIGNAL of its image.
    fn stop_signal(&self) -> SignalNumber {
        let told = self
            .image
            .as_ref()
            .and_then(|image| image.config.stop_signal.as_deref());
        // A name that means nothing kept it from starting.
        told.and_then(SignalNumber::parse).unwrap_or(Signal::SIGTERM.into())
    }

    /// Sends its stop signal; false if nobody would take it.
    ///
    /// Init does not get the default action of a signal: one that does nothing about it, as a shell that waits for a
    /// server, would sit out its grace. So what it started is told instead, and if there is nothing, the default action is
    /// that it ends.
    async fn ask_to_end(&self, init: &Process, signal: SignalNumber) -> io::Result<bool> {
        miren_fault::blocking(Point::StopTerm)?;
        if takes(init, signal).await {
            return init.signal(signal).map(|()| true);
        }
        self.node.cgroups.signal_others(self.id(), signal, init.pid())
    }

    /// True if it ended by itself within its grace.
    async fn terminate(&mut self, grace: Duration) -> bool {
        let Some(life) = &self.life else { return true };
        let Some(init) = &life.init else { return false };
        let signal = self.stop_signal();
        match self.ask_to_end(init, signal).await {
            Ok(true) => {}
            Ok(false) => return false,
            Err(error) => tracing::warn!(sandbox = %self.order.id, %error, "{signal} could not be sent"),
        }
        miren_fault::pass(Point::StopWait);
        let asked = Instant::now();
        let mut leaving = Leaving::stops(grace, asked);
        loop {
            let next = leaving.next();
            let event = tokio::select! {
                () = life.ended(&self.node.fast_path) => return true,
                () = until(next) => Event::Time,
                Some(command) = self.commands.recv() => match command {
                    Command::Kill { .. } => return false,
                    Command::Drain { budgets, .. } => Event::Asked(budgets),
                }
            };
            if leaving.on(event, Instant::now()) == Act::Kill {
                let grace = next.map_or(grace, |next| next - asked);
                tracing::warn!(sandbox = %self.order.id, ?grace, "ignored {signal}; killing it");
                if let Some(why) = &mut self.why {
                    why.push_str(&format!(
                        "; it did not exit within {grace:?} of {signal} and was killed"
                    ));
                }
                return false;
            }
        }
    }

    /// SIGKILL to everything in its cgroup, again and again until init is gone.
    async fn kill(&self) {
        loop {
            if let Err(error) = self.node.cgroups.kill(self.id(), KILL).await {
                tracing::error!(sandbox = %self.order.id, %error, "killing it does not work; trying again");
            }
            let Some(life) = self.life.as_ref().filter(|life| life.init.is_some()) else {
                return;
            };
            if timeout(KILL, life.ended(&self.node.fast_path)).await.is_ok() {
                return;
            }
        }
    }
}

async fn until(next: Option<Instant>) {
    match next {
        Some(next) => sleep_until(next.into()).await,
        None => std::future::pending().await,
    }
}

/// Whether a process does something about a signal. One that blocks it may wait for it; or it starts a thread at this moment,
/// during which the C library blocks every signal. Only the first goes on blocking it.
async fn takes(process: &Process, signal: SignalNumber) -> bool {
    for _ in 0..LOOKS {
        match process.disposition(signal) {
            Disposition::Handled => return true,
            Disposition::Default => return false,
            Disposition::Blocked => sleep(LOOK_AGAIN).await,
        }
    }
    true
}

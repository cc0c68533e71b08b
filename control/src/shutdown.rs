//! Decides how a running daemon is told to stop: once, to end well; twice, to end at once; or to make way for another build of it.

use crate::config::{Config, Ending, OnStop};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Asks [`crate::run`] to stop. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    asked: CancellationToken,
    insisted: CancellationToken,
    /// Whether a successor takes over what runs, whatever the settings say of an end.
    makes_way: Arc<AtomicBool>,
}

/// How the daemon ends. Decided once: what was made on the machine goes only where the sandboxes have gone before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    pub ending: Ending,
    /// Whether what was made on the machine is removed, once nothing is left of the node.
    pub removes: bool,
}

impl Plan {
    fn of(config: &Config, makes_way: bool) -> Self {
        match makes_way {
            true => Self {
                ending: Ending::Keep,
                removes: false,
            },
            false => Self {
                ending: config.drain.ending(config.on_stop),
                removes: config.on_stop == OnStop::Remove,
            },
        }
    }
}

impl Shutdown {
    /// Stops when [`Shutdown::trigger`] is called.
    pub fn new() -> Self {
        Self::default()
    }

    /// Stops at SIGTERM and SIGINT, too, and makes way at SIGUSR2. That one ends releases that do not know it: as a crash, which
    /// nothing is lost by.
    pub fn on_signals() -> std::io::Result<Self> {
        let shutdown = Self::new();
        let told = shutdown.clone();
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let mut other = signal(SignalKind::user_defined2())?;
        miren_log::spawn("signals", async move {
            while !told.insisted.is_cancelled() {
                tokio::select! {
                    _ = terminate.recv() => told.trigger(),
                    _ = interrupt.recv() => told.trigger(),
                    _ = other.recv() => told.make_way(),
                }
            }
        });
        Ok(shutdown)
    }

    /// The second time, whatever holds up the end is left to the next daemon. One that makes way is told so for the first time: unless
    /// it has its plan by now, it stops as the settings say.
    pub fn trigger(&self) {
        let was_to_make_way = self.makes_way.swap(false, Ordering::SeqCst);
        match self.asked.is_cancelled() && !was_to_make_way {
            false => self.asked.cancel(),
            true => self.insisted.cancel(),
        }
    }

    /// Ends as with `on_stop = "keep"`. One that was told to stop before does that.
    pub fn make_way(&self) {
        if !self.asked.is_cancelled() {
            self.makes_way.store(true, Ordering::SeqCst);
            self.asked.cancel();
        }
    }

    /// What is asked for by now. To be asked once: what has begun to make way cannot drain any more.
    pub fn plan(&self, config: &Config) -> Plan {
        Plan::of(config, self.makes_way.load(Ordering::SeqCst))
    }

    /// Resolves once it was triggered.
    pub async fn triggered(&self) {
        self.asked.cancelled().await;
    }

    /// Resolves once it was triggered twice.
    pub async fn insisted(&self) {
        self.insisted.cancelled().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(lines: &str) -> Config {
        let lines = format!("data_dir = \"/d\"\nrun_dir = \"/r\"\n{lines}");
        Config::parse("control.toml".as_ref(), &lines).expect("settings")
    }

    #[test]
    fn who_makes_way_and_is_told_to_stop_stops_and_only_the_next_time_at_once() {
        let config = config("on_stop = \"remove\"");
        let shutdown = Shutdown::new();
        shutdown.make_way();
        assert!(shutdown.asked.is_cancelled() && !shutdown.plan(&config).removes);
        shutdown.trigger();
        assert!(shutdown.plan(&config).removes && !shutdown.insisted.is_cancelled());
        shutdown.make_way();
        assert!(shutdown.plan(&config).removes, "it stops already");
        shutdown.trigger();
        assert!(shutdown.insisted.is_cancelled());
    }

    #[test]
    fn nothing_is_removed_under_sandboxes_that_are_not_drained() {
        for on_stop in ["keep", "remove"] {
            for drains in ["keep", "node"] {
                let lines = format!("on_stop = {on_stop:?}\ndrain.on_stop = {drains:?}\ndrain.node_timeout = \"10s\"");
                let config = config(&lines);
                for makes_way in [false, true] {
                    let plan = Plan::of(&config, makes_way);
                    let drains_first = matches!(plan.ending, Ending::Drain { .. });
                    assert!(!plan.removes || drains_first, "{on_stop} {drains} {makes_way}");
                    assert!(!makes_way || !drains_first);
                    assert_eq!(plan.removes, on_stop == "remove" && !makes_way);
                }
            }
        }
    }
}

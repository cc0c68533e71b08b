//! Decides how ours takes sandboxes away: one is stopped by hand, which its pool replaces; or all of them, by a deploy of changed code.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;

use super::BUDGET;
use crate::crowd::Target;
use crate::exercise::{Exercise, OURS, Times};
use crate::node::{App, Sandbox, has_ended, is_idle};
use crate::peer::wait;

/// Longest wait for an end: the budget, and what a sandbox may take to stop.
const LIMIT: Duration = Duration::from_secs(60);
/// Between two looks: each is a command, which costs time of the processors that the load needs too.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

fn app(folder: &Path, mark: &str) -> anyhow::Result<App> {
    App::start(folder, mark, &format!("tunnel_timeout = \"{}s\"\n", BUDGET.as_secs()))
}

/// When those of these that were there before are idle, and ended.
fn watch(app: &App, old: &[Sandbox], begun: Instant) -> anyhow::Result<Times> {
    let mut times = Times::new();
    while begun.elapsed() < LIMIT {
        let mut now = app.sandboxes()?;
        now.retain(|sandbox| old.iter().any(|old| old.id == sandbox.id));
        if times.is_empty() && now.iter().all(is_idle) {
            times.push(("idle", begun.elapsed()));
        }
        if now.iter().all(has_ended) {
            times.push(("stopped", begun.elapsed()));
            return Ok(times);
        }
        wait::pause(LOOK_AGAIN)?;
    }
    anyhow::bail!("sandboxes that were told to end are still there after {LIMIT:?}")
}

pub struct Stop(App);

impl Stop {
    pub fn start(folder: &Path) -> anyhow::Result<Self> {
        Ok(Self(app(folder, "stop")?))
    }
}

impl Exercise for Stop {
    fn who(&self) -> String {
        OURS.to_owned()
    }

    fn what(&self) -> &'static str {
        "sandbox stop"
    }

    fn target(&self) -> Target {
        self.0.target()
    }

    fn perform(&mut self) -> anyhow::Result<Times> {
        let mut old = self.0.running()?;
        old.truncate(1);
        let begun = Instant::now();
        for sandbox in &old {
            self.0.node.json(&["sandbox", "stop", &sandbox.id])?;
        }
        watch(&self.0, &old, begun)
    }

    fn settle(&mut self) -> anyhow::Result<Times> {
        self.0.wait_until_whole()?;
        Ok(Times::new())
    }
}

pub struct Deploy(App);

impl Deploy {
    pub fn start(folder: &Path) -> anyhow::Result<Self> {
        Ok(Self(app(folder, "dep")?))
    }
}

impl Exercise for Deploy {
    fn who(&self) -> String {
        OURS.to_owned()
    }

    fn what(&self) -> &'static str {
        "deploy (both sandboxes)"
    }

    fn target(&self) -> Target {
        self.0.target()
    }

    fn perform(&mut self) -> anyhow::Result<Times> {
        let old = self.0.running()?;
        let begun = Instant::now();
        let deploy = self.0.deploy()?;
        let times = watch(&self.0, &old, begun);
        deploy.finish().context("a deploy under load")?;
        times
    }

    fn settle(&mut self) -> anyhow::Result<Times> {
        self.0.wait_until_whole()?;
        Ok(Times::new())
    }
}

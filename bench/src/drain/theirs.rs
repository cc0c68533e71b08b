//! Decides how one of two apps is taken away from peers: out of the settings and a reload, or by the runtime's own command; then it is
//! stopped.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;

use super::BUDGET;
use crate::crowd::Target;
use crate::exercise::{Exercise, Times};
use crate::peer::app_process::{AppProcess, free_address};
use crate::peer::haproxy::Haproxy;
use crate::peer::nginx::Nginx;
use crate::peer::process::Process;
use crate::peer::{Peer, wait};

const LIMIT: Duration = Duration::from_secs(60);

/// Two apps, of which one stays.
struct Apps {
    folder: PathBuf,
    stays: AppProcess,
    /// None while it is stopped.
    leaves: Option<AppProcess>,
    /// Of the one that leaves, and comes back.
    address: SocketAddr,
}

impl Apps {
    fn start(folder: &Path) -> anyhow::Result<Self> {
        let leaves = AppProcess::start(&folder.join("leaves"), free_address()?)?;
        Ok(Self {
            folder: folder.to_owned(),
            stays: AppProcess::start(&folder.join("stays"), free_address()?)?,
            address: leaves.address,
            leaves: Some(leaves),
        })
    }

    fn both(&self) -> [SocketAddr; 2] {
        [self.stays.address, self.address]
    }

    fn stop(&mut self) -> anyhow::Result<()> {
        self.leaves.take().context("it is stopped already")?.stop()
    }

    fn start_again(&mut self) -> anyhow::Result<()> {
        self.leaves = Some(AppProcess::start(&self.folder.join("leaves"), self.address)?);
        Ok(())
    }
}

/// Waits until all these have ended, as long as the budget allows.
fn gone_in_budget(old: &[Process], begun: Instant) -> anyhow::Result<Option<Duration>> {
    let left = BUDGET.saturating_sub(begun.elapsed());
    wait::until_or(left, || {
        Ok((!old.iter().any(|process| process.is_there())).then(|| begun.elapsed()))
    })
}

fn all_gone(old: &mut Vec<Process>) -> anyhow::Result<()> {
    old.drain(..).try_for_each(|process| process.wait(LIMIT))
}

/// `stopped`, and `idle` if it ever was.
fn times(idle: Option<Duration>, begun: Instant) -> Times {
    let idle = idle.map(|idle| ("idle", idle));
    idle.into_iter().chain([("stopped", begun.elapsed())]).collect()
}

/// nginx, with one of its servers taken out by a reload.
pub struct Nginxed {
    nginx: Nginx,
    apps: Apps,
    old: Vec<Process>,
    /// Whether older workers are waited for before the app is stopped.
    patient: bool,
}

impl Nginxed {
    pub fn start(folder: &Path, patient: bool) -> anyhow::Result<Self> {
        let apps = Apps::start(folder)?;
        Ok(Self {
            nginx: Nginx::start(folder, &apps.both())?,
            apps,
            old: Vec::new(),
            patient,
        })
    }
}

impl Exercise for Nginxed {
    fn who(&self) -> String {
        Peer::Nginx.to_string()
    }

    fn what(&self) -> &'static str {
        match self.patient {
            false => "reload without it, stopped at once",
            true => "reload without it, stopped after older workers",
        }
    }

    fn target(&self) -> Target {
        Target::of_peer(self.nginx.http)
    }

    fn perform(&mut self) -> anyhow::Result<Times> {
        let begun = Instant::now();
        self.nginx.settle(&[self.apps.stays.address])?;
        self.old = self.nginx.reload()?;
        let idle = match self.patient {
            true => gone_in_budget(&self.old, begun)?,
            false => None,
        };
        self.apps.stop()?;
        Ok(times(idle, begun))
    }

    fn settle(&mut self) -> anyhow::Result<Times> {
        all_gone(&mut self.old)?;
        self.apps.start_again()?;
        self.nginx.settle(&self.apps.both())?;
        all_gone(&mut self.nginx.reload()?)?;
        Ok(Times::new())
    }
}

/// HAProxy, with one of its servers taken out.
pub struct Haproxied {
    haproxy: Haproxy,
    apps: Apps,
    old: Vec<Process>,
    /// Rather than by `set server … state drain`.
    by_reload: bool,
}

impl Haproxied {
    pub fn start(folder: &Path, by_reload: bool) -> anyhow::Result<Self> {
        let apps = Apps::start(folder)?;
        Ok(Self {
            haproxy: Haproxy::start(folder, &apps.both())?,
            apps,
            old: Vec::new(),
            by_reload,
        })
    }

    /// When nothing was at the server any more, if ever.
    fn take_out(&mut self, begun: Instant) -> anyhow::Result<Option<Duration>> {
        if self.by_reload {
            self.haproxy.settle(&[self.apps.stays.address])?;
            self.old = self.haproxy.reload()?;
            return gone_in_budget(&self.old, begun);
        }
        self.haproxy.set_server(self.apps.address, "drain")?;
        wait::until_or(BUDGET.saturating_sub(begun.elapsed()), || {
            let sessions = self.haproxy.sessions(self.apps.address)?;
            Ok((sessions == 0).then(|| begun.elapsed()))
        })
    }
}

impl Exercise for Haproxied {
    fn who(&self) -> String {
        Peer::Haproxy.to_string()
    }

    fn what(&self) -> &'static str {
        match self.by_reload {
            false => "set server … state drain",
            true => "reload without it",
        }
    }

    fn target(&self) -> Target {
        Target::of_peer(self.haproxy.http)
    }

    fn perform(&mut self) -> anyhow::Result<Times> {
        let begun = Instant::now();
        let idle = self.take_out(begun)?;
        self.apps.stop()?;
        Ok(times(idle, begun))
    }

    fn settle(&mut self) -> anyhow::Result<Times> {
        all_gone(&mut self.old)?;
        self.apps.start_again()?;
        if self.by_reload {
            self.haproxy.settle(&self.apps.both())?;
            all_gone(&mut self.haproxy.reload()?)?;
        } else {
            self.haproxy.set_server(self.apps.address, "ready")?;
        }
        Ok(Times::new())
    }
}

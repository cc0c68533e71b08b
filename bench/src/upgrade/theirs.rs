//! Decides how peers replace themselves: by the signals that their manuals name.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::crowd::Target;
use crate::exercise::{Exercise, Times};
use crate::peer::Peer;
use crate::peer::app_process::{AppProcess, free_address};
use crate::peer::haproxy::Haproxy;
use crate::peer::nginx::Nginx;
use crate::peer::process::Process;

/// Longest wait for processes that have nothing left to do.
const LIMIT: Duration = Duration::from_secs(60);

/// An ingress in front of two apps, as ours has two sandboxes, and a way to replace it.
pub struct Replaced<Ingress> {
    ingress: Ingress,
    who: Peer,
    what: &'static str,
    http: SocketAddr,
    /// Over when the new one serves; which processes are old then.
    replace: fn(&mut Ingress) -> anyhow::Result<Vec<Process>>,
    old: Vec<Process>,
    _apps: Vec<AppProcess>,
}

fn apps(folder: &Path) -> anyhow::Result<(Vec<AppProcess>, Vec<SocketAddr>)> {
    let start = |number: u32| AppProcess::start(&folder.join(format!("app-{number}")), free_address()?);
    let apps = (0..2).map(start).collect::<anyhow::Result<Vec<_>>>()?;
    let addresses = apps.iter().map(|app| app.address).collect();
    Ok((apps, addresses))
}

pub fn nginx_reload(folder: &Path) -> anyhow::Result<Replaced<Nginx>> {
    nginx(folder, "reload (HUP)", |nginx| nginx.reload())
}

pub fn nginx_new_program(folder: &Path) -> anyhow::Result<Replaced<Nginx>> {
    nginx(folder, "new program (USR2, WINCH, QUIT)", Nginx::replace)
}

fn nginx(
    folder: &Path,
    what: &'static str,
    replace: fn(&mut Nginx) -> anyhow::Result<Vec<Process>>,
) -> anyhow::Result<Replaced<Nginx>> {
    let (apps, addresses) = apps(folder)?;
    let nginx = Nginx::start(folder, &addresses)?;
    Ok(Replaced {
        http: nginx.http,
        ingress: nginx,
        who: Peer::Nginx,
        what,
        replace,
        old: Vec::new(),
        _apps: apps,
    })
}

pub fn haproxy_reload(folder: &Path) -> anyhow::Result<Replaced<Haproxy>> {
    let (apps, addresses) = apps(folder)?;
    let haproxy = Haproxy::start(folder, &addresses)?;
    Ok(Replaced {
        http: haproxy.http,
        ingress: haproxy,
        who: Peer::Haproxy,
        what: "reload (USR2)",
        replace: |haproxy| haproxy.reload(),
        old: Vec::new(),
        _apps: apps,
    })
}

impl<Ingress> Exercise for Replaced<Ingress> {
    fn who(&self) -> String {
        self.who.to_string()
    }

    fn what(&self) -> &'static str {
        self.what
    }

    fn target(&self) -> Target {
        Target::of_peer(self.http)
    }

    fn perform(&mut self) -> anyhow::Result<Times> {
        let begun = Instant::now();
        self.old = (self.replace)(&mut self.ingress)?;
        Ok(vec![("serves", begun.elapsed())])
    }

    fn settle(&mut self) -> anyhow::Result<Times> {
        gone(&mut self.old)
    }
}

/// Waits until all these have ended.
pub(super) fn gone(old: &mut Vec<Process>) -> anyhow::Result<Times> {
    let begun = Instant::now();
    for process in old.drain(..) {
        process.wait(LIMIT)?;
    }
    Ok(vec![("old_gone", begun.elapsed())])
}

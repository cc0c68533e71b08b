//! Decides how HAProxy is set up: master and worker, its listeners passed on as Debian's settings have it; and how it gets new settings,
//! or takes a server out.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context;
use nix::sys::signal::Signal;

use super::process::Process;
use super::{Peer, app_process, wait};

const LIMIT: Duration = Duration::from_secs(20);

/// A running HAProxy; stopped when dropped.
pub struct Haproxy {
    folder: PathBuf,
    master: Child,
    pub http: SocketAddr,
}

impl Haproxy {
    /// Starts one in front of these apps.
    ///
    /// # Errors
    /// When it is not installed, or does not listen.
    pub fn start(folder: &Path, apps: &[SocketAddr]) -> anyhow::Result<Self> {
        let program = Peer::Haproxy.program()?;
        fs::create_dir_all(folder)?;
        let http = app_process::free_address()?;
        settle(folder, http, apps)?;
        let mut master = Command::new(program);
        master.arg("-W").arg("-S").arg(folder.join("master.sock"));
        let log = fs::File::create(folder.join("haproxy.log"))?;
        master.arg("-f").arg(settings(folder)).stdin(Stdio::null());
        master.stdout(Stdio::null()).stderr(log);
        let mut haproxy = Self {
            folder: folder.to_owned(),
            master: master.spawn().context("starting HAProxy")?,
            http,
        };
        let what = format!("HAProxy to listen at {http}");
        wait::until(&what, LIMIT, || {
            if let Some(status) = haproxy.master.try_wait()? {
                let log = fs::read_to_string(haproxy.folder.join("haproxy.log")).unwrap_or_default();
                anyhow::bail!("HAProxy ended at once, {status}: {}", log.trim());
            }
            Ok(TcpStream::connect(http).ok())
        })?;
        Ok(haproxy)
    }

    /// Writes settings, which hold from the next reload on.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn settle(&self, apps: &[SocketAddr]) -> anyhow::Result<()> {
        settle(&self.folder, self.http, apps)
    }

    /// New settings by a new worker, and the program read anew: over when the master lists a new worker. Returns the older ones.
    ///
    /// # Errors
    /// When that does not happen.
    pub fn reload(&self) -> anyhow::Result<Vec<Process>> {
        let old = self.workers();
        anyhow::ensure!(!old.is_empty(), "the master of HAProxy names no worker");
        let master = Process::find(i32::try_from(self.master.id())?).context("HAProxy has ended")?;
        master.signal(Signal::SIGUSR2)?;
        wait::until("HAProxy to reload", LIMIT, || {
            let is_new = self.workers().iter().any(|worker| !old.contains(worker));
            Ok(is_new.then_some(()))
        })?;
        Ok(old)
    }

    /// No new request to this server, or new ones again.
    ///
    /// # Errors
    /// When HAProxy refuses.
    pub fn set_server(&self, app: SocketAddr, state: &str) -> anyhow::Result<()> {
        let said = ask(
            &self.folder.join("sock"),
            &format!("set server app/{} state {state}", name(app)),
        )?;
        anyhow::ensure!(said.trim().is_empty(), "HAProxy says: {}", said.trim());
        Ok(())
    }

    /// Sessions that this server has now.
    ///
    /// # Errors
    /// When HAProxy does not tell.
    pub fn sessions(&self, app: SocketAddr) -> anyhow::Result<u64> {
        let said = ask(&self.folder.join("sock"), "show stat")?;
        sessions(&said, &name(app)).with_context(|| format!("HAProxy does not know {}: {said}", name(app)))
    }

    fn workers(&self) -> Vec<Process> {
        // The master does not answer while it begins anew.
        let said = ask(&self.folder.join("master.sock"), "show proc").unwrap_or_default();
        current_workers(&said).into_iter().filter_map(Process::find).collect()
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        if let Some(master) = i32::try_from(self.master.id()).ok().and_then(Process::find) {
            master.end();
        }
        let _ = self.master.wait();
    }
}

fn settings(folder: &Path) -> PathBuf {
    folder.join("haproxy.cfg")
}

fn settle(folder: &Path, http: SocketAddr, apps: &[SocketAddr]) -> anyhow::Result<()> {
    fs::write(settings(folder), text(folder, http, apps)).context("writing the settings of HAProxy")
}

/// What a server is called in the settings.
fn name(app: SocketAddr) -> String {
    format!("s{}", app.port())
}

fn ask(socket: &Path, command: &str) -> anyhow::Result<String> {
    let mut stream = UnixStream::connect(socket).context("connecting to HAProxy")?;
    stream.set_read_timeout(Some(LIMIT))?;
    writeln!(stream, "{command}")?;
    // The master keeps a connection open to whoever may ask more.
    stream.shutdown(Shutdown::Write)?;
    let mut said = String::new();
    stream.read_to_string(&mut said)?;
    Ok(said)
}

/// Those of `show proc` that serve.
fn current_workers(said: &str) -> Vec<i32> {
    let after = said.lines().skip_while(|line| !line.starts_with("# workers"));
    let workers = after.skip(1).take_while(|line| !line.starts_with('#'));
    let pids = workers.filter_map(|line| line.split_whitespace().next()?.parse().ok());
    pids.collect()
}

/// `scur` of a server, by the header of `show stat`.
fn sessions(said: &str, server: &str) -> Option<u64> {
    let mut lines = said.lines();
    let header: Vec<&str> = lines.next()?.trim_start_matches("# ").split(',').collect();
    let column = |name: &str| header.iter().position(|column| *column == name);
    let (server_at, sessions_at) = (column("svname")?, column("scur")?);
    let mut rows = lines.map(|line| line.split(',').collect::<Vec<_>>());
    let row = rows.find(|row| row.get(server_at) == Some(&server))?;
    row.get(sessions_at)?.parse().ok()
}

fn text(folder: &Path, http: SocketAddr, apps: &[SocketAddr]) -> String {
    let folder = folder.display();
    let servers: String = apps
        .iter()
        .map(|app| format!("  server {} {app}\n", name(*app)))
        .collect();
    format!(
        "global\n  nbthread 1\n  maxconn 4096\n  stats socket {folder}/sock mode 600 level admin expose-fd listeners\n\
         defaults\n  mode http\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n  timeout tunnel 1h\n\
         \x20 option forwardfor\n  option redispatch\n\
         frontend ingress\n  bind {http}\n  http-request set-header X-Forwarded-Proto http\n  default_backend app\n\
         backend app\n  balance roundrobin\n{servers}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_that_serve_are_told_from_those_that_finish() {
        let said = "#<PID>          <type>          <reloads>       <uptime>        <version>      \n\
                    17              master          1               0d00h00m09s     2.6.12\n\
                    # workers\n\
                    31              worker          0               0d00h00m01s     2.6.12\n\
                    # old workers\n\
                    19              worker          1               0d00h00m09s     2.6.12\n\
                    # programs\n\n";
        assert_eq!(current_workers(said), [31]);
        assert_eq!(current_workers(""), [0_i32; 0]);
    }

    #[test]
    fn sessions_are_those_of_the_server_by_the_names_of_the_columns() {
        let said = "# pxname,svname,qcur,qmax,scur,smax\n\
                    ingress,FRONTEND,,,12,20\n\
                    app,s4001,0,0,3,9\n\
                    app,s4002,0,0,0,9\n\n";
        assert_eq!(sessions(said, "s4001"), Some(3));
        assert_eq!(sessions(said, "s4002"), Some(0));
        assert_eq!(sessions(said, "s4003"), None);
        assert_eq!(sessions("", "s4001"), None);
    }
}

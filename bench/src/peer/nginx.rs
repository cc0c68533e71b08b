//! Decides how nginx is set up: one worker, the same forwarded headers, connections to the app kept, nothing in files; and how it
//! gets new settings, or a new program.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context;
use nix::sys::signal::Signal;

use super::process::Process;
use super::{Peer, app_process, wait};

const LIMIT: Duration = Duration::from_secs(20);

/// A running nginx; stopped when dropped.
pub struct Nginx {
    folder: PathBuf,
    /// The one that takes signals comes last; those before it finish what they have.
    masters: Vec<Process>,
    pub http: SocketAddr,
}

impl Nginx {
    /// Starts one in front of these apps. It is a daemon: under a parent that waits for it, it replaces no program.
    ///
    /// # Errors
    /// When it is not installed, or does not listen.
    pub fn start(folder: &Path, apps: &[SocketAddr]) -> anyhow::Result<Self> {
        let program = Peer::Nginx.program()?;
        fs::create_dir_all(folder)?;
        let mut nginx = Self {
            folder: folder.to_owned(),
            masters: Vec::new(),
            http: app_process::free_address()?,
        };
        nginx.settle(apps)?;
        let mut command = Command::new(program);
        command.arg("-e").arg(nginx.folder.join("error.log"));
        let started = command.arg("-c").arg(nginx.settings()).output()?;
        let said = String::from_utf8_lossy(&started.stderr);
        anyhow::ensure!(started.status.success(), "nginx does not start: {}", said.trim());
        let master = wait::until("nginx to start", LIMIT, || Ok(nginx.named()))?;
        nginx.masters.push(master);
        let what = format!("nginx to listen at {}", nginx.http);
        wait::until(&what, LIMIT, || {
            let answers = TcpStream::connect(nginx.http).is_ok();
            Ok((answers && !nginx.serving().is_empty()).then_some(()))
        })?;
        Ok(nginx)
    }

    fn settings(&self) -> PathBuf {
        self.folder.join("nginx.conf")
    }

    /// Writes settings, which hold from the next reload on.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn settle(&self, apps: &[SocketAddr]) -> anyhow::Result<()> {
        fs::write(self.settings(), text(&self.folder, self.http, apps)).context("writing the settings of nginx")
    }

    /// The master that its file names.
    fn named(&self) -> Option<Process> {
        let text = fs::read_to_string(self.folder.join("nginx.pid")).ok()?;
        Process::find(text.trim().parse().ok()?)
    }

    fn master(&self) -> anyhow::Result<Process> {
        self.masters.last().copied().context("nginx does not run")
    }

    /// The workers that accept.
    #[must_use]
    pub fn serving(&self) -> Vec<Process> {
        let workers = self.masters.last().map(|master| master.children()).unwrap_or_default();
        workers.into_iter().filter(|worker| accepts(*worker)).collect()
    }

    /// New settings by new workers: over when one of those runs and no older one accepts. Returns the older ones.
    ///
    /// # Errors
    /// When that does not happen.
    pub fn reload(&self) -> anyhow::Result<Vec<Process>> {
        let old = self.serving();
        self.master()?.signal(Signal::SIGHUP)?;
        wait::until("nginx to reload", LIMIT, || {
            let is_new = self.serving().iter().any(|worker| !old.contains(worker));
            Ok((is_new && !old.iter().any(|worker| accepts(*worker))).then_some(()))
        })?;
        Ok(old)
    }

    /// A new program, the way its manual tells: USR2, then WINCH and QUIT to the old master. Over when a new worker runs and no older one
    /// accepts. Returns the older processes.
    ///
    /// # Errors
    /// When that does not happen.
    pub fn replace(&mut self) -> anyhow::Result<Vec<Process>> {
        let (old, mut left) = (self.master()?, self.serving());
        old.signal(Signal::SIGUSR2)?;
        let new = wait::until("a new nginx to start", LIMIT, || {
            Ok(self.named().filter(|named| *named != old))
        })?;
        self.masters.push(new);
        wait::until("a new nginx to have a worker", LIMIT, || {
            Ok((!self.serving().is_empty()).then_some(()))
        })?;
        old.signal(Signal::SIGWINCH)?;
        wait::until("the old nginx to stop accepting", LIMIT, || {
            Ok((!left.iter().any(|worker| accepts(*worker))).then_some(()))
        })?;
        old.signal(Signal::SIGQUIT)?;
        left.push(old);
        Ok(left)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        for master in &self.masters {
            master.end();
        }
    }
}

/// A worker says itself when it only finishes what it has.
fn accepts(worker: Process) -> bool {
    let title = worker.title();
    worker.is_there() && title.contains("worker process") && !title.contains("shutting down")
}

fn text(folder: &Path, http: SocketAddr, apps: &[SocketAddr]) -> String {
    let folder = folder.display();
    let apps: String = apps.iter().map(|app| format!("server {app}; ")).collect();
    let forwarded = "proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Host $host;\n\
         \t\t\tproxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Proto $scheme;\n\
         \t\t\tproxy_set_header X-Forwarded-Host $host; proxy_set_header X-Request-Id $request_id;";
    format!(
        "daemon on; worker_processes 1; pid {folder}/nginx.pid;\n\
         events {{ worker_connections 4096; }}\n\
         http {{\n\
         \taccess_log off; keepalive_requests 1000000000; client_body_temp_path {folder}/body;\n\
         \tclient_body_buffer_size 64k; proxy_buffers 16 8k; proxy_max_temp_file_size 0;\n\
         \tproxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;\n\
         \tupstream app {{ {apps}keepalive 256; keepalive_requests 1000000000; }}\n\
         \tserver {{\n\
         \t\tlisten {http};\n\
         \t\tlocation / {{\n\
         \t\t\t{forwarded}\n\
         \t\t\tproxy_set_header Connection \"\";\n\
         \t\t}}\n\
         \t\tlocation /ws {{\n\
         \t\t\t{forwarded}\n\
         \t\t\tproxy_set_header Connection upgrade; proxy_set_header Upgrade $http_upgrade;\n\
         \t\t}}\n\
         \t}}\n\
         }}\n"
    )
}

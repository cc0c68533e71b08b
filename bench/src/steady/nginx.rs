//! Decides how nginx is set up as a peer: one worker, the same forwarded headers, connections to the sandbox kept, nothing in files.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::target::Target;

/// Where Debian puts it, which is often not in the path.
const PROGRAMS: [&str; 2] = ["/usr/sbin/nginx", "/usr/local/sbin/nginx"];
const START: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// A running nginx; stopped when dropped.
pub struct Nginx {
    master: Child,
    pub worker: Pid,
    pub http: SocketAddr,
}

pub fn start(folder: &Path, ours: &Target) -> anyhow::Result<Target> {
    let program = PROGRAMS.iter().map(PathBuf::from).find(|path| path.exists());
    let program = program.context("nginx is not installed: apt-get install nginx-light")?;
    fs::create_dir_all(folder)?;
    // Free now; nobody else takes ports of loopback in this moment.
    let http = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let settings = folder.join("nginx.conf");
    fs::write(&settings, text(folder, http, ours.app))?;
    let master = Command::new(program)
        .arg("-e")
        .arg(folder.join("error.log"))
        .arg("-c")
        .arg(&settings)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .context("starting nginx")?;
    let mut nginx = Nginx {
        master,
        worker: Pid::from_raw(0),
        http,
    };
    nginx.worker = nginx.wait_for_worker(folder)?;
    Ok(Target::nginx(nginx, ours.app))
}

fn text(folder: &Path, http: SocketAddr, app: SocketAddr) -> String {
    let folder = folder.display();
    format!(
        "daemon off; worker_processes 1; pid {folder}/nginx.pid;\n\
         events {{ worker_connections 4096; }}\n\
         http {{\n\
         \taccess_log off; keepalive_requests 1000000000; client_body_temp_path {folder}/body;\n\
         \tclient_body_buffer_size 64k; proxy_buffers 16 8k; proxy_max_temp_file_size 0;\n\
         \tproxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;\n\
         \tupstream app {{ server {app}; keepalive 256; keepalive_requests 1000000000; }}\n\
         \tserver {{\n\
         \t\tlisten {http};\n\
         \t\tlocation / {{\n\
         \t\t\tproxy_pass http://app; proxy_http_version 1.1;\n\
         \t\t\tproxy_set_header Connection \"\"; proxy_set_header Host $host;\n\
         \t\t\tproxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Proto $scheme;\n\
         \t\t\tproxy_set_header X-Forwarded-Host $host; proxy_set_header X-Request-Id $request_id;\n\
         \t\t}}\n\
         \t}}\n\
         }}\n"
    )
}

impl Nginx {
    /// Its only worker, once it answers.
    fn wait_for_worker(&mut self, folder: &Path) -> anyhow::Result<Pid> {
        let deadline = Instant::now() + START;
        let children = format!("/proc/{0}/task/{0}/children", self.master.id());
        loop {
            if let Some(status) = self.master.try_wait()? {
                let log = fs::read_to_string(folder.join("error.log")).unwrap_or_default();
                bail!("nginx ended at once, {status}: {}", log.trim());
            }
            let listed = fs::read_to_string(&children).unwrap_or_default();
            let worker = listed.split_whitespace().next().and_then(|pid| pid.parse().ok());
            if let Some(worker) = worker
                && TcpStream::connect(self.http).is_ok()
            {
                return Ok(Pid::from_raw(worker));
            }
            if Instant::now() > deadline {
                bail!("nginx does not listen at {} within {START:?}", self.http);
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let master = i32::try_from(self.master.id()).map(Pid::from_raw);
        // Gone already in the case of an error.
        let _ = master.map(|master| kill(master, Signal::SIGTERM));
        let _ = self.master.wait();
    }
}

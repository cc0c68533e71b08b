//! A proxy beside the one of `miren dev`, which only its test knows, and those that take its place.

use std::fs::{self, File, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use crate::binaries::Binaries;
use crate::http::PATIENCE;
use crate::node::Node;
use crate::process;
use crate::wait::wait_until;

/// The proxy, and what a supervisor has of it: its messages, its log, its process. All that came of it is ended when this is dropped.
pub struct SecondProxy {
    child: Child,
    pub http: SocketAddr,
    pub admin: SocketAddr,
    /// Of the process that serves.
    pub pid: u32,
    folder: PathBuf,
    messages: UnixDatagram,
    programs: Binaries,
    environment: Vec<(String, String)>,
}

/// What a proxy says when it is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Started {
    pub pid: u32,
    pub http: SocketAddr,
    pub admin: SocketAddr,
}

impl SecondProxy {
    /// Like the node's own, with a port and a data folder of its own.
    #[track_caller]
    pub fn start(node: &Node) -> Self {
        Self::start_of(node, Binaries::find(), &[])
    }

    /// The same, of other programs than those under test, with variables in its environment and in that of those that take its place.
    #[track_caller]
    pub fn start_of(node: &Node, programs: Binaries, environment: &[(&str, &str)]) -> Self {
        let environment: Vec<_> = environment
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        let folder = node.folder().to_owned();
        let own = fs::read_to_string(folder.join("proxy.toml")).expect("reading the settings of the node's proxy");
        let shared = |line: &&str| ["control", "slots", "user"].contains(&line.split(' ').next().unwrap_or_default());
        let shared: Vec<&str> = own.lines().filter(shared).collect();
        assert_eq!(shared.len(), 3, "{own}");
        let settings = format!(
            "{}\ndata_dir = {:?}\n[listen]\nhttp = [\"127.0.0.1:0\"]\n[admin]\nlisten = \"127.0.0.1:0\"\n",
            shared.join("\n"),
            folder.join("second"),
        );
        fs::write(folder.join("second.toml"), settings).expect("writing settings");
        let notify = folder.join("second.notify");
        // Of one that was here before.
        let _ = fs::remove_file(&notify);
        let messages = UnixDatagram::bind(&notify).expect("making a socket");
        fs::set_permissions(&notify, Permissions::from_mode(0o666)).expect("opening the socket to the proxy's user");
        messages.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
        let child = command(&programs, &folder, &folder.join("second.toml"))
            .envs(environment.iter().cloned())
            .spawn()
            .expect("starting a proxy");
        let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut proxy = Self {
            pid: child.id(),
            child,
            http: anywhere,
            admin: anywhere,
            folder,
            messages,
            programs,
            environment,
        };
        let Started { http, admin, pid } = proxy.ready();
        assert_eq!(pid, proxy.pid);
        (proxy.http, proxy.admin) = (http, admin);
        proxy
    }

    /// Its settings.
    pub fn settings(&self) -> PathBuf {
        self.folder.join("second.toml")
    }

    /// What it, and those in its place, have logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("second.log")).unwrap_or_default()
    }

    /// The next message that says READY.
    #[track_caller]
    pub fn ready(&self) -> Started {
        self.hear("READY=1")
    }

    /// Which process is the main one, by the next message that says so.
    #[track_caller]
    pub fn main_pid(&self) -> u32 {
        let text = self.message("MAINPID=");
        let pid = text
            .lines()
            .find_map(|line| line.strip_prefix("MAINPID=")?.parse().ok());
        pid.unwrap_or_else(|| panic!("no number in {text:?}"))
    }

    #[track_caller]
    fn message(&self, has: &str) -> String {
        let mut buffer = [0; 8192];
        loop {
            let heard = self.messages.recv(&mut buffer);
            let length = heard.unwrap_or_else(|error| panic!("no {has}: {error}\n{}", self.log()));
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if text.contains(has) {
                return text;
            }
        }
    }

    #[track_caller]
    fn hear(&self, has: &str) -> Started {
        let text = self.message(has);
        let facts = text.lines().find_map(|line| line.strip_prefix("X_MIREN="));
        let facts: serde_json::Value = serde_json::from_str(facts.unwrap_or_default()).unwrap_or_default();
        let address = |key: &str| facts[key].as_str().and_then(|address| address.parse().ok());
        let pid = facts["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok());
        match (pid, address("http"), address("metrics")) {
            (Some(pid), Some(http), Some(admin)) => Started { pid, http, admin },
            _ => panic!("not all facts in {text:?}"),
        }
    }

    /// `miren-proxy upgrade` with these settings, and more arguments.
    #[track_caller]
    pub fn try_upgrade(&self, settings: &Path, arguments: &[&str]) -> Output {
        let mut command = command(&self.programs, &self.folder, settings);
        command.stderr(Stdio::piped()).arg("upgrade").args(arguments);
        command.envs(self.environment.iter().cloned());
        command.output().expect("starting an upgrade")
    }

    /// Has another process serve in its place. The one before it goes on for as long as it has something to finish.
    #[track_caller]
    pub fn upgrade(&mut self) -> u32 {
        let output = self.try_upgrade(&self.settings(), &[]);
        let (said, complained) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        assert!(output.status.success(), "{said}{complained}\n{}", self.log());
        let pid = said.split(' ').nth(1).and_then(|pid| pid.parse().ok());
        let pid = pid.unwrap_or_else(|| panic!("no process in {said:?}"));
        assert_eq!(self.main_pid(), pid);
        let ready = self.ready();
        assert_eq!(
            ready,
            Started {
                pid,
                http: self.http,
                admin: self.admin
            },
            "at the same addresses"
        );
        std::mem::replace(&mut self.pid, pid)
    }

    /// Somebody else has had another process serve in its place. The one before it.
    #[track_caller]
    pub fn was_upgraded(&mut self) -> u32 {
        let pid = process::listener(&self.folder.join("second/upgrade.sock"));
        std::mem::replace(&mut self.pid, pid)
    }

    /// It, and what came of it: every process that has its settings.
    pub fn living(&self) -> Vec<u32> {
        let settings = self.settings().to_string_lossy().into_owned();
        let line = |pid: u32| fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut living = process::all();
        living.retain(|pid| process::is_alive(*pid) && line(*pid).contains(&settings));
        living
    }

    /// How the first process ended.
    #[track_caller]
    pub fn first_ended(&mut self, limit: Duration) -> ExitStatus {
        wait_until("the first process to end", limit, || {
            let status = self.child.try_wait().map_err(|error| error.to_string())?;
            status.ok_or_else(|| "it still runs".to_owned())
        })
    }

    /// `kill -9` of the process that serves.
    pub fn kill(&mut self) {
        process::kill_and_wait(self.pid);
        // Where it is this process's own child.
        let _ = self.child.try_wait();
    }
}

impl Drop for SecondProxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.living().into_iter().for_each(process::kill_and_wait);
    }
}

fn command(programs: &Binaries, folder: &Path, settings: &Path) -> Command {
    let log = File::options()
        .create(true)
        .append(true)
        .open(folder.join("second.log"))
        .expect("making a log");
    let mut command = programs.command("miren-proxy");
    command.arg("--config").arg(settings);
    command
        .env("NOTIFY_SOCKET", folder.join("second.notify"))
        .stdin(Stdio::null())
        .stderr(log);
    command
}

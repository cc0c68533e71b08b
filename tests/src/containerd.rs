//! A containerd of one test, with folders and a socket of its own, which may be killed and started again.

use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::wait::wait_until;

/// Runs until it is killed or dropped. Drop the nodes that use it first.
pub struct Containerd {
    child: Child,
    folder: TempDir,
}

impl Containerd {
    #[track_caller]
    pub fn start() -> Self {
        let folder = tempfile::Builder::new()
            .prefix("miren-ctd-")
            .tempdir()
            .expect("making a folder");
        let at = |name: &str| folder.path().join(name);
        let settings = format!(
            "version = 2\nroot = {:?}\nstate = {:?}\noom_score = 0\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
             [grpc]\naddress = {:?}\n[ttrpc]\naddress = {:?}\n[metrics]\naddress = \"\"\n",
            at("root"),
            at("state"),
            at("socket"),
            at("socket.ttrpc")
        );
        fs::write(at("config.toml"), settings).expect("writing its settings");
        let child = spawn(&folder);
        let mut started = Self { child, folder };
        started.wait();
        started
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    /// `kill -9` of the daemon; its shims live on.
    pub fn kill(&mut self) {
        self.child.kill().expect("it may be signalled");
        self.child.wait().expect("a killed process is reaped");
    }

    /// After [`Self::kill`], in the same folder.
    #[track_caller]
    pub fn start_again(&mut self) {
        self.child = spawn(&self.folder);
        self.wait();
    }

    #[track_caller]
    fn wait(&mut self) {
        let (socket, log) = (self.socket(), self.folder.path().join("log"));
        wait_until("containerd to listen", Duration::from_secs(30), || {
            let said = |error| format!("{error}: {}", fs::read_to_string(&log).unwrap_or_default());
            UnixStream::connect(&socket).map(drop).map_err(said)
        });
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        // It may have been killed by its test.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[track_caller]
fn spawn(folder: &TempDir) -> Child {
    let at = |name: &str| folder.path().join(name);
    let mut log = File::options();
    let log = log.create(true).append(true).open(at("log")).expect("making its log");
    Command::new("containerd")
        .arg("--config")
        .arg(at("config.toml"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("starting containerd: cargo xtask setup installs it")
}

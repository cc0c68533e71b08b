//! A containerd for the tests: with folders and a socket of its own, and nothing of it left when they are over.

use anyhow::{Context, Result, bail};
use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// It takes 20 ms on an idle machine.
const START_LIMIT: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Runs until it is dropped.
pub struct Containerd {
    child: Child,
    folder: PathBuf,
}

impl Containerd {
    pub fn start() -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("miren-containerd-{}", std::process::id()));
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        let config = folder.join("config.toml");
        fs::write(&config, settings(&folder))?;
        let log = File::create(folder.join("log"))?;
        let child = Command::new("containerd")
            .arg("--config")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("starting containerd")?;
        let mut containerd = Self { child, folder };
        containerd.wait()?;
        Ok(containerd)
    }

    pub fn socket(&self) -> PathBuf {
        socket(&self.folder)
    }

    fn wait(&mut self) -> Result<()> {
        let deadline = Instant::now() + START_LIMIT;
        while UnixStream::connect(self.socket()).is_err() {
            let ended = self.child.try_wait()?;
            if ended.is_some() || Instant::now() > deadline {
                let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
                bail!("containerd does not start; it wrote:\n{log}");
            }
            thread::sleep(LOOK_AGAIN);
        }
        Ok(())
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        // Errors have nowhere to go, and what they would be about ends with the machine.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn socket(folder: &Path) -> PathBuf {
    folder.join("containerd.sock")
}

fn settings(folder: &Path) -> String {
    let (root, state, socket) = (folder.join("root"), folder.join("state"), socket(folder));
    format!(
        "version = 2\nroot = {root:?}\nstate = {state:?}\noom_score = 0\n\
         disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
         [grpc]\naddress = {socket:?}\n[ttrpc]\naddress = \"{}.ttrpc\"\n[metrics]\naddress = \"\"\n",
        socket.display()
    )
}

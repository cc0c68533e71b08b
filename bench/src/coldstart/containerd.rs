//! Decides how a containerd for one measurement is started, beside whatever containerd the machine has.

use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

/// It takes 20 ms on an idle machine.
const START_LIMIT: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Runs until it is dropped.
pub struct Containerd {
    child: Child,
    folder: PathBuf,
}

impl Containerd {
    /// Starts one that keeps everything in `folder`.
    pub fn start(folder: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(folder)?;
        let at = |name: &str| folder.join(name);
        let settings = format!(
            "version = 2\nroot = {:?}\nstate = {:?}\noom_score = 0\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
             [grpc]\naddress = {:?}\n[ttrpc]\naddress = {:?}\n[metrics]\naddress = \"\"\n",
            at("root"),
            at("state"),
            at("socket"),
            at("socket.ttrpc")
        );
        fs::write(at("config.toml"), settings)?;
        let log = File::create(at("log"))?;
        let child = Command::new("containerd")
            .arg("--config")
            .arg(at("config.toml"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("starting containerd: `cargo xtask setup` installs it")?;
        let folder = folder.to_owned();
        let mut containerd = Self { child, folder };
        containerd.wait()?;
        Ok(containerd)
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.join("socket")
    }

    fn wait(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_LIMIT;
        while UnixStream::connect(self.socket()).is_err() {
            if self.child.try_wait()?.is_some() || Instant::now() > deadline {
                let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
                bail!("containerd does not start; it wrote:\n{log}");
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        Ok(())
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        // Errors have nowhere to go here.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

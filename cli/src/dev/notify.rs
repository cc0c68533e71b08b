//! Hears from a daemon that it is ready: the receiving end of the sd_notify protocol.

use crate::failure::{Doing, Failure};
use nix::unistd::User;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tokio::net::UnixDatagram;

/// The variable that carries what a daemon says about itself, as one line of JSON.
const FACTS: &str = "X_MIREN=";
/// Longer than any message of our daemons; the rest of a longer one is cut off.
const MESSAGE_MAX: usize = 8192;

/// One daemon's socket; removed when dropped.
pub struct Notifications {
    path: PathBuf,
    socket: UnixDatagram,
}

impl Notifications {
    /// Listens at `path`. Only root and `sender` can write there.
    pub fn listen(path: &Path, sender: &User) -> Result<Self, Failure> {
        let what = || format!("listening at {}", path.display());
        match fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error).doing(what),
            _ => {}
        }
        let socket = UnixDatagram::bind(path).doing(what)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).doing(what)?;
        std::os::unix::fs::chown(path, Some(sender.uid.as_raw()), None).doing(what)?;
        Ok(Self {
            path: path.to_owned(),
            socket,
        })
    }

    /// Waits for the next message that says READY, and returns what the daemon says about itself. Cancel-safe.
    pub async fn ready(&self) -> std::io::Result<String> {
        let mut buffer = vec![0; MESSAGE_MAX];
        loop {
            let length = self.socket.recv(&mut buffer).await?;
            if let Some(facts) = facts(&String::from_utf8_lossy(&buffer[..length])) {
                return Ok(facts);
            }
        }
    }
}

impl Drop for Notifications {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

fn facts(message: &str) -> Option<String> {
    if !message.lines().any(|line| line == "READY=1") {
        return None;
    }
    let facts = message.lines().find_map(|line| line.strip_prefix(FACTS));
    Some(facts.unwrap_or("{}").to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_readiness_counts_and_its_facts_are_kept() {
        assert_eq!(facts("READY=1\nX_MIREN={\"pid\":1}\n"), Some("{\"pid\":1}".into()));
        assert_eq!(facts("X_MIREN={}\nREADY=1"), Some("{}".into()));
        assert_eq!(facts("STATUS=adopting\n"), None);
        assert_eq!(facts("READY=10"), None);
    }
}

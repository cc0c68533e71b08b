//! Decides where builders are looked for, and what they are given of this process: next to nothing.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use tokio::process::Command;

/// Where the programs of a distribution and of an administrator are.
const PLACES: &[&str] = &[
    "/usr/local/bin",
    "/usr/local/sbin",
    "/usr/bin",
    "/usr/sbin",
    "/bin",
    "/sbin",
];
/// Settings of the daemon that builders need to reach the world where it is behind a proxy.
const PASSED_ON: &[&str] = &[
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
];

/// Where programs are.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    places: Vec<PathBuf>,
}

impl Programs {
    /// `first` is looked through before the usual places.
    pub(crate) fn new(first: Option<&Path>) -> Self {
        let usual = PLACES.iter().map(PathBuf::from);
        Self {
            places: first.map(Path::to_owned).into_iter().chain(usual).collect(),
        }
    }

    pub(crate) fn find(&self, name: &str) -> Option<PathBuf> {
        let mut paths = self.places.iter().map(|place| place.join(name));
        paths.find(|path| path.is_file())
    }

    /// A command that sees no variable of this process but those of a proxy.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> std::process::Command {
        let mut command = std::process::Command::new(program);
        command.env_clear().envs(self.environment());
        command
    }

    pub(crate) fn environment(&self) -> Vec<(String, String)> {
        let places: Vec<String> = self.places.iter().map(|place| place.display().to_string()).collect();
        let own = [("PATH", places.join(":")), ("LC_ALL", "C".to_owned())];
        let own = own.map(|(name, value)| (name.to_owned(), value));
        let passed_on = PASSED_ON
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?)));
        own.into_iter().chain(passed_on).collect()
    }

    /// Whether a variable says what is between this machine and the world.
    pub(crate) fn is_of_a_proxy(name: &str) -> bool {
        PASSED_ON.contains(&name)
    }

    /// Whether a command that asks a builder for a sign of life ends well within `limit`.
    pub(crate) async fn answers(&self, command: std::process::Command, limit: std::time::Duration) -> bool {
        let mut command = Command::from(command);
        command
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .kill_on_drop(true);
        let Ok(mut child) = command.spawn() else { return false };
        let ended = tokio::time::timeout(limit, child.wait()).await;
        matches!(ended, Ok(Ok(status)) if status.success())
    }
}

//! Decides how a builder with a daemon is reached: by its client, which ends with us. The daemon isolates what it builds.

use crate::builds::Build;
use crate::program::Programs;
use std::process::Command;
use std::time::Duration;

/// A daemon that is there answers in milliseconds.
const ANSWER: Duration = Duration::from_secs(5);

/// The client of one kind of daemon.
pub(crate) struct Client {
    pub(crate) program: &'static str,
    /// What the daemon is called.
    pub(crate) daemon: &'static str,
    /// Asks the daemon for a sign of life.
    pub(crate) question: &'static [&'static str],
}

impl Client {
    /// Whether its daemon can be used.
    pub(crate) async fn answers(&self, programs: &Programs) -> Result<(), String> {
        let Some(path) = programs.find(self.program) else {
            return Err(format!("{} is not installed", self.program));
        };
        let mut command = programs.command(path);
        command.args(self.question);
        match programs.answers(command, ANSWER).await {
            true => Ok(()),
            false => Err(format!("no {} daemon answers", self.daemon)),
        }
    }

    pub(crate) fn command(&self, build: &Build<'_>) -> Command {
        let mut command = build.builds.programs.command("setpriv");
        command
            .args(["--pdeathsig", "SIGKILL", "--", self.program])
            .env("HOME", &build.settings().folder);
        if let Some(folder) = build.settings().auth_file.parent() {
            command.env("DOCKER_CONFIG", folder);
        }
        command
    }
}

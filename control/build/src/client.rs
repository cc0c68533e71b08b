//! Decides how a builder with a daemon is reached: by its client, which ends with us. The daemon isolates what it builds.

use crate::builds::Build;
use crate::error::BuildError;
use crate::login;
use crate::program::Programs;
use crate::scratch::Scratch;
use std::fs;
use std::process::{Command, Stdio};
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

    pub(crate) fn command(&self, build: &Build<'_>, place: &Scratch) -> Command {
        let mut command = build.builds.programs.command("setpriv");
        command
            .args(["--pdeathsig", "SIGKILL", "--", self.program])
            .stdin(Stdio::null())
            .env("HOME", place.folder())
            .env("DOCKER_CONFIG", place.folder());
        command
    }

    /// A folder for it, with the credentials of the registries that the Dockerfile names; the host's own are not shown.
    pub(crate) async fn place<'b>(build: &'b Build<'_>) -> Result<&'b Scratch, BuildError> {
        let (settings, scratch) = (build.settings(), build.turn.scratch());
        let registries: Vec<&str> = build.bases.iter().map(|base| base.registry.as_str()).collect();
        let config = login::file(&settings.auths, &registries).await?;
        let path = scratch.folder().join("config.json");
        fs::write(&path, config).map_err(BuildError::io("writing", &path))?;
        Ok(scratch)
    }
}

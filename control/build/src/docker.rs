//! Decides what the docker client is told. Its daemon isolates what it builds.

use crate::builds::Build;
use crate::error::BuildError;
use crate::job;
use crate::program::Programs;
use std::process::Command;
use std::time::Duration;

const PROGRAM: &str = "docker";
/// A daemon that is there answers in milliseconds.
const ANSWER: Duration = Duration::from_secs(5);

/// Whether its daemon can be used.
pub(crate) async fn answers(programs: &Programs) -> Result<(), String> {
    let Some(path) = programs.find(PROGRAM) else {
        return Err("docker is not installed".to_owned());
    };
    let mut command = programs.command(path);
    command.args(["version", "--format", "{{.Server.Version}}"]);
    match programs.answers(command, ANSWER).await {
        true => Ok(()),
        false => Err("no docker daemon answers".to_owned()),
    }
}

pub(crate) async fn build(build: &Build<'_>) -> Result<(), BuildError> {
    let mut command = client(build);
    command
        .args(["build", "--pull", "--force-rm"])
        .arg(format!("--memory={}", build.settings().memory))
        .arg("--iidfile")
        .arg(build.id_file.path())
        .arg("--file")
        .arg(build.dockerfile())
        .arg(build.order.folder);
    let doing = format!("docker build of {}", build.order.dockerfile);
    job::run(&doing, command, &build.turn, build.tell).await?;
    let image = build.built()?;
    let mut save = client(build);
    save.arg("save").arg("--output").arg(build.archive.path()).arg(&image);
    let saved = job::run("docker save", save, &build.turn, build.tell).await;
    // Its layers are in our own store from here on. One that something else uses stays.
    let mut remove = client(build);
    remove.args(["image", "rm", "--no-prune", &image]);
    if let Err(error) = job::run("docker image rm", remove, &build.turn, &|_| ()).await {
        tracing::debug!(%error, "a built image stays with docker");
    }
    saved
}

fn client(build: &Build<'_>) -> Command {
    let programs = &build.builds.programs;
    let mut command = programs.command("setpriv");
    command
        .args(["--pdeathsig", "SIGKILL", "--", PROGRAM])
        .env("BUILDKIT_PROGRESS", "plain")
        .env("HOME", &build.settings().folder);
    if let Some(folder) = build.settings().auth_file.parent() {
        command.env("DOCKER_CONFIG", folder);
    }
    command
}

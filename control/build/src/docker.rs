//! Decides what docker's client is told.

use crate::builds::Build;
use crate::client::Client;
use crate::context;
use crate::error::BuildError;
use crate::job;
use crate::scratch::Scratch;
use std::process::Command;

pub(crate) const DOCKER: Client = Client {
    program: "docker",
    daemon: "docker",
    question: &["version", "--format", "{{.Server.Version}}"],
};

pub(crate) async fn build(build: &Build<'_>) -> Result<(), BuildError> {
    let place = Client::place(build).await?;
    let mut command = client(build, place);
    command
        .args(["build", "--pull", "--force-rm"])
        .arg(format!("--memory={}", build.settings().memory))
        .arg("--iidfile")
        .arg(build.turn.scratch().id())
        .arg("--file")
        .arg(build.dockerfile())
        .arg(build.order.folder);
    if build.rules.as_deref().is_some_and(|rules| rules != context::RULES) {
        // Its older builder knows none but those of all Dockerfiles.
        command.env("DOCKER_BUILDKIT", "1");
    }
    let doing = format!("docker build of {}", build.order.dockerfile);
    job::run(&doing, command, &build.turn, build.tell).await?;
    let image = build.built()?;
    let mut save = client(build, place);
    save.arg("save")
        .arg("--output")
        .arg(build.turn.scratch().image())
        .arg(&image);
    let saved = job::run("docker save", save, &build.turn, build.tell).await;
    // Its layers are in our own store from here on. One that something else uses stays.
    let mut remove = client(build, place);
    remove.args(["image", "rm", "--no-prune", &image]);
    if let Err(error) = job::run("docker image rm", remove, &build.turn, &|_| ()).await {
        tracing::debug!(%error, "a built image stays with docker");
    }
    saved
}

fn client(build: &Build<'_>, place: &Scratch) -> Command {
    let mut command = DOCKER.command(build, place);
    command.env("BUILDKIT_PROGRESS", "plain");
    command
}

//! Decides what buildkit's client is told. Its daemon bounds what it keeps.

use crate::builds::Build;
use crate::client::Client;
use crate::error::BuildError;
use crate::job;
use std::path::Path;

pub(crate) const BUILDKIT: Client = Client {
    program: "buildctl",
    daemon: "buildkit",
    question: &["debug", "workers"],
};

pub(crate) async fn build(build: &Build<'_>) -> Result<(), BuildError> {
    let dockerfile = build.dockerfile();
    let beside = dockerfile.parent().unwrap_or(build.order.folder);
    let name = Path::new(build.order.dockerfile).file_name().unwrap_or_default();
    let place = Client::place(build).await?;
    let mut command = BUILDKIT.command(build, place);
    command
        .args(["build", "--progress=plain", "--frontend=dockerfile.v0"])
        .arg(format!("--local=context={}", build.order.folder.display()))
        .arg(format!("--local=dockerfile={}", beside.display()))
        .arg(format!("--opt=filename={}", name.display()))
        .arg(format!("--output=type=docker,dest={}", place.image().display()));
    let doing = format!("buildkit's build of {}", build.order.dockerfile);
    job::run(&doing, command, &build.turn, build.tell).await
}

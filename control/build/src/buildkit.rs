//! Decides what buildkit's client is told. Its daemon isolates what it builds, and bounds what it keeps.

use crate::builds::Build;
use crate::error::BuildError;
use crate::job;
use crate::program::Programs;
use std::path::Path;
use std::time::Duration;

const PROGRAM: &str = "buildctl";
/// A daemon that is there answers in milliseconds.
const ANSWER: Duration = Duration::from_secs(5);

/// Whether its daemon can be used.
pub(crate) async fn answers(programs: &Programs) -> Result<(), String> {
    let Some(path) = programs.find(PROGRAM) else {
        return Err("buildctl is not installed".to_owned());
    };
    let mut command = programs.command(path);
    command.args(["debug", "workers"]);
    match programs.answers(command, ANSWER).await {
        true => Ok(()),
        false => Err("no buildkit daemon answers".to_owned()),
    }
}

pub(crate) async fn build(build: &Build<'_>) -> Result<(), BuildError> {
    let dockerfile = build.dockerfile();
    let beside = dockerfile.parent().unwrap_or(build.order.folder);
    let name = Path::new(build.order.dockerfile).file_name().unwrap_or_default();
    let mut command = build.builds.programs.command("setpriv");
    command
        .args(["--pdeathsig", "SIGKILL", "--", PROGRAM])
        .args(["build", "--progress=plain", "--frontend=dockerfile.v0"])
        .arg(format!("--local=context={}", build.order.folder.display()))
        .arg(format!("--local=dockerfile={}", beside.display()))
        .arg(format!("--opt=filename={}", name.display()))
        .arg(format!("--output=type=docker,dest={}", build.archive.path().display()))
        .env("HOME", &build.settings().folder);
    if let Some(folder) = build.settings().auth_file.parent() {
        command.env("DOCKER_CONFIG", folder);
    }
    let doing = format!("buildkit's build of {}", build.order.dockerfile);
    job::run(&doing, command, &build.turn, build.tell).await
}

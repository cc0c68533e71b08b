//! What a program answers that is asked something: bounded, and quoted where it refuses.

use crate::failure::Failure;
use serde::de::DeserializeOwned;
use std::ffi::OsStr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;

/// For an answer: reading settings takes milliseconds.
const ANSWER: Duration = Duration::from_secs(20);
/// Most of a complaint that is passed on.
const COMPLAINT: usize = 2000;

/// Runs a program to its end; what it printed.
pub async fn ask(program: &Path, arguments: &[&OsStr], limit: Duration) -> Result<String, Failure> {
    let shown: Vec<_> = arguments.iter().map(|argument| argument.to_string_lossy()).collect();
    let doing = || format!("{} {}", program.display(), shown.join(" "));
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    // What is asked is no service of whoever started this command.
    for variable in ["NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"] {
        command.env_remove(variable);
    }
    let output = match tokio::time::timeout(limit, command.output()).await {
        Err(_) => return Err(Failure::failed(format!("no answer within {limit:?}")).doing(&doing())),
        Ok(output) => output.map_err(|error| Failure::from(error).doing(&doing()))?,
    };
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    let complaint = match complaint.trim() {
        "" => format!("ended with {}", output.status),
        text => tail(text).to_owned(),
    };
    Err(Failure::failed(complaint).doing(&doing()))
}

fn tail(text: &str) -> &str {
    let mut from = text.len().saturating_sub(COMPLAINT);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    &text[from..]
}

/// Its version, which it prints after its name.
pub async fn version(program: &Path) -> Result<String, Failure> {
    let said = ask(program, &["--version".as_ref()], ANSWER).await?;
    match said.split_whitespace().collect::<Vec<_>>()[..] {
        [_, version] => Ok(version.to_owned()),
        _ => Err(Failure::failed(format!(
            "{} --version: {:?} is no version",
            program.display(),
            said.trim()
        ))),
    }
}

/// Whether it takes its settings.
pub async fn check_settings(program: &Path, config: &Path) -> Result<(), Failure> {
    let arguments = [
        "--config".as_ref(),
        config.as_os_str(),
        "config".as_ref(),
        "check".as_ref(),
    ];
    ask(program, &arguments, ANSWER).await.map(drop)
}

/// What it says about itself.
pub async fn facts<T: DeserializeOwned>(program: &Path, config: &Path) -> Result<T, Failure> {
    let said = ask(
        program,
        &["--config".as_ref(), config.as_os_str(), "facts".as_ref()],
        ANSWER,
    )
    .await?;
    serde_json::from_str(&said)
        .map_err(|error| Failure::failed(format!("{} facts said something else: {error}", program.display())))
}

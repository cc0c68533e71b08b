//! How the proxy that runs is replaced by the program that is in place: whoever keeps it has that done, by handing over the sockets.

use super::keeper::Keeper;
use super::process::{self, Role};
use super::program;
use super::record::Record;
use crate::dev::desk::{Answer, Request};
use crate::failure::{Doing, Failure};
use nix::sys::signal::Signal;
use std::ffi::OsString;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::time::sleep;

const LOOK_AGAIN: Duration = Duration::from_millis(30);
/// On top of what a successor gets until it offers to serve: until it is settled whether it does (30 s at most), and told.
const TOLD: Duration = Duration::from_secs(35);

/// The process that serves, if it can be asked.
pub fn running(record: &Record) -> Option<u32> {
    record.proxy_socket.as_deref().and_then(process::proxy_at)
}

/// Whether the program in place serves. One of a release that cannot be asked is known by how it is run.
pub fn serves(record: &Record, role: &Role) -> bool {
    any(record, role).is_some_and(|pid| process::runs(pid, &role.program))
}

fn any(record: &Record, role: &Role) -> Option<u32> {
    let users: Vec<u32> = role.user.into_iter().chain([0]).collect();
    running(record).or_else(|| process::find(&role.program, &role.config, &role.config, &users))
}

/// Has the program that is in place serve. `restarts`: by ending the one that runs, which cuts what outlives its times.
pub async fn replace(record: &Record, role: &Role, restarts: bool, limit: Duration) -> Result<(), Failure> {
    if serves(record, role) {
        return Ok(());
    }
    let Some(pid) = any(record, role) else {
        return none_runs(record, role, limit).await;
    };
    let run_dir = record.control_socket.parent().unwrap_or(Path::new("/"));
    let keeper = Keeper::of(pid, run_dir);
    let log = keeper.log(pid);
    let outcome = if restarts {
        process::signal(pid, Signal::SIGTERM);
        Ok(())
    } else {
        hand_over(&keeper, role, limit).await
    };
    let outcome = match outcome {
        Ok(()) => wait(record, role, limit).await,
        failed => failed,
    };
    outcome.map_err(|mut failure| {
        let words = log.last_words();
        if !words.is_empty() && !failure.message.contains(&words) {
            failure.message = format!("{}; the log says:\n{words}", failure.message);
        }
        failure.doing(&format!("having {} serve", role.program.display()))
    })
}

/// Whoever starts it has the program that is in place. One that ran, and does not come back, is missed.
async fn none_runs(record: &Record, role: &Role, limit: Duration) -> Result<(), Failure> {
    if !role.was_running() {
        return Ok(());
    }
    let missed = |failure: Failure| {
        let failure = failure.doing("no proxy runs any more, and nobody has started it again");
        failure.remedy(format!("start it: its command line is {:?}", role.arguments.join(" ")))
    };
    wait(record, role, limit).await.map_err(missed)
}

async fn hand_over(keeper: &Keeper, role: &Role, limit: Duration) -> Result<(), Failure> {
    match keeper {
        Keeper::Dev(socket) => ask_dev(socket, limit).await,
        // In the unit, with what that allows.
        Keeper::Unit(unit) => {
            let arguments = ["reload".as_ref(), unit.as_ref()];
            program::ask(Path::new("systemctl"), &arguments, limit + TOLD)
                .await
                .map(drop)
        }
        Keeper::Parent(_) | Keeper::Nobody => {
            let limit_text = OsString::from(format!("{}ms", limit.as_millis()));
            let arguments = [
                "--config".as_ref(),
                role.config.as_os_str(),
                "upgrade".as_ref(),
                "--timeout".as_ref(),
                &limit_text,
            ];
            program::ask(&role.program, &arguments, limit + TOLD).await.map(drop)
        }
    }
}

async fn ask_dev(socket: &Path, limit: Duration) -> Result<(), Failure> {
    let what = || format!("asking miren dev at {}", socket.display());
    let asked = async {
        let mut stream = UnixStream::connect(socket).await?;
        let request = Request {
            replace: "miren-proxy".into(),
            limit_ms: u64::try_from(limit.as_millis()).unwrap_or(u64::MAX),
        };
        let request = serde_json::to_string(&request)?;
        stream.write_all(format!("{request}\n").as_bytes()).await?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).await?;
        Ok::<Answer, std::io::Error>(serde_json::from_str(&line)?)
    };
    let answer = tokio::time::timeout(limit + TOLD, asked).await;
    let answer = answer.map_err(|_| Failure::failed("it does not answer").doing(&what()))?;
    match answer.doing(what)?.error {
        None => Ok(()),
        Some(why) => Err(Failure::failed(why)),
    }
}

/// Until it is the one that is asked to make way.
async fn wait(record: &Record, role: &Role, limit: Duration) -> Result<(), Failure> {
    let begun = Instant::now();
    while !serves(record, role) {
        if begun.elapsed() > limit {
            return Err(Failure::failed(format!("it did not serve within {limit:?}")));
        }
        sleep(LOOK_AGAIN).await;
    }
    Ok(())
}

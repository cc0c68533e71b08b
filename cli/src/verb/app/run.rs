//! `miren app run` and `miren app runs`: a command run once, in a sandbox of its own of the active version, and what became of such.

use crate::failure::{Doing, Exit, Failure};
use crate::options::AppOptions;
use crate::speaking::{Given, speak, told_of_terminals};
use crate::table::{Cell, Table, Tone, or_dash};
use crate::{Context, ago, app_folder, paths};
use clap::Args;
use miren_api::AppName;
use miren_api::run::{Run, RunRequest, RunStatus};
use std::pin::pin;
use std::time::Duration;

#[derive(Debug, Args)]
pub struct RunOptions {
    #[command(flatten)]
    app: AppOptions,
    /// Give it what this command reads
    #[arg(short, long = "stdin", conflicts_with = "detach")]
    interactive: bool,
    /// Give it this terminal: what is typed, how large it is, Ctrl-C
    #[arg(short, long = "tty", conflicts_with = "detach")]
    terminal: bool,
    /// Print its id and let it go on; what it writes is in its log
    #[arg(long)]
    detach: bool,
    /// Service whose variables and limits it has; otherwise web, or the first
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// Time after which it is ended; otherwise an hour, or a day with --detach
    #[arg(long, value_name = "TIME", value_parser = miren_api::settings::parse_duration)]
    timeout: Option<Duration>,
    /// The command and its arguments; with -t it may be left out: a shell
    #[arg(last = true, required_unless_present = "terminal", value_name = "COMMAND")]
    command: Vec<String>,
}

/// What runs in a terminal when nothing is named.
const SHELL: &str = "/bin/sh";

pub async fn run(options: RunOptions, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let app = app_folder::resolve(&options.app)?;
    let doing = || format!("running a command in a sandbox of {app}");
    let given = Given::of(options.interactive, options.terminal, &doing())?;
    let command = match options.command.is_empty() {
        true => vec![SHELL.to_owned()],
        false => options.command,
    };
    let request = RunRequest {
        command,
        service: options.service,
        detach: options.detach,
        stdin: given.has_input(),
        terminal: given.terminal(),
        // Rounded up: no time at all is not what was meant.
        timeout: options
            .timeout
            .map(|time| time.as_secs() + u64::from(time.subsec_nanos() > 0)),
    };
    if request.detach {
        let path = paths::of_app(app.as_str(), "runs");
        let run: Run = context.client()?.post(&path, &request).await.doing(doing)?;
        context.console.done(&run, run.id.as_str())?;
        context
            .console
            .detail(&format!("What it writes: miren logs -a {app} --sandbox {}", run.id));
        return Ok(Exit::Done);
    }
    let client = context.client()?;
    // With a terminal Ctrl-C is for the program in the sandbox, and never comes here.
    let interrupted = async {
        match given.terminal() {
            None => drop(tokio::signal::ctrl_c().await),
            Some(_) => std::future::pending().await,
        }
    };
    let mut interrupted = pin!(interrupted);
    let begun = tokio::select! {
        begun = client.run(app.as_str(), &request) => begun,
        () = &mut interrupted => return Err(ends("what was to be run", &app)),
    };
    let (id, connection) = begun.doing(doing).map_err(told_of_terminals)?;
    tokio::select! {
        ended = speak(connection, given, doing) => ended,
        () = interrupted => Err(ends(&format!("run {id}"), &app)),
    }
}

fn ends(what: &str, app: &AppName) -> Failure {
    let told = format!("{what} ends, as whatever is run without --detach: SIGTERM, then SIGKILL");
    Failure::interrupted_while(told).remedy(format!("\"miren app runs -a {app}\" shows how it ended"))
}

pub async fn list(options: &AppOptions, context: &mut Context<'_>) -> Result<(), Failure> {
    let app = app_folder::resolve(options)?;
    let path = paths::of_app(app.as_str(), "runs");
    let runs = context.client()?.list(&path).await;
    let mut runs: Vec<Run> = runs.doing(|| format!("listing runs of {app}"))?;
    runs.sort_by_key(|run| std::cmp::Reverse(run.started_at));
    context.console.list(&runs, "runs", table(&runs))
}

fn table(runs: &[Run]) -> Table {
    let mut table = Table::new(&[
        "id", "version", "command", "status", "exit", "started", "ended", "reason",
    ])
    .cut(&["reason", "command"])
    .leave(&["started", "ended", "exit", "version", "reason"]);
    for run in runs {
        table.row(vec![
            run.id.as_str().into(),
            run.version.as_str().into(),
            run.command.as_str().into(),
            Cell::toned(run.status.as_str(), tone(run.status)),
            or_dash(run.exit_code.as_ref()).into(),
            ago::since(Some(run.started_at)).into(),
            ago::since(run.ended_at).into(),
            run.reason.as_deref().unwrap_or_default().into(),
        ]);
    }
    table
}

fn tone(status: RunStatus) -> Tone {
    match status {
        RunStatus::Starting | RunStatus::Stopping => Tone::Waiting,
        RunStatus::Running | RunStatus::Succeeded => Tone::Good,
        RunStatus::Failed => Tone::Bad,
        RunStatus::Stopped => Tone::Plain,
    }
}

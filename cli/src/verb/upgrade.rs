//! `miren upgrade`: another build of the whole product serves on this node, or nothing has changed.

use crate::Context;
use crate::console::Console;
use crate::failure::{Doing, Exit, Failure};
use check::{Checked, Wanted};
use clap::Args;
use miren_api::Server;
use miren_api::settings::parse_duration;
use record::{Book, Phase, Record};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use walk::{How, Step, Walk};

pub(super) mod check;
mod control;
mod files;
mod keeper;
pub(super) mod process;
pub(super) mod program;
mod proxy;
mod record;
mod room;
mod store;
#[cfg(test)]
mod tests;
mod walk;

#[derive(Debug, Args)]
pub struct UpgradeOptions {
    /// Folder with the new miren, miren-control and miren-proxy; without it, those in place serve from now on
    #[arg(long, value_name = "DIR")]
    from: Option<PathBuf>,
    /// Check, and say what would be done
    #[arg(long)]
    dry_run: bool,
    /// Also where the programs are those that run: both daemons are replaced by the same
    #[arg(long, requires = "from")]
    force: bool,
    /// Take an upgrade that was interrupted back, in place of going on with it
    #[arg(long, conflicts_with_all = ["from", "dry_run"])]
    back: bool,
    /// Restart the proxy, with a gap, where the one that runs cannot hand over its sockets
    #[arg(long)]
    restart_proxy: bool,
    /// What starts control where no supervisor does
    #[arg(long, value_name = "COMMAND")]
    start_control: Option<String>,
    /// Whatever the parent of a daemon is, it starts that again when it has ended; systemd and miren dev are known to
    #[arg(long)]
    supervised: bool,
    /// How long each daemon may take until it is ready
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = parse_duration)]
    timeout: Duration,
    /// Settings of the proxy; otherwise the proxy.toml beside those of control
    #[arg(long, value_name = "FILE")]
    proxy_config: Option<PathBuf>,
    /// Where control has its data, to find an upgrade that was interrupted where no control runs that says so
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

/// How it ended. Its keys are part of the contract.
#[derive(Serialize)]
struct Outcome<'o> {
    from: &'o str,
    to: &'o str,
    steps: &'o [Step],
    rolled_back: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'o str>,
}

pub async fn run(options: UpgradeOptions, context: &mut Context<'_>) -> Result<Exit, Failure> {
    if !nix::unistd::geteuid().is_root() {
        return Err(
            Failure::failed("miren upgrade replaces programs and daemons, which only root may")
                .code("not_root")
                .remedy("sudo miren upgrade …"),
        );
    }
    let Server::Unix(socket) = context.server.clone();
    let work = upgrade(options, &socket, context.console);
    tokio::select! {
        biased;
        outcome = work => outcome,
        _ = tokio::signal::ctrl_c() => Err(Failure::interrupted_while("the upgrade is where it is; nothing goes on by itself")
            .remedy("\"miren upgrade\" goes on with it, \"miren upgrade --back\" takes it back")),
    }
}

async fn upgrade(options: UpgradeOptions, socket: &Path, console: &mut Console) -> Result<Exit, Failure> {
    let from = options
        .from
        .as_ref()
        .map(|folder| folder.canonicalize().doing(|| format!("opening {}", folder.display())));
    let from = from.transpose()?;
    let how = How { limit: options.timeout };
    let begun = Instant::now();
    // While it is interrupted, control may not answer.
    if let Some(record) = record::of(socket, options.data_dir.as_deref())? {
        let book = Book::open(&record.data_dir, socket)?;
        // Whoever had the book may have come to the end meanwhile.
        if let Some(record) = book.read()? {
            return resume(record, &book, &how, (&options, from), console).await;
        }
    }
    let wanted = Wanted {
        from: from.clone(),
        socket: socket.to_owned(),
        proxy_config: options.proxy_config.clone(),
        restarts_proxy: options.restart_proxy,
        start_control: options.start_control.clone(),
        is_supervised: options.supervised,
    };
    if options.back {
        return Err(Failure::not_found("no upgrade is under way")
            .remedy("--data-dir, with where control has its data, if no control runs here"));
    }
    if !console.is_json() {
        walk::note(console, "check", "asking the new programs");
    }
    let checked = check::check(&wanted).await?;
    if options.dry_run {
        return show(&checked, begun, console);
    }
    if checked.is_same && !options.force {
        return nothing_to_do(&checked, console);
    }
    let book = Book::open(&checked.record.data_dir, socket)?;
    // Somebody may have begun one meanwhile, and been interrupted,
    if let Some(record) = book.read()? {
        return resume(record, &book, &how, (&options, from), console).await;
    }
    // or have come to the end: what runs, and the store, are others then. From here on nobody else changes them.
    let checked = check::check(&wanted).await?;
    if checked.is_same && !options.force {
        return nothing_to_do(&checked, console);
    }
    let mut walk = Walk::new(checked.record, &book, &how);
    walk.steps.push(Step {
        name: "check",
        status: "done",
        duration_ms: begun.elapsed().as_millis(),
    });
    go(walk, console).await
}

/// To the end, or back.
async fn go(mut walk: Walk<'_>, console: &mut Console) -> Result<Exit, Failure> {
    match walk.forward(console).await {
        Ok(()) => {
            walk.finish()
                .map_err(|failure| failure.remedy("the new programs serve; mend that, then \"miren upgrade\""))?;
            let told = format!(
                "This node runs {} (before: {})",
                walk.record.new_version, walk.record.old_version
            );
            console.done(&outcome(&walk, false, None), &told)?;
            Ok(Exit::Done)
        }
        Err(failure) => {
            let why = failure.message.clone();
            went_back(walk, failure, &why, console).await
        }
    }
}

/// Back, and says so; `failure` is why.
async fn went_back(
    mut walk: Walk<'_>,
    mut failure: Failure,
    why: &str,
    console: &mut Console,
) -> Result<Exit, Failure> {
    let rolled_back = match walk.back(why, console).await {
        Ok(()) => {
            failure.message = format!("{why}\nthe node runs {} as before", walk.record.old_version);
            true
        }
        Err(other) => {
            failure.message = format!("{why}\nand going back failed: {}", other.message);
            failure.remedy = "mend that, then \"miren upgrade --back\"".to_owned();
            false
        }
    };
    if console.is_json() {
        let message = failure.message.clone();
        console.document(&outcome(&walk, rolled_back, Some(&message)))?;
        return Ok(Exit::Failed);
    }
    Err(failure)
}

fn outcome<'o>(walk: &'o Walk<'_>, rolled_back: bool, error: Option<&'o str>) -> Outcome<'o> {
    Outcome {
        from: &walk.record.old_version,
        to: &walk.record.new_version,
        steps: &walk.steps,
        rolled_back,
        error,
    }
}

/// Which way an upgrade goes that was interrupted.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Way {
    /// With another folder than what was asked for now.
    Neither(String),
    /// From its first step on: what was put beside the programs may not be whole, or of another folder by now.
    Anew,
    On,
    Back(String),
}

fn way(record: &Record, from: Option<&Path>, back: bool) -> Way {
    match &record.back {
        Some(why) => Way::Back(why.clone()),
        None if back && record.is_over() && record.old_schema != Some(record.new_schema) => Way::Neither(format!(
            "{} serves, and its store has a schema that {} cannot read: the copy of the one before is given up",
            record.new_version, record.old_version
        )),
        None if back => Way::Back("it was to be taken back".to_owned()),
        None if from.is_some() && from != record.from.as_deref() => {
            let other = record
                .from
                .as_ref()
                .map_or("what was in place".into(), |from| from.display().to_string());
            Way::Neither(format!(
                "an upgrade to {other} was interrupted at step {:?}",
                record.phase.name()
            ))
        }
        None if record.phase == Phase::Stage => Way::Anew,
        None => Way::On,
    }
}

async fn resume(
    record: Record,
    book: &Book,
    how: &How,
    (options, from): (&UpgradeOptions, Option<PathBuf>),
    console: &mut Console,
) -> Result<Exit, Failure> {
    let mut record = record.found();
    record.is_supervised |= options.supervised;
    if options.start_control.is_some() {
        record.start_control.clone_from(&options.start_control);
    }
    let way = way(&record, from.as_deref(), options.back);
    if options.dry_run {
        let told = format!(
            "an upgrade was interrupted at step {:?}; \"miren upgrade\" goes on with it",
            record.phase.name()
        );
        return Err(Failure::failed(told).remedy("\"miren upgrade\", or \"miren upgrade --back\""));
    }
    let at = format!("an upgrade was interrupted at step {:?}", record.phase.name());
    match way {
        Way::Neither(why) => Err(Failure::failed(why)
            .code("interrupted")
            .remedy("\"miren upgrade\" goes on with that one, \"miren upgrade --back\" takes it back")),
        Way::Back(why) => {
            check::keeper_again(&record)?;
            console.note(&format!("{at}: it goes back"));
            let walk = Walk::new(record, book, how);
            went_back(walk, Failure::failed(why.clone()), &why, console).await
        }
        Way::On => {
            check::keeper_again(&record)?;
            console.note(&format!("{at}: it goes on"));
            go(Walk::new(record, book, how), console).await
        }
        Way::Anew => {
            console.note(&format!("{at}: it begins anew"));
            for program in record.programs() {
                files::unstage(&program, record.from.is_none())?;
            }
            let mut wanted = Wanted::again(&record);
            wanted.restarts_proxy |= options.restart_proxy;
            wanted.is_supervised |= options.supervised;
            let checked = check::check(&wanted).await.map_err(|mut failure| {
                failure.remedy = format!("{}; or \"miren upgrade --back\"", failure.remedy);
                failure
            })?;
            go(Walk::new(checked.record, book, how), console).await
        }
    }
}

fn nothing_to_do(checked: &Checked, console: &mut Console) -> Result<Exit, Failure> {
    let record = &checked.record;
    let nothing = Outcome {
        from: &record.old_version,
        to: &record.new_version,
        steps: &[],
        rolled_back: false,
        error: None,
    };
    let told = format!(
        "Nothing to do: this node runs these programs already ({})",
        record.new_version
    );
    console.done(&nothing, &told)?;
    Ok(Exit::Done)
}

/// What would be done.
fn show(checked: &Checked, begun: Instant, console: &mut Console) -> Result<Exit, Failure> {
    let record = &checked.record;
    if console.is_json() {
        let is_needed = |phase: &Phase| *phase != Phase::Proxy || record.proxy.is_some();
        let planned = Phase::ALL.into_iter().filter(is_needed).map(|phase| Step {
            name: phase.name(),
            status: "planned",
            duration_ms: 0,
        });
        let check = Step {
            name: "check",
            status: "done",
            duration_ms: begun.elapsed().as_millis(),
        };
        let steps: Vec<Step> = [check].into_iter().chain(planned).collect();
        console.document(&Outcome {
            from: &record.old_version,
            to: &record.new_version,
            steps: &steps,
            rolled_back: false,
            error: None,
        })?;
        return Ok(Exit::Done);
    }
    for line in &checked.told {
        console.line(&format!("  ok       {line}"))?;
    }
    if checked.is_same {
        console.line("Nothing to do: this node runs these programs already")?;
        return Ok(Exit::Done);
    }
    for phase in Phase::ALL {
        let told = match phase {
            Phase::Control => format!("{} ({} bytes)", phase.told(), store::size(&record.store)),
            _ => phase.told().to_owned(),
        };
        console.line(&format!("  {:<8} {told}", phase.name()))?;
    }
    console.line("Nothing was changed.")?;
    Ok(Exit::Done)
}

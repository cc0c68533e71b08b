//! `miren-proxy`: arguments, settings, privileges, signals; the rest is the library.

use anyhow::Context;
use clap::{Parser, Subcommand};
use miren_api::error::one_line;
use miren_api::reference;
use miren_api::settings::parse_duration;
use miren_log::Log;
use miren_proxy::{Addresses, Config, Ended, Prepared, Stop, memory, privileges, replace};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// The system's gives memory back and faults it in again for each large answer (docs/adr/0025-allocator.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Exit code when control writes another slot table: `EX_TEMPFAIL`, a successor with privileges will do.
const OTHER_TABLE: u8 = 75;

/// The ingress of miren.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Settings file.
    #[arg(long, default_value = miren_proxy::config::DEFAULT_PATH, global = true)]
    config: PathBuf,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// About the settings file.
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Has this program serve in the place of the proxy that runs, without a gap; exits 0 once it does and the other takes nothing new.
    Upgrade {
        /// How long the other process may take until it offers to serve; then it is ended, and the proxy that runs serves on.
        #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = parse_duration)]
        timeout: Duration,
    },
    /// Says, as JSON, what this build makes of the settings; changes nothing.
    Facts,
    /// Serves in the place of the proxy that runs, as what a supervisor starts; `upgrade` starts it in the background.
    TakeOver {
        /// Write the log where that proxy writes its own.
        #[arg(long)]
        keep_log: bool,
        /// When who started it gives it up.
        #[arg(long, hide = true)]
        until: Option<replace::Until>,
    },
    /// Prints every metric as a table of Markdown.
    #[command(hide = true)]
    MetricsReference,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Checks the settings file, and does nothing else.
    Check,
    /// Prints every key as a table of Markdown.
    Reference,
    /// Prints what the settings file may say, as a JSON Schema.
    Schema,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let log = miren_log::start("miren-proxy");
    let outcome = run(arguments, &log);
    drop(log);
    outcome.unwrap_or_else(|error| {
        miren_log::complain(&format!("miren-proxy: {}", one_line(error.as_ref())));
        ExitCode::FAILURE
    })
}

fn run(arguments: Arguments, log: &Log) -> anyhow::Result<ExitCode> {
    match arguments.command {
        None => {
            let prepared = Prepared::open(Config::read(&arguments.config)?)?;
            return serve_until_stopped(prepared, log, announce);
        }
        Some(Command::TakeOver { keep_log, until }) => {
            let (prepared, its_log) = Prepared::take_over(Config::read(&arguments.config)?, until)?;
            let its_log = keep_log.then_some(its_log);
            return serve_until_stopped(prepared, log, move |addresses| has_taken_over(addresses, its_log));
        }
        Some(Command::Upgrade { timeout }) => {
            let config = std::path::absolute(&arguments.config).context("cannot tell where the settings are")?;
            let successor = replace::replace(&config, timeout)?;
            miren_log::say(&format!(
                "miren-proxy {successor} serves; the one before it finishes what it has\n"
            ))?;
        }
        Some(Command::Facts) => {
            let facts = miren_proxy::facts(&Config::read(&arguments.config)?);
            miren_log::say(&format!("{}\n", serde_json::to_string(&facts)?))?;
        }
        Some(Command::MetricsReference) => miren_log::say(&reference::metrics(&miren_proxy::metrics_reference()?))?,
        Some(Command::Config {
            command: ConfigCommand::Reference,
        }) => {
            miren_log::say(&reference::settings(&miren_proxy::reference()))?;
        }
        Some(Command::Config {
            command: ConfigCommand::Schema,
        }) => {
            miren_log::say(&format!("{:#}\n", miren_proxy::schema()))?;
        }
        Some(Command::Config {
            command: ConfigCommand::Check,
        }) => {
            Config::read(&arguments.config)?;
            miren_log::say(&format!("{}: ok\n", arguments.config.display()))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Gives back to the system what this thread has freed.
fn give_back() {
    // SAFETY: the function has no conditions; it only takes longer where there is much to give back.
    unsafe { libmimalloc_sys::mi_collect(true) };
}

fn serve_until_stopped(
    prepared: Prepared,
    log: &Log,
    ready: impl FnOnce(&Addresses) + Send + 'static,
) -> anyhow::Result<ExitCode> {
    memory::is_given_back_by(give_back);
    privileges::settle(&prepared.config().user, &prepared.config().data_dir)?;
    // Privileges are each thread's own: the first one is begun without any.
    log.on_thread().context("cannot start the thread that writes the log")?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(prepared.config().threads)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let ended = runtime.block_on(serve(prepared, ready))?;
    // What was cut is not waited for.
    runtime.shutdown_background();
    Ok(match ended {
        Ended::Finished => ExitCode::SUCCESS,
        Ended::Cut => ExitCode::FAILURE,
        Ended::OtherTable { own, controls } => {
            miren_log::complain(&format!(
                "miren-proxy: control writes slot table {controls}, this process can only read {own}: ended for a successor; \
                 if that ends too, set slots in proxy.toml to the table of control"
            ));
            ExitCode::from(OTHER_TABLE)
        }
    })
}

async fn serve(prepared: Prepared, ready: impl FnOnce(&Addresses) + Send + 'static) -> anyhow::Result<Ended> {
    let addresses = prepared.addresses().context("cannot tell the addresses")?;
    let (order, stop) = watch::channel(Stop::No);
    let mut terminate = signal(SignalKind::terminate()).context("cannot watch for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot watch for SIGINT")?;
    let mut quit = signal(SignalKind::quit()).context("cannot watch for SIGQUIT")?;
    miren_log::spawn("signals", async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                _ = quit.recv() => {}
            }
            order.send_modify(|order| *order = if *order == Stop::No { Stop::Finish } else { Stop::Now });
            tracing::info!(order = ?*order.borrow(), "told to stop");
        }
    });
    Ok(prepared.serve(stop, move || ready(&addresses)).await?)
}

/// Tells who started it, the supervisor and whoever reads the log that it serves, and that the other one takes nothing new.
fn has_taken_over(addresses: &Addresses, its_log: Option<OwnedFd>) {
    if let Some(error) = its_log.and_then(|log| nix::unistd::dup2_stderr(log).err()) {
        tracing::warn!(%error, "the log goes on where it began");
    }
    if let Err(error) = miren_log::say(&replace::serves()) {
        tracing::debug!(%error, "who began this upgrade is gone");
    }
    // Before READY: it is from this process then.
    if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::MainPid(std::process::id())]) {
        tracing::warn!(%error, "the supervisor could not be told which process is the main one");
    }
    announce(addresses);
}

/// Tells the supervisor, and whoever reads the log, that requests can be served.
fn announce(addresses: &Addresses) {
    let http = addresses.http.first().map(ToString::to_string);
    let ready = serde_json::json!({ "http": http, "metrics": addresses.admin.to_string(), "pid": std::process::id() });
    tracing::info!(?addresses, "ready");
    if let Err(error) = miren_log::supervisor::serves(&ready.to_string()) {
        tracing::warn!(%error, "the supervisor could not be told");
    }
}

//! `miren-control`: arguments, configuration, run, stop.

use anyhow::Context;
use clap::{Parser, Subcommand};
use miren_api::error::one_line;
use miren_control::{Config, Shutdown};
use std::path::PathBuf;
use std::process::ExitCode;

/// The system's gives memory back and faults it in again for each large answer (docs/adr/0025-allocator.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Keeps the sandboxes of every app running and tells proxies where they are.
#[derive(Parser)]
#[command(name = "miren-control", version)]
struct Arguments {
    /// Configuration file.
    #[arg(long, global = true, default_value = miren_control::config::PATH)]
    config: PathBuf,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// The configuration.
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Says, as JSON, what this build makes of the configuration and of the store that is there; changes nothing.
    Facts,
    /// Prints the description of the API (docs/openapi.json).
    Openapi,
    /// Prints every metric (docs/metrics.md).
    MetricsReference,
}

#[derive(Subcommand)]
enum ConfigCommand {
    /// Says what is wrong with the configuration file, and does nothing else.
    Check,
    /// Prints every setting (docs/config.md).
    Reference,
    /// Prints what the configuration file may say, as a JSON Schema (docs/schema).
    Schema,
}

fn main() -> ExitCode {
    miren_sandbox::helper_main_if_asked();
    miren_build::helper_main_if_asked();
    match start(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            miren_log::complain(&format!("miren-control: {}", one_line(error.as_ref())));
            ExitCode::FAILURE
        }
    }
}

fn start(arguments: Arguments) -> anyhow::Result<()> {
    match arguments.command {
        Some(Command::Facts) => {
            let facts = miren_control::facts(&Config::read(&arguments.config)?)?;
            miren_log::say(&format!("{}\n", serde_json::to_string(&facts)?))?;
        }
        Some(Command::Openapi) => miren_log::say(&miren_control::server::openapi())?,
        Some(Command::MetricsReference) => {
            miren_log::say(&miren_api::reference::metrics(&miren_control::metrics_reference()))?
        }
        Some(Command::Config { command }) => match command {
            ConfigCommand::Reference => miren_log::say(&miren_api::reference::settings(&miren_control::reference()))?,
            ConfigCommand::Schema => miren_log::say(&format!("{:#}\n", miren_control::schema()))?,
            ConfigCommand::Check => {
                Config::read(&arguments.config)?;
                miren_log::say(&format!("{} is fine\n", arguments.config.display()))?;
            }
        },
        None => return serve(&arguments),
    }
    Ok(())
}

/// Runs the daemon until a signal stops it.
fn serve(arguments: &Arguments) -> anyhow::Result<()> {
    let config = Config::read(&arguments.config)?;
    let log = miren_log::start("miren-control");
    log.on_thread().context("starting the thread that writes the log")?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("starting the runtime")?;
    let outcome = runtime.block_on(async {
        let shutdown = Shutdown::on_signals().context("listening for signals")?;
        miren_control::run(config, shutdown).await
    });
    // What hangs in a call to the kernel is not waited for: nothing may hold up the end.
    runtime.shutdown_background();
    outcome
}

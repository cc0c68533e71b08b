//! One file per verb; here only which is which.

use crate::Context;
use crate::dev::DevOptions;
use crate::failure::{Exit, Failure};
use clap::Subcommand;
use std::io::Write;

pub mod app;
pub mod deploy;
pub mod disk;
pub mod doctor;
pub mod env;
pub mod ephemeral;
pub mod fastpath;
pub mod init;
pub mod logs;
pub mod node;
pub mod pool;
pub mod rollback;
pub mod route;
pub mod sandbox;
pub mod schema;
pub mod upgrade;
pub mod version;

/// Everything that `miren` can be asked to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Run everything in the foreground, with defaults, in one folder
    Dev(DevOptions),
    /// Write .miren/app.toml for a folder, by what is found in it
    Init(init::InitOptions),
    /// Make the folder's app a new version, and move its traffic there; or list, show, cancel deploys
    Deploy(deploy::DeployCommand),
    /// Move an app's traffic back to an earlier version
    Rollback(rollback::RollbackOptions),
    /// Environment variables: set, get, list, delete
    #[command(subcommand)]
    Env(env::EnvVerb),
    /// Apps: list, status, versions, restart, run a command in one, validate, delete
    #[command(subcommand)]
    App(app::AppVerb),
    /// Previews: list, show, extend, delete; "miren deploy --ephemeral" makes one
    #[command(subcommand)]
    Ephemeral(ephemeral::EphemeralVerb),
    /// Routes: which host leads to which app, whether it is up, how long it may take
    #[command(subcommand)]
    Route(route::RouteVerb),
    /// Pools: the sandboxes of one app and service
    #[command(subcommand)]
    Pool(pool::PoolVerb),
    /// Sandboxes: list, show, stop, run a command in one
    #[command(subcommand)]
    Sandbox(sandbox::SandboxVerb),
    /// Disks: list, show, grow, snapshot, delete
    #[command(subcommand)]
    Disk(disk::DiskVerb),
    /// What an app wrote to its outputs
    Logs(logs::LogsOptions),
    /// The node: status, cordon, drain, and back
    #[command(subcommand)]
    Node(node::NodeVerb),
    /// Have another build of everything serve on this node, without a gap; or those that were put in place
    Upgrade(upgrade::UpgradeOptions),
    /// The kernel side: status, and changes as they happen
    #[command(subcommand, name = "fastpath")]
    FastPath(fastpath::FastPathVerb),
    /// What a settings file may say, as a JSON Schema for editors
    Schema(schema::SchemaOptions),
    /// Versions of this program and of the server
    Version,
    /// Whether this machine and what runs on it are well: one verdict, each check with its remedy
    Doctor(doctor::DoctorOptions),
    /// Print a completion script
    Completions {
        /// For which shell
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
}

impl Verb {
    /// Whether it asks the server that `--server` names for anything.
    pub fn asks(&self) -> bool {
        match self {
            Self::Dev(_) | Self::Init(_) | Self::Schema(_) | Self::Completions { .. } => false,
            Self::App(verb) => verb.asks(),
            _ => true,
        }
    }
}

/// Runs a verb. `grammar` is that of the whole command line, for completions.
pub async fn run(verb: Verb, grammar: fn() -> clap::Command, context: &mut Context<'_>) -> Result<Exit, Failure> {
    match verb {
        Verb::Deploy(command) => return deploy::run(command, context).await,
        Verb::Rollback(options) => return rollback::run(options, context).await,
        Verb::Sandbox(verb) => return sandbox::run(verb, context).await,
        Verb::Node(verb) => return node::run(verb, context).await,
        Verb::Upgrade(options) => return upgrade::run(options, context).await,
        Verb::App(verb) => return app::run(verb, context).await,
        Verb::Doctor(options) => return doctor::run(options, context).await,
        Verb::Env(verb) => return env::run(verb, context).await,
        Verb::Dev(options) => return crate::dev::run(options, context).await,
        Verb::Init(options) => init::run(&options, context.console)?,
        Verb::Ephemeral(verb) => ephemeral::run(verb, context).await?,
        Verb::Route(verb) => route::run(verb, context).await?,
        Verb::Pool(verb) => pool::run(verb, context).await?,
        Verb::Disk(verb) => disk::run(verb, context).await?,
        Verb::Logs(options) => logs::run(options, context).await?,
        Verb::FastPath(verb) => fastpath::run(verb, context).await?,
        Verb::Schema(options) => schema::run(&options, context.console)?,
        Verb::Version => version::run(context).await?,
        Verb::Completions { shell } => completions(shell, grammar(), context)?,
    }
    Ok(Exit::Done)
}

fn completions(
    shell: clap_complete::Shell,
    mut grammar: clap::Command,
    context: &mut Context<'_>,
) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut grammar, "miren", &mut script);
    script.flush()?;
    context.console.verbatim(String::from_utf8_lossy(&script).trim_end())
}

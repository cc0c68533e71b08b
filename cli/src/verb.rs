//! One file per verb; here only which is which.

use crate::Context;
use crate::args::{Arguments, Verb};
use crate::failure::{Exit, Failure};
use clap::CommandFactory;
use std::io::Write;

pub mod app;
pub mod deploy;
pub mod disk;
pub mod env;
pub mod ephemeral;
pub mod fastpath;
pub mod logs;
pub mod node;
pub mod pool;
pub mod rollback;
pub mod route;
pub mod sandbox;
pub mod version;

/// Runs any verb but `dev`.
pub async fn run(verb: Verb, context: &mut Context<'_>) -> Result<Exit, Failure> {
    match verb {
        Verb::Deploy(command) => return deploy::run(command, context).await,
        Verb::Rollback(options) => return rollback::run(options, context).await,
        Verb::Sandbox(verb) => return sandbox::run(verb, context).await,
        Verb::Node(verb) => return node::run(verb, context).await,
        Verb::Env(verb) => return env::run(verb, context).await,
        Verb::Dev(options) => return crate::dev::run(options, context).await,
        Verb::App(verb) => app::run(verb, context).await?,
        Verb::Ephemeral(verb) => ephemeral::run(verb, context).await?,
        Verb::Route(verb) => route::run(verb, context).await?,
        Verb::Pool(verb) => pool::run(verb, context).await?,
        Verb::Disk(verb) => disk::run(verb, context).await?,
        Verb::Logs(options) => logs::run(options, context).await?,
        Verb::FastPath(verb) => fastpath::run(verb, context).await?,
        Verb::Version => version::run(context).await?,
        Verb::Completions { shell } => completions(shell, context)?,
    }
    Ok(Exit::Done)
}

fn completions(shell: clap_complete::Shell, context: &mut Context<'_>) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "miren", &mut script);
    script.flush()?;
    context.console.verbatim(String::from_utf8_lossy(&script).trim_end())
}

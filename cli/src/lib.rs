//! The command line of Miren: each verb reads its arguments, asks the control API, and prints one result.

#![deny(clippy::unwrap_used)]

pub mod ago;
pub mod app_folder;
pub mod archive;
pub mod args;
pub mod asking;
pub mod console;
pub mod dev;
pub mod failure;
pub mod moving;
pub mod options;
pub mod paths;
pub mod preview;
pub mod prompt;
pub mod shown;
pub mod speaking;
pub mod table;
pub mod terminal;
pub mod upload;
pub mod usage;
pub mod variable;
pub mod verb;

use args::Arguments;
use clap::CommandFactory;
use console::Console;
use failure::{Exit, Failure};
use miren_api::{Client, Server};
use verb::Verb;

/// What every verb works with: where to print, and whom to ask.
pub struct Context<'c> {
    pub console: &'c mut Console,
    pub server: Server,
}

impl Context<'_> {
    /// A client of the chosen server. Nothing is sent yet.
    pub fn client(&self) -> Result<Client, Failure> {
        Ok(Client::new(&self.server)?)
    }
}

/// Runs the verb that was asked for. Ctrl-C ends it, except `dev`, which has its own way of stopping.
pub async fn run(arguments: Arguments, console: &mut Console) -> Result<Exit, Failure> {
    let mut context = Context {
        console,
        server: arguments.global.server,
    };
    if arguments.verb.asks() {
        context.console.detail(&format!("asking {}", context.server));
    }
    match arguments.verb {
        Verb::Dev(options) => dev::run(options, &mut context).await,
        verb => tokio::select! {
            // In this order, so that a verb with something of its own to say about Ctrl-C can.
            biased;
            outcome = verb::run(verb, Arguments::command, &mut context) => outcome,
            _ = tokio::signal::ctrl_c() => Err(Failure::interrupted()),
        },
    }
}

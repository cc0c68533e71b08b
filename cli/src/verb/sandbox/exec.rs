//! `miren sandbox exec`: runs a command in a sandbox, as if it ran here: same pipes or same terminal, same exit status.

use crate::Context;
use crate::failure::{Doing, Exit, Failure};
use crate::speaking::{Given, speak, told_of_terminals};
use clap::Args;
use miren_api::exec::ExecRequest;

#[derive(Debug, Args)]
pub struct ExecOptions {
    /// Give it what this command reads
    #[arg(short, long = "stdin")]
    interactive: bool,
    /// Give it this terminal: what is typed, how large it is, Ctrl-C
    #[arg(short, long = "tty")]
    terminal: bool,
    /// Id of the sandbox, or the beginning of it
    id: String,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

pub async fn run(options: ExecOptions, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let doing = || format!("running a command in sandbox {}", options.id);
    let given = Given::of(options.interactive, options.terminal, &doing())?;
    let request = ExecRequest {
        command: options.command.clone(),
        stdin: given.has_input(),
        terminal: given.terminal(),
    };
    let connection = context.client()?.exec(&options.id, &request).await.doing(doing);
    let connection = connection.map_err(told_of_terminals)?;
    speak(connection, given, doing).await
}

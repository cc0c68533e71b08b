//! `miren`: parses the command line, runs one verb, and exits with the code its outcome maps to.

use clap::Parser;
use miren_cli::args::Arguments;
use miren_cli::console::Console;
use miren_cli::failure::{Exit, Failure};
use std::process::ExitCode;

/// The system's gives memory back and faults it in again for each large answer (docs/adr/0025-allocator.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return miren_cli::usage::report(&error, std::env::args_os()).into(),
    };
    let mut console = Console::standard(&arguments.global);
    // One thread: what `miren dev` starts receives its signal when the thread that started it ends.
    let exit = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => {
            let outcome = runtime.block_on(miren_cli::run(arguments, &mut console));
            // A thread that still packs a folder for an interrupted upload must not hold up the exit.
            runtime.shutdown_background();
            console.conclude(outcome)
        }
        Err(error) => console.conclude(Err::<Exit, _>(Failure::failed(format!("starting: {error}")))),
    };
    exit.into()
}

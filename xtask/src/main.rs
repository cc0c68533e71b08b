//! The repository's own commands: from a fresh machine to a tested, shipped build.

mod build;
mod ci;
mod command;
mod containerd;
mod demo;
mod dist;
mod docs;
mod ebpf;
mod faults;
mod setup;
mod test;
mod tidy;
mod timing;

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Set up, build, test and show this repository")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Install what is missing, each with the reason; nothing the second time
    Setup,
    /// Build the kernel programs
    Ebpf,
    /// Build everything: kernel programs and release binaries
    Build,
    /// Show the whole thing at work: deploys, a crash and a drain under load
    Demo(demo::Options),
    /// Run every test: unit, in process, in kernel, black box
    Test(test::Options),
    /// Walk through the fail points: each step of ours fails, hangs, panics and is killed once
    Faults(faults::Options),
    /// Formatting, clippy, tidy, then every test
    Ci,
    /// Check the rules of the house: imports, budgets, generated documents
    Tidy,
    /// Write the generated documents again
    Docs,
    /// Measure the fast path: exit hook to visible word, and the comparison
    Bench,
    /// Build what is shipped, with whole-program optimisation, into target/dist
    Dist,
}

fn main() -> ExitCode {
    match run(Arguments::parse().verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Verb) -> Result<()> {
    match verb {
        Verb::Setup => setup::run(),
        Verb::Ebpf => ebpf::run(),
        Verb::Build => build::run(),
        Verb::Demo(options) => demo::run(&options),
        Verb::Test(options) => test::run(&options),
        Verb::Faults(options) => faults::run(&options),
        Verb::Ci => ci::run(),
        Verb::Tidy => tidy::run(),
        Verb::Docs => docs::write(),
        Verb::Bench => build::bench(),
        Verb::Dist => dist::run(),
    }
}

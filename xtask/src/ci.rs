//! The whole of continuous integration, in the order that finds the cheapest mistake first.

use crate::command::{self, execute};
use crate::timing::Timing;
use crate::{ebpf, faults, setup, test, tidy};
use anyhow::Result;

pub fn run() -> Result<()> {
    let mut timing = Timing::default();
    let outcome = steps(&mut timing);
    println!("{timing}");
    outcome
}

fn steps(timing: &mut Timing) -> Result<()> {
    timing.step("formatting", || {
        execute(command::cargo().args(["fmt", "--all", "--check"]))
    })?;
    timing.step("what is missing is installed", setup::run_quietly)?;
    timing.step("kernel programs", ebpf::run_build)?;
    timing.step("clippy", clippy)?;
    timing.step("tidy: sources", tidy::run_sources)?;
    test::steps(&test::Options::default(), timing)?;
    timing.step("tidy: generated documents", tidy::run_generated)
}

/// In the release profile, so that build scripts and procedural macros are built once for clippy and for the tests.
fn clippy() -> Result<()> {
    let mut clippy = command::cargo();
    clippy.args([
        "clippy",
        "--release",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ]);
    execute(&mut clippy)?;
    execute(&mut faults::clippy())
}

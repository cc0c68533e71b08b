//! The whole of continuous integration, in the order that finds the cheapest mistake first.

use crate::command::{self, execute};
use crate::{ebpf, setup, test, tidy};
use anyhow::Result;

pub fn run() -> Result<()> {
    execute(command::cargo().args(["fmt", "--all", "--check"]))?;
    setup::run_quietly()?;
    ebpf::run_build()?;
    // In the release profile, so that build scripts and procedural macros are built once for clippy and for the tests.
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
    tidy::run_sources()?;
    test::run(&test::Options::default())?;
    tidy::run_generated()
}

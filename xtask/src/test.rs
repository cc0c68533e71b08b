//! Runs every test there is, on the release build: unit, in process, in kernel, and the real binaries from outside.

use crate::command::{self, execute};
use crate::{build, ebpf, setup};
use anyhow::Result;
use clap::Args;

/// Narrows a run down while working on one thing.
#[derive(Args, Default)]
pub struct Options {
    /// Only tests whose name contains this
    filter: Option<String>,
}

/// The crate whose tests drive the real binaries.
const BLACK_BOX: &str = "miren-blackbox";

pub fn run(options: &Options) -> Result<()> {
    setup::run_quietly()?;
    setup::check_kernel()?;
    ebpf::run_build()?;
    build::release()?;
    inner(options)?;
    for mode in ["kernel", "off"] {
        black_box(options, mode)?;
    }
    Ok(())
}

/// Everything that needs no running node.
fn inner(options: &Options) -> Result<()> {
    let mut cargo = command::cargo();
    cargo.args(["test", "--release", "--workspace", "--exclude", BLACK_BOX]);
    if let Some(filter) = &options.filter {
        cargo.args(["--", filter]);
    }
    execute(&mut cargo)
}

/// The same outside view with the kernel's help and without it (K7).
fn black_box(options: &Options, fast_path: &str) -> Result<()> {
    println!("test: black box with fast_path.mode = \"{fast_path}\"");
    let mut cargo = command::cargo();
    cargo
        .args(["test", "--release", "--package", BLACK_BOX])
        .env("MIREN_TEST_FAST_PATH", fast_path);
    if let Some(filter) = &options.filter {
        cargo.args(["--", filter]);
    }
    execute(&mut cargo)
}

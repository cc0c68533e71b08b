//! Builds the release binaries with the kernel programs inside.

use crate::command::{self, binary, execute};
use crate::{ebpf, setup};
use anyhow::Result;
use std::process::Command;

/// What is built and shipped.
pub const BINARIES: &[&str] = &["miren", "miren-control", "miren-proxy", "miren-bench"];

pub fn run() -> Result<()> {
    setup::run_quietly()?;
    ebpf::run_build()?;
    release()?;
    for name in BINARIES {
        println!("build: {}", binary(name).display());
    }
    Ok(())
}

/// The binaries and the sample apps, in the release profile.
pub fn release() -> Result<()> {
    let mut cargo = command::cargo();
    cargo.args(["build", "--release", "--workspace", "--exclude", "miren-programs"]);
    execute(&mut cargo)
}

/// The same and the tests, in one go: they share every dependency.
pub fn with_tests() -> Result<()> {
    let mut cargo = command::cargo();
    cargo.args(["build", "--release", "--workspace", "--exclude", "miren-programs"]);
    cargo.args(["--bins", "--tests"]);
    execute(&mut cargo)
}

/// Measures the fast path on this machine.
pub fn bench() -> Result<()> {
    run()?;
    execute(Command::new(binary("miren-bench")).arg("fastpath"))
}

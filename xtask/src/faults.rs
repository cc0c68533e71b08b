//! Walks through the fail points: builds the daemons that have them beside those that are shipped, and has each point fail.

use crate::command::{self, binary, execute};
use crate::{build, ebpf, setup};
use anyhow::{Context, Result, ensure};
use clap::Args;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// Narrows the walk down.
#[derive(Args, Default)]
pub struct Options {
    /// Only runs in whose POINT=KIND this is, as in `create.` or `store.commit=kill`
    #[arg(default_value = "")]
    pub only: String,
}

/// Who has the points. All else is built as it is shipped: cargo keeps both beside each other.
const FEATURES: &str = "miren-control/faults,miren-proxy/faults,miren-blackbox/faults";
/// What has them, and is not to be tuned: a walk waits far more than it works.
const PLAIN: [&str; 3] = ["miren-control", "miren-proxy", "miren-sandbox"];
/// The test that walks.
pub const WALK: &str = "i2_i7_i9_d3_every_fault_at_every_fail_point_breaks_no_promise";
/// What the walk runs.
const PROGRAMS: [&str; 4] = ["miren", "miren-control", "miren-proxy", "hello-rust"];

/// Prepares, builds and walks.
///
/// # Errors
/// When something is missing that cannot be installed, or a fault breaks a promise.
pub fn run(options: &Options) -> Result<()> {
    setup::run_quietly()?;
    setup::check_kernel()?;
    ebpf::run_build()?;
    build()?;
    walk(&options.only)
}

fn folder() -> PathBuf {
    command::target_dir().join("faults")
}

/// Builds them. Cargo puts both kinds of daemons in one place: these are taken away from there, and what is shipped is put back,
/// whatever came of it.
///
/// # Errors
/// When one of the two builds fails.
pub fn build() -> Result<()> {
    let built = build_with_points();
    let restored = build::with_tests();
    built.and(restored)
}

fn build_with_points() -> Result<()> {
    let mut cargo = cargo("build");
    cargo.args(PROGRAMS.iter().flat_map(|name| ["--bin", name]));
    execute(&mut cargo)?;
    let folder = folder();
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for name in PROGRAMS {
        let (from, to) = (binary(name), folder.join(name));
        // Never in place: somebody may run it.
        let new = to.with_extension("new");
        fs::copy(&from, &new).with_context(|| format!("cannot copy {}", from.display()))?;
        fs::rename(&new, &to).with_context(|| format!("cannot install {}", to.display()))?;
    }
    Ok(())
}

/// Makes the runs that are wanted; a table of them is printed.
///
/// # Errors
/// When a fault breaks a promise, or a point is not reached.
pub fn walk(only: &str) -> Result<()> {
    ensure!(folder().is_dir(), "the daemons with fail points are not built");
    let mut cargo = cargo("test");
    cargo.args(["--", "--nocapture"]);
    execute(cargo.env("MIREN_BIN_DIR", folder()).env("MIREN_FAULTS_ONLY", only))
}

/// The same selection each time, with a target that is a test: so dependencies are those that are built already.
fn cargo(verb: &str) -> Command {
    let mut cargo = command::cargo();
    cargo.args([verb, "--release", "--workspace", "--exclude", "miren-programs"]);
    cargo.args(["--features", FEATURES, "--test", "faults"]);
    for package in PLAIN {
        cargo.args(["--config", &format!("profile.release.package.{package}.opt-level=0")]);
    }
    cargo
}

/// What is built with fail points only.
pub fn clippy() -> Command {
    let mut clippy = cargo("clippy");
    clippy.args(["--lib", "--", "-D", "warnings"]);
    clippy
}

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

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// Every package with its features, where dependencies of these kinds are counted.
    fn packages(kinds: &str) -> BTreeSet<String> {
        let mut cargo = command::cargo();
        cargo.args(["tree", "--offline", "--workspace", "--exclude", "miren-programs"]);
        cargo.args(["--edges", kinds, "--prefix", "none", "--format", "{p} {f}"]);
        let output = cargo.output().expect("cargo tree");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines()
            .map(|line| line.trim_end_matches(" (*)").to_owned())
            .collect()
    }

    #[test]
    fn f0_what_is_tested_has_the_features_of_what_is_shipped() {
        let (shipped, tested) = (packages("normal,build"), packages("normal,build,dev"));
        let others: Vec<&String> = shipped.difference(&tested).collect();
        assert!(
            others.is_empty(),
            "tests are built of other dependencies than binaries alone, by features that only dev-dependencies ask for: {others:#?}"
        );
    }
}

//! The rules of the house that no compiler knows: who may import what, how long things may be, what must be fresh.

mod files;
mod homes;
mod imports;
mod promises;
pub mod units;

use crate::command::{output, root};
use crate::docs;
use anyhow::{Context, Result, bail};
use std::path::PathBuf;
use std::process::Command;

/// Checks everything; the generated documents need built binaries.
pub fn run() -> Result<()> {
    run_sources()?;
    run_generated()
}

/// Checks that need nothing but the sources.
pub fn run_sources() -> Result<()> {
    let sources = Sources::read()?;
    let mut found = files::check(&sources);
    found.extend(imports::check(&sources)?);
    found.extend(homes::check(&sources));
    for (document, heading) in promises::DOCUMENTS {
        let text = std::fs::read_to_string(root().join(document)).with_context(|| (*document).to_owned())?;
        let from = text
            .find(heading)
            .with_context(|| format!("{document} has no {heading:?}"))?;
        found.extend(promises::check(&sources, document, &text[from..]));
    }
    found.extend(units::check()?);
    report("tidy", &found)?;
    println!("tidy: {} source files follow the rules", sources.rust.len());
    Ok(())
}

/// Checks that the generated documents say what the binaries do.
pub fn run_generated() -> Result<()> {
    report("tidy", &docs::stale()?)?;
    println!("tidy: the generated documents are fresh");
    Ok(())
}

fn report(what: &str, found: &[String]) -> Result<()> {
    for problem in found {
        eprintln!("{what}: {problem}");
    }
    if found.is_empty() {
        Ok(())
    } else {
        bail!("{} problems", found.len())
    }
}

fn is_test(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.contains("/tests/")
}

/// The code that is built into binaries: unit tests stand at the end of a file.
fn without_unit_tests(text: &str) -> &str {
    text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or(text)
}

/// The files under version control, or about to be, with their text.
pub struct Sources {
    /// Path from the root, and text.
    pub rust: Vec<(String, String)>,
    pub manifests: Vec<(String, String)>,
}

impl Sources {
    fn read() -> Result<Self> {
        let mut git = Command::new("git");
        git.current_dir(root())
            .args(["ls-files", "--cached", "--others", "--exclude-standard"]);
        let listed = output(&mut git)?;
        let paths: Vec<&str> = listed.lines().filter(|path| root().join(path).exists()).collect();
        let read = |ends: &str| -> Result<Vec<(String, String)>> {
            let chosen = paths.iter().filter(|path| path.ends_with(ends));
            chosen
                .map(|path| {
                    Ok((
                        path.to_string(),
                        std::fs::read_to_string(root().join(PathBuf::from(path)))?,
                    ))
                })
                .collect()
        };
        Ok(Self {
            rust: read(".rs")?,
            manifests: read("Cargo.toml")?,
        })
    }
}

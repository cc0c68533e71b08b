//! Builds what is shipped: whole-program optimised binaries in one folder.

use crate::build::BINARIES;
use crate::command::{self, execute, root, target_dir};
use crate::tidy::units::UNITS;
use crate::{ebpf, setup};
use anyhow::{Context, Result};

pub fn run() -> Result<()> {
    setup::run_quietly()?;
    ebpf::run_build()?;
    let mut cargo = command::cargo();
    cargo.args(["build", "--profile", "dist"]);
    for package in ["miren-cli", "miren-control", "miren-proxy", "miren-bench"] {
        cargo.args(["--package", package]);
    }
    execute(&mut cargo)?;
    let folder = target_dir().join("dist");
    for name in BINARIES {
        let path = folder.join(name);
        let size = std::fs::metadata(&path)
            .with_context(|| format!("{} was not built", path.display()))?
            .len();
        println!("dist: {} ({:.1} MB)", path.display(), size as f64 / 1e6);
    }
    let units = folder.join("systemd");
    std::fs::create_dir_all(&units).with_context(|| units.display().to_string())?;
    for unit in UNITS {
        let from = root().join(unit);
        let name = from.file_name().unwrap_or_default();
        std::fs::copy(&from, units.join(name)).with_context(|| from.display().to_string())?;
    }
    println!("dist: {} ({} units)", units.display(), UNITS.len());
    Ok(())
}

//! Builds the kernel programs with whichever toolchain has the source of `core`, and says which.

use crate::command::{execute, forget_outer_cargo, output, root, target_dir};
use crate::setup;
use anyhow::{Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

const TARGET: &str = "bpfel-unknown-none";

/// A compiler that can build `core` for the kernel's target.
enum Toolchain {
    /// Debian's pair of compiler and source.
    Debian,
    /// rustup's nightly with the component rust-src.
    Nightly,
}

pub fn run_build() -> Result<()> {
    let toolchain = find()?;
    let mut cargo = match toolchain {
        Toolchain::Debian => {
            let mut cargo = Command::new("/usr/bin/cargo");
            // A stable compiler; building `core` needs the unstable switch.
            cargo
                .env("RUSTC", "/usr/bin/rustc")
                .env("RUSTC_BOOTSTRAP", "1")
                .env_remove("RUSTUP_TOOLCHAIN");
            cargo
        }
        Toolchain::Nightly => {
            let mut cargo = Command::new("cargo");
            cargo.arg("+nightly");
            cargo
        }
    };
    forget_outer_cargo(&mut cargo);
    let linker = setup::linker_path();
    let path = std::env::var("PATH").unwrap_or_default();
    let tools = linker.parent().unwrap_or(Path::new("/")).display().to_string();
    cargo
        .current_dir(root())
        .args([
            "build",
            "--package",
            "miren-programs",
            "--bin",
            "miren-programs",
            "--profile",
            "bpf",
        ])
        .args(["--target", TARGET, "-Z", "build-std=core", "--target-dir"])
        .arg(target_dir().join("ebpf"))
        .env("PATH", format!("{tools}:{path}"))
        .env("CARGO_ENCODED_RUSTFLAGS", "-Cdebuginfo=2\u{1f}-Clink-arg=--btf")
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO");
    execute(&mut cargo)
}

/// The object that the loader embeds.
pub fn object() -> PathBuf {
    target_dir().join("ebpf").join(TARGET).join("bpf/miren-programs")
}

pub fn run() -> Result<()> {
    setup::run_quietly()?;
    run_build()?;
    let size = std::fs::metadata(object())?.len();
    println!("ebpf: built {} ({size} bytes)", object().display());
    Ok(())
}

fn find() -> Result<Toolchain> {
    if Path::new("/usr/bin/rustc").exists() && has_source(Command::new("/usr/bin/rustc")) {
        println!("ebpf: with Debian's rustc and its source");
        return Ok(Toolchain::Debian);
    }
    let mut nightly = Command::new("rustc");
    nightly.arg("+nightly");
    if has_source(nightly) {
        println!("ebpf: with rustup's nightly and rust-src");
        return Ok(Toolchain::Nightly);
    }
    bail!(
        "no compiler with the source of core; run `cargo xtask setup`, or rustup component add rust-src --toolchain nightly"
    )
}

fn has_source(mut rustc: Command) -> bool {
    let sysroot = output(rustc.args(["--print", "sysroot"]));
    sysroot.is_ok_and(|path| {
        Path::new(path.trim())
            .join("lib/rustlib/src/rust/library/core")
            .exists()
    })
}

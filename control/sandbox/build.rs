//! Decides how the init of sandboxes is built: by the compiler alone, from one crate, into a program that needs nothing.

use std::env;
use std::path::Path;
use std::process::Command;

/// Small, and static wherever it is put; without the files and libraries that every other program begins with.
const FLAGS: &[&str] = &[
    "--edition=2024",
    "--crate-name=init",
    "--crate-type=bin",
    "--cfg=miren_init",
    "-Copt-level=s",
    "-Clto=fat",
    "-Ccodegen-units=1",
    "-Cpanic=abort",
    "-Cstrip=symbols",
    "-Crelocation-model=static",
    "-Clink-arg=-nostartfiles",
    "-Clink-arg=-nostdlib",
    "-Clink-arg=-static",
    "-Clink-arg=-Wl,--build-id=none,-z,norelro",
];

fn main() {
    let folder = Path::new(&variable("CARGO_MANIFEST_DIR")).join("../init/src");
    println!("cargo::rerun-if-changed={}", folder.display());
    println!("cargo::rerun-if-changed=build.rs");
    let mut compiler = Command::new(variable("RUSTC"));
    compiler.args(FLAGS).arg(format!("--target={}", variable("TARGET")));
    if let Ok(linker) = env::var("RUSTC_LINKER") {
        compiler.arg(format!("-Clinker={linker}"));
    }
    let program = Path::new(&variable("OUT_DIR")).join("init");
    compiler.arg(folder.join("lib.rs")).arg("-o").arg(program);
    let status = compiler
        .status()
        .unwrap_or_else(|error| panic!("running {compiler:?}: {error}"));
    assert!(
        status.success(),
        "building the init of sandboxes: {compiler:?} ended with {status}"
    );
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"))
}

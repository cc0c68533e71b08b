//! What package managers and compilers put into an app's folder, made once and kept in the target folder for the passes to come.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use miren_blackbox::{AppFolder, Output};

/// Has `make` put `name` into the folder it is given, unless that was done before from the same `source` with the same `version` of the
/// program that does it; then gives the app a copy.
#[track_caller]
fn give(app: &AppFolder, name: &str, source: &str, version: &mut Command, make: impl FnOnce(&Path)) {
    let mut hash = DefaultHasher::new();
    let text = fs::read_to_string(app.path().join(source)).expect("a file of the app");
    (name, text, succeed(version)).hash(&mut hash);
    let kept = kept().join(format!("{}-{:016x}", app.name, hash.finish()));
    // Tests of another process may want the same.
    let lock = File::create(kept.with_extension("lock")).expect("a lock");
    lock.lock().expect("locking");
    if !kept.exists() {
        let made = kept.with_extension("partial");
        let _ = fs::remove_dir_all(&made);
        fs::create_dir(&made).expect("a folder");
        fs::copy(app.path().join(source), made.join(source)).expect("a copy");
        make(&made);
        fs::rename(&made, &kept).expect("renaming a folder");
    }
    succeed(Command::new("cp").arg("-a").arg(kept.join(name)).arg(app.path()));
}

fn kept() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("programs");
    fs::create_dir_all(&folder).expect("a folder");
    folder
}

/// What it wrote.
#[track_caller]
fn succeed(command: &mut Command) -> String {
    let output = Output::of(command);
    assert_eq!(output.code, 0, "{output}");
    output.stdout
}

/// Sandboxes without an image see the system's programs and no others.
const PYTHON: &str = "/usr/bin/python3";

/// `requirements.txt` installed into `venv`.
#[track_caller]
pub fn venv(app: &AppFolder) {
    give(
        app,
        "venv",
        "requirements.txt",
        Command::new(PYTHON).arg("--version"),
        |folder| {
            succeed(Command::new(PYTHON).args(["-m", "venv", "venv"]).current_dir(folder));
            let pip = |words: &[&str]| {
                let mut python = Command::new(folder.join("venv/bin/python"));
                succeed(python.args(["-m", "pip"]).args(words).current_dir(folder))
            };
            pip(&["install", "-q", "--no-compile", "-r", "requirements.txt"]);
            // What only installs is most of the files, and runs nothing.
            pip(&["uninstall", "-q", "-y", "setuptools", "pip"]);
        },
    );
}

/// The dependencies that `package.json` names in `node_modules`.
#[track_caller]
pub fn node_modules(app: &AppFolder) {
    give(
        app,
        "node_modules",
        "package.json",
        Command::new("/usr/bin/node").arg("--version"),
        |folder| {
            let mut npm = Command::new("/usr/bin/npm");
            succeed(npm.args(["install", "--no-audit", "--no-fund"]).current_dir(folder));
        },
    );
}

/// `server.go` as the program `server`.
#[track_caller]
pub fn go_program(app: &AppFolder) {
    give(
        app,
        "server",
        "server.go",
        Command::new("/usr/bin/go").arg("version"),
        |folder| {
            let mut go = Command::new("/usr/bin/go");
            go.args(["build", "-o", "server", "server.go"]).current_dir(folder);
            go.env("GOCACHE", folder.join("cache")).env("CGO_ENABLED", "0");
            succeed(&mut go);
            fs::remove_dir_all(folder.join("cache")).expect("what was compiled on the way");
        },
    );
}

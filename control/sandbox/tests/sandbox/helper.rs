//! Decides how a test replaces the helper program of a node that is open, and holds it up.

use crate::node::TestNode;
use miren_sandbox::NodeConfig;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The helper program of one node: a copy of the real one, until a test replaces it.
pub struct Program {
    path: PathBuf,
}

impl Program {
    /// Gives the node a helper program of its own.
    pub fn install(config: &mut NodeConfig) {
        let program = folder(config).join("helper");
        fs::copy(&config.helper, &program).expect("a helper");
        config.helper = program;
    }

    pub fn of(node: &TestNode) -> Self {
        Self {
            path: node.config.helper.clone(),
        }
    }

    pub fn remove(&self) {
        fs::remove_file(&self.path).expect("a helper");
    }

    /// A script instead; `$1` is the folder of the sandbox, or `$2` if `$1` says that a log is to be written.
    pub fn replace(&self, script: &str) {
        let new = self.path.with_extension("new");
        fs::write(&new, format!("#!/bin/bash\nPATH=/usr/bin:/bin\n{script}\n")).expect("a script");
        fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).expect("its mode");
        fs::rename(new, &self.path).expect("a helper");
    }

    /// The real one again.
    pub fn restore(&self) {
        let new = self.path.with_extension("new");
        fs::copy(real(), &new).expect("a helper");
        fs::rename(new, &self.path).expect("a helper");
    }

    /// From now on each helper waits at a gate before it does anything.
    pub fn close_gate(&self) -> Gate {
        let (pipe, arrived) = (self.path.with_extension("gate"), self.path.with_extension("arrived"));
        mkfifo(&pipe, Mode::S_IRWXU).expect("a pipe");
        fs::create_dir(&arrived).expect("a folder");
        let held = File::options().read(true).write(true).open(&pipe).expect("a pipe");
        let (pipe, real) = (pipe.display(), real().display());
        self.replace(&format!(
            "mkdir {}/$$\nread -r _ < {pipe}\n\
             [ \"$1\" = miren-sandbox-log ] && exec {real} \"$@\"\nexec -a miren-sandbox {real} \"$@\"",
            arrived.display()
        ));
        Gate { held, arrived }
    }
}

/// Where helpers wait.
pub struct Gate {
    held: File,
    arrived: PathBuf,
}

impl Gate {
    /// Helpers that have come to it so far.
    pub fn waiting(&self) -> usize {
        fs::read_dir(&self.arrived).expect("a folder").count()
    }

    /// Lets through as many as any test has.
    pub fn open(mut self) {
        self.held.write_all(&[b'\n'; 64]).expect("a pipe");
        // Held open until the folder of the node goes, so that nobody who comes later waits for a writer.
        std::mem::forget(self.held);
    }
}

fn folder(config: &NodeConfig) -> &Path {
    config.run_dir.parent().expect("a folder")
}

fn real() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_miren-sandbox-testapp"))
}

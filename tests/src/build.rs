//! Builds of the whole product, in folders of their own: those under test, with other bytes, or with a daemon that does not serve.

use std::fs::{self, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::binaries::Binaries;

/// A folder as `cargo xtask dist` makes it.
pub struct Build {
    folder: TempDir,
}

impl Build {
    /// The programs under test. What is appended to each makes it another build that does the same: nothing reads behind a program.
    #[track_caller]
    pub fn marked(mark: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("miren-build-").tempdir();
        let build = Self {
            folder: folder.expect("making a folder"),
        };
        let programs = Binaries::find().copy_to(&build.programs());
        for name in ["miren", "miren-control", "miren-proxy"] {
            let file = OpenOptions::new().append(true).open(programs.path(name));
            let written = file.and_then(|mut file| file.write_all(mark.as_bytes()));
            written.unwrap_or_else(|error| panic!("marking {name}: {error}"));
        }
        build
    }

    /// The folder with the programs.
    pub fn programs(&self) -> PathBuf {
        self.folder.path().join("programs")
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.programs().join(name)
    }

    /// Answers as the program does what an upgrade asks of it, and does `instead` where it is to serve.
    #[track_caller]
    pub fn serves_instead(self, name: &str, instead: &str) -> Self {
        let real = self.folder.path().join(name);
        fs::rename(self.path(name), &real).expect("moving a program");
        let script = format!(
            "#!/bin/sh\ncase \" $* \" in *' --version '*|*' config '*|*' facts '*) exec {} \"$@\";; esac\n{instead}\n",
            real.display()
        );
        self.put(name, &script);
        self
    }

    /// A line of a script that never ends, and has no child that outlives it.
    #[track_caller]
    pub fn hanging(&self) -> String {
        let pipe = self.folder.path().join("nobody-writes");
        if !pipe.exists() {
            nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("making a pipe");
        }
        format!("read word < {}", pipe.display())
    }

    /// Another program in the place of one.
    #[track_caller]
    pub fn put(&self, name: &str, script: &str) {
        write_program(&self.path(name), script);
    }
}

fn write_program(path: &Path, script: &str) {
    fs::write(path, script).expect("writing a program");
    fs::set_permissions(path, Permissions::from_mode(0o755)).expect("making it one that can be run");
}

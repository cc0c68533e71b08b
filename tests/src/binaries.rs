//! Where the binaries under test are.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const PROGRAMS: [&str; 3] = ["miren", "miren-control", "miren-proxy"];

/// The folder that has `miren`, `miren-control` and `miren-proxy`.
#[derive(Clone, Debug)]
pub struct Binaries {
    folder: PathBuf,
}

impl Binaries {
    /// `MIREN_BIN_DIR`, else the folder of the profile that the test itself was built in.
    #[track_caller]
    pub fn find() -> Self {
        let folder = env::var_os("MIREN_BIN_DIR").map_or_else(profile_folder, PathBuf::from);
        let missing: Vec<&str> = PROGRAMS
            .into_iter()
            .filter(|name| !folder.join(name).exists())
            .collect();
        assert!(
            missing.is_empty(),
            "{} lacks {}: build them with `cargo xtask build`, or set MIREN_BIN_DIR",
            folder.display(),
            missing.join(", "),
        );
        Self { folder }
    }

    /// The same programs in another folder, which is made.
    #[track_caller]
    pub fn copy_to(&self, folder: &Path) -> Self {
        fs::create_dir(folder).expect("making a folder");
        for name in PROGRAMS {
            fs::copy(self.path(name), folder.join(name)).unwrap_or_else(|error| panic!("copying {name}: {error}"));
        }
        Self {
            folder: folder.to_owned(),
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub fn command(&self, name: &str) -> Command {
        Command::new(self.path(name))
    }
}

/// The Rust sample app.
#[track_caller]
pub fn sample_app() -> PathBuf {
    let program = Binaries::find().path("hello-rust");
    assert!(
        program.exists(),
        "{} is missing: build it with `cargo build -p hello-rust`",
        program.display()
    );
    program
}

/// Test executables are in `target/PROFILE/deps`.
pub fn profile_folder() -> PathBuf {
    let executable = env::current_exe().expect("a test knows its own path");
    let folder = executable.parent().expect("an executable is in a folder");
    if folder.ends_with("deps") {
        folder.join("..")
    } else {
        folder.to_owned()
    }
}

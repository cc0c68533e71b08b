//! Decides what of the machine a builder sees: a root of its own, in which it owns nothing of the host's.
//!
//! A helper process makes that root, enters it as users that are nobody outside, and becomes the builder. What a step
//! talks the builder into, such as a mount of any folder, finds this root and nothing else.

use crate::program::Programs;
use nix::sys::memfd::{MFdFlags, memfd_create};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

mod enter;
mod mounts;
mod root;

pub(crate) use enter::main_if_asked;

/// How many users and groups a builder has: as many as images use, and no more.
pub(crate) const USERS: u32 = 65_536;

/// Where things are in there.
pub(crate) const STORAGE: &str = "/storage";
pub(crate) const CONTEXT: &str = "/context";
/// For what is large and goes with the build.
pub(crate) const SCRATCH: &str = "/var/tmp";
/// Where the image is put.
pub(crate) const OUT: &str = "/out";

/// What the helper is told, over its standard input.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Jail {
    /// Without this process the helper ends.
    pub(crate) parent: u32,
    /// Any folder: the new root is put together there, where only the helper sees it.
    pub(crate) place: PathBuf,
    /// Control groups that it joins.
    pub(crate) groups: Vec<PathBuf>,
    /// A network namespace. None: one of its own, which leads nowhere.
    pub(crate) network: Option<PathBuf>,
    /// The host's user and group that is root in there.
    pub(crate) first_user: u32,
    pub(crate) folders: Vec<Folder>,
    /// Files in there, with what they say.
    pub(crate) files: Vec<(PathBuf, String)>,
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) command: Vec<String>,
}

/// A folder of the host's that a builder sees.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Folder {
    pub(crate) host: PathBuf,
    pub(crate) inside: PathBuf,
    pub(crate) writable: bool,
}

impl Folder {
    pub(crate) fn read_only(host: &Path, inside: &str) -> Self {
        Self {
            host: host.to_owned(),
            inside: inside.into(),
            writable: false,
        }
    }

    pub(crate) fn writable(host: &Path, inside: &str) -> Self {
        Self {
            writable: true,
            ..Self::read_only(host, inside)
        }
    }
}

impl Jail {
    /// The command that runs it; `helper` is a program that begins with [`main_if_asked`].
    pub(crate) fn command(mut self, helper: &Path, programs: &Programs) -> io::Result<Command> {
        self.parent = std::process::id();
        let mut told = File::from(memfd_create("jail", MFdFlags::MFD_CLOEXEC)?);
        told.write_all(&serde_json::to_vec(&self)?)?;
        told.rewind()?;
        let mut command = programs.command(helper);
        command.arg0(enter::NAME).stdin(told);
        Ok(command)
    }
}

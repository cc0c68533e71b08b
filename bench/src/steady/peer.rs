//! Decides who else is measured, by the words of the command line.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::target::Target;
use crate::peer::nginx::Nginx;

/// Somebody this build is compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// nginx, in front of the same sandbox.
    Nginx,
    /// Another build of ours, with a node and an app of its own.
    Build(PathBuf),
}

impl Peer {
    pub(super) fn start(&self, folder: &Path, number: usize, ours: &Target) -> anyhow::Result<Target> {
        match self {
            Self::Nginx => Target::nginx(Nginx::start(folder, &[ours.app])?, ours.app),
            Self::Build(programs) => Target::build(&self.to_string(), programs, folder, &format!("p{number}")),
        }
    }
}

impl FromStr for Peer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "nginx" => Ok(Self::Nginx),
            folder if Path::new(folder).join("miren").is_file() => Ok(Self::Build(folder.into())),
            _ => Err("name nginx, or a folder that has miren, miren-control and miren-proxy".to_owned()),
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nginx => out.write_str("nginx"),
            Self::Build(folder) => match folder.file_name() {
                Some(name) => out.write_str(&name.to_string_lossy()),
                None => write!(out, "{}", folder.display()),
            },
        }
    }
}

//! Decides who else does the same work in the same run, and that whoever is not installed is named and left out.

use std::fmt;
use std::path::PathBuf;

use clap::ValueEnum;

pub mod backend;
pub mod haproxy;
pub mod nginx;
pub mod process;
pub mod wait;

/// Somebody this build is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Peer {
    Nginx,
    Haproxy,
}

impl Peer {
    /// Its program, and the package that brings it.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Nginx => ("nginx", "nginx-light"),
            Self::Haproxy => ("haproxy", "haproxy"),
        }
    }

    /// Where its program is.
    ///
    /// # Errors
    /// When it is not installed: how to get it.
    pub fn program(self) -> anyhow::Result<PathBuf> {
        let (name, package) = self.names();
        // Where Debian puts it, which is often not in the path.
        let folders = ["/usr/sbin", "/usr/local/sbin", "/usr/local/bin"];
        let mut paths = folders.iter().map(|folder| PathBuf::from(folder).join(name));
        let found = paths.find(|path| path.exists());
        found.ok_or_else(|| anyhow::anyhow!("{name} is not installed: apt-get install {package}"))
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.names().0)
    }
}

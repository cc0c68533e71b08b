//! Decides who else does the same work in the same run, and that whoever is not installed is named and left out.

use std::fmt;
use std::path::PathBuf;

use clap::ValueEnum;

pub mod app_process;
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
        // Where Debian puts it, which is often not in the path.
        self.program_in(&["/usr/sbin", "/usr/local/sbin", "/usr/local/bin"])
    }

    fn program_in(self, folders: &[&str]) -> anyhow::Result<PathBuf> {
        let (name, package) = self.names();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_is_not_installed_is_named_with_the_package_that_brings_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().to_str().expect("a name in UTF-8");
        let missing = Peer::Haproxy.program_in(&[path]).expect_err("there is none");
        assert_eq!(missing.to_string(), "haproxy is not installed: apt-get install haproxy");
        let program = folder.path().join("nginx");
        std::fs::write(&program, "").expect("a file");
        assert_eq!(
            Peer::Nginx.program_in(&["/nowhere", path]).expect("there is one"),
            program
        );
    }
}

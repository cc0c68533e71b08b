//! Decides which settings below `/etc` are made for each sandbox: its name, its hosts, its name servers.

use super::inside::Inside;
use super::places::about;
use crate::blame::Why;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// What they are made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Etc<'s> {
    /// Root of the host.
    pub(crate) host: &'s Path,
    pub(crate) sandbox: &'s str,
    pub(crate) address: IpAddr,
}

impl Etc<'_> {
    /// Writes them into a folder that is there.
    pub(super) fn write(&self, to: &Path) -> io::Result<()> {
        for (name, text) in self.files() {
            fs::write(to.join(name), text)?;
        }
        Ok(())
    }

    /// Writes them in place of whatever a root has there: docker puts its own over links as well.
    pub(super) fn write_inside(&self, inside: &Inside) -> Result<(), Why> {
        for (name, text) in self.files() {
            let written = inside.write(Path::new("/etc"), name, &text);
            written.map_err(|error| about(&format!("its /etc/{name}"), &error))?;
        }
        Ok(())
    }

    fn files(&self) -> [(&'static str, String); 3] {
        let Self { sandbox, address, .. } = self;
        [
            ("hostname", format!("{sandbox}\n")),
            (
                "hosts",
                format!("127.0.0.1 localhost\n::1 localhost\n{address} {sandbox}\n"),
            ),
            ("resolv.conf", resolvers(self.host)),
        ]
    }
}

/// Name servers that a sandbox can reach: one on the host's loopback is not among them, those behind it are.
///
/// `host` is its root.
pub(crate) fn resolvers(host: &Path) -> String {
    let (etc, resolved) = (host.join("etc"), host.join("run/systemd/resolve"));
    let read = |path: PathBuf| fs::read_to_string(path).unwrap_or_default();
    let usable = reachable_resolvers(&read(etc.join("resolv.conf")));
    if usable.contains("nameserver") {
        return usable;
    }
    reachable_resolvers(&read(resolved.join("resolv.conf")))
}

fn reachable_resolvers(text: &str) -> String {
    let is_loopback = |line: &str| {
        let server = line
            .strip_prefix("nameserver")
            .and_then(|rest| rest.trim().parse::<IpAddr>().ok());
        server.is_some_and(|server| server.is_loopback())
    };
    let lines = text.lines().map(str::trim);
    let kept = lines.filter(|line| !line.is_empty() && !line.starts_with(['#', ';']) && !is_loopback(line));
    kept.flat_map(|line| [line, "\n"]).collect()
}

//! Decides where the cgroups of a node are, what they say about a sandbox, and how everything in one is ended.

use crate::process::Process;
use crate::signal_number::SignalNumber;
use miren_fault::Point;
use nix::sys::signal::Signal;
use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

#[cfg(test)]
mod tests;
mod writers;

pub(crate) use writers::{WriterLimits, join};

/// How often a group that is being emptied is looked at: the kernel offers no event for this in version 1.
const EMPTY_CHECK: Duration = Duration::from_millis(2);
/// Processes that are held at a time: each takes a descriptor.
const HELD: usize = 256;

/// The cgroups of one node: `/miren-<node>` in every hierarchy of either version.
#[derive(Clone, Debug)]
pub(crate) struct Cgroups {
    roots: Vec<PathBuf>,
    name: String,
}

impl Cgroups {
    /// Finds the hierarchies that are mounted.
    pub(crate) fn open(node: &str) -> io::Result<Self> {
        let roots = hierarchies(&fs::read_to_string("/proc/self/mounts")?);
        if roots.is_empty() {
            return Err(io::Error::other(
                "no cgroup file system is mounted: mount -t cgroup2 none /sys/fs/cgroup",
            ));
        }
        Ok(Self {
            roots,
            name: format!("miren-{node}"),
        })
    }

    /// What the runtime is told: a path below the root of every hierarchy.
    pub(crate) fn path(&self, sandbox: &str) -> String {
        format!("/{}/{sandbox}", self.name)
    }

    fn dirs<'c>(&'c self, sandbox: &'c str) -> impl Iterator<Item = PathBuf> + 'c {
        self.roots.iter().map(move |root| root.join(&self.name).join(sandbox))
    }

    /// Sandboxes that have a group.
    pub(crate) fn found(&self) -> io::Result<BTreeSet<String>> {
        let mut found = BTreeSet::new();
        for root in &self.roots {
            let dir = root.join(&self.name);
            let names = crate::files::names_in(&dir)?;
            found.extend(names.into_iter().filter(|name| dir.join(name).is_dir()));
        }
        Ok(found)
    }

    /// Processes in the group, as the host sees them.
    fn pids(&self, sandbox: &str) -> io::Result<BTreeSet<u32>> {
        let mut pids = BTreeSet::new();
        for dir in self.dirs(sandbox) {
            match fs::read_to_string(dir.join("cgroup.procs")) {
                Ok(text) => pids.extend(
                    text.lines()
                        .filter_map(|line| line.parse::<u32>().ok())
                        .filter(|pid| *pid > 0),
                ),
                Err(error) if is_gone(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(pids)
    }

    /// SIGKILL to everything in the group until it is empty.
    ///
    /// # Errors
    /// When something in it is still there at the end of `limit`.
    pub(crate) async fn kill(&self, sandbox: &str, limit: Duration) -> io::Result<()> {
        miren_fault::at(Point::CleanKill).await?;
        let deadline = Instant::now() + limit;
        loop {
            let pids = self.pids(sandbox)?;
            if pids.is_empty() {
                return Ok(());
            }
            self.kill_whole(sandbox)?;
            self.send(sandbox, &pids, Signal::SIGKILL.into())?;
            if Instant::now() > deadline {
                return Err(io::Error::other(format!(
                    "processes {pids:?} do not end although killed"
                )));
            }
            tokio::time::sleep(EMPTY_CHECK).await;
        }
    }

    /// Sends a signal to everything in the group but one process; false if there is nothing else in it.
    pub(crate) fn signal_others(&self, sandbox: &str, signal: SignalNumber, but: u32) -> io::Result<bool> {
        let mut pids = self.pids(sandbox)?;
        pids.remove(&but);
        self.send(sandbox, &pids, signal)?;
        Ok(!pids.is_empty())
    }

    /// Has the kernel kill the group, where it can: version 2, since 5.14.
    fn kill_whole(&self, sandbox: &str) -> io::Result<()> {
        for dir in self.dirs(sandbox) {
            // Not made if it is not there.
            let file = fs::File::options().write(true).open(dir.join("cgroup.kill"));
            match file.and_then(|mut file| file.write_all(b"1")) {
                Err(error) if !is_gone(&error) => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Sends a signal to processes that were in the group. A number may have become another process's meanwhile: each is held
    /// first, and only what is in the group then is sent anything.
    fn send(&self, sandbox: &str, pids: &BTreeSet<u32>, signal: SignalNumber) -> io::Result<()> {
        let pids: Vec<u32> = pids.iter().copied().collect();
        for some in pids.chunks(HELD) {
            let held: io::Result<Vec<_>> = some.iter().map(|pid| Process::open_if_there(*pid)).collect();
            let (held, members) = (held?, self.pids(sandbox)?);
            for process in held.iter().flatten().filter(|process| members.contains(&process.pid())) {
                process.signal(signal)?;
            }
        }
        Ok(())
    }

    /// How many processes of the sandbox the kernel killed because its memory limit was reached.
    pub(crate) fn out_of_memory_kills(&self, sandbox: &str) -> u64 {
        let files = ["memory.oom_control", "memory.events"];
        self.dirs(sandbox)
            .flat_map(|dir| files.map(|file| dir.join(file)))
            .filter_map(|file| fs::read_to_string(file).ok())
            .filter_map(|text| field(&text, "oom_kill"))
            .max()
            .unwrap_or(0)
    }

    /// Processor time that the processes of the sandbox have used, nanoseconds.
    pub(crate) fn cpu_used(&self, sandbox: &str) -> Option<u64> {
        let used = self.dirs(sandbox).filter_map(|dir| {
            let version_1 = || fs::read_to_string(dir.join("cpuacct.usage")).ok()?.trim().parse().ok();
            let version_2 = || Some(field(&fs::read_to_string(dir.join("cpu.stat")).ok()?, "usage_usec")? * 1_000);
            version_1().or_else(version_2)
        });
        used.max()
    }

    /// Removes the empty groups of a sandbox.
    pub(crate) fn remove(&self, sandbox: &str) -> io::Result<()> {
        self.dirs(sandbox).try_for_each(|dir| remove_group(&dir))
    }

    /// Removes the groups of something whose processes have been told to end; kills what is still there after `limit`.
    pub(crate) async fn remove_emptied(&self, name: &str, limit: Duration) -> io::Result<()> {
        miren_fault::at(Point::CleanWriter).await?;
        let deadline = Instant::now() + limit;
        // A process leaves its groups only after everything that others wait for.
        while let Err(error) = self.remove(name) {
            if Instant::now() > deadline {
                self.kill(name, limit).await?;
                return self.remove(name).map_err(|_| error);
            }
            tokio::time::sleep(EMPTY_CHECK).await;
        }
        Ok(())
    }

    /// Removes the node's own groups once no sandbox has one.
    pub(crate) fn remove_node(&self) -> io::Result<()> {
        self.roots
            .iter()
            .try_for_each(|root| remove_group(&root.join(&self.name)))
    }
}

/// Where cgroup file systems are mounted, read from the text of `/proc/self/mounts`.
fn hierarchies(mounts: &str) -> Vec<PathBuf> {
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let points = fields.filter_map(|fields| match fields[..] {
        [_, point, "cgroup" | "cgroup2", ..] => Some(PathBuf::from(point)),
        _ => None,
    });
    points.collect()
}

fn remove_group(dir: &Path) -> io::Result<()> {
    match fs::remove_dir(dir) {
        Err(error) if !is_gone(&error) => Err(io::Error::new(
            error.kind(),
            format!("removing {}: {error}", dir.display()),
        )),
        _ => Ok(()),
    }
}

/// ENODEV: a group that was removed while one of its files was open.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ENODEV)
}

fn field(text: &str, name: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    line.trim().parse().ok()
}

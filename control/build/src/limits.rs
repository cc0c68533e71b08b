//! Decides what all processes of a build together may use, and that the kernel really holds them to it.
//!
//! The groups belong to the host's root, and no builder sees the file system that they are set in.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Shares of the processor next to the 1024 of anything else: a build takes what is left over.
const CPU_SHARES: u64 = 128;
/// The same in version 2, next to 100.
const CPU_WEIGHT: u64 = 12;

/// Bounds of one build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Bytes.
    pub(crate) memory: u64,
    /// Processes and threads.
    pub(crate) processes: u64,
}

/// A file of a group that holds a bound.
struct Bound {
    of: &'static str,
    file: &'static str,
    value: u64,
    /// Whether a kernel may come without it.
    optional: bool,
}

impl Limits {
    fn bounds(self) -> [Bound; 8] {
        let bound = |of, file, value| Bound {
            of,
            file,
            value,
            optional: false,
        };
        let optional = |of, file, value| Bound {
            optional: true,
            ..bound(of, file, value)
        };
        [
            bound("memory", "memory.limit_in_bytes", self.memory),
            // Above the one before, or the same: so it comes second.
            optional("swap", "memory.memsw.limit_in_bytes", self.memory),
            bound("memory", "memory.max", self.memory),
            optional("swap", "memory.swap.max", 0),
            bound("processes", "pids.max", self.processes),
            bound("processor", "cpu.shares", CPU_SHARES),
            bound("processor", "cpu.weight", CPU_WEIGHT),
            optional("memory", "memory.oom.group", 1),
        ]
    }
}

/// Makes the group `path`, which is below the root of every hierarchy, and says where it is in each that can be joined.
///
/// # Errors
/// When one of the bounds is held by no hierarchy.
pub(crate) fn hold(path: &str, limits: Limits) -> io::Result<Vec<PathBuf>> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let mut groups = Vec::new();
    let mut held = Vec::new();
    for (root, is_v2) in hierarchies(&mounts) {
        let group = root.join(path.trim_start_matches('/'));
        fs::create_dir_all(&group).map_err(|error| said("making", &group, &error))?;
        if is_v2 {
            pass_on(&root, &group);
        }
        for bound in limits.bounds().iter().filter(|bound| group.join(bound.file).exists()) {
            set(&group.join(bound.file), bound)?;
            held.push(bound.of);
        }
        // A new group has no processors or memory in this one, and nothing can join it.
        if is_v2 || !group.join("cpuset.cpus").exists() {
            groups.push(group);
        }
    }
    match ["memory", "processes", "processor"]
        .iter()
        .find(|of| !held.contains(of))
    {
        None => Ok(groups),
        Some(of) => Err(io::Error::other(format!(
            "no control group limits the {of} of a build; have the kernel's controllers for memory, pids and cpu mounted"
        ))),
    }
}

/// Whether the kernel has killed something in one of the groups because it needed too much memory.
pub(crate) fn is_out_of_memory(groups: &[PathBuf]) -> bool {
    let files = groups
        .iter()
        .flat_map(|group| ["memory.oom_control", "memory.events"].map(|file| group.join(file)));
    let mut texts = files.filter_map(|file| fs::read_to_string(file).ok());
    texts.any(|text| {
        text.lines()
            .any(|line| line.starts_with("oom_kill ") && line != "oom_kill 0")
    })
}

/// Hands the controllers down from the root to the parent of the group. Those that are not there are found missing later.
fn pass_on(root: &Path, group: &Path) {
    let mut parents: Vec<&Path> = group
        .ancestors()
        .skip(1)
        .take_while(|parent| parent.starts_with(root))
        .collect();
    parents.reverse();
    for parent in parents {
        for controller in ["+memory", "+pids", "+cpu"] {
            let _ = fs::write(parent.join("cgroup.subtree_control"), controller);
        }
    }
}

/// Sets it and looks whether it is held: a kernel may round it down to whole pages, but not up.
fn set(file: &Path, bound: &Bound) -> io::Result<()> {
    match fs::write(file, bound.value.to_string()) {
        Err(_) if bound.optional => return Ok(()),
        set => set.map_err(|error| said("setting", file, &error))?,
    }
    let read = fs::read_to_string(file).map_err(|error| said("reading", file, &error))?;
    match read.trim().parse::<u64>() {
        Ok(value) if value <= bound.value => Ok(()),
        _ => Err(said(
            "setting",
            file,
            &format!("it says {:?} and not {}", read.trim(), bound.value),
        )),
    }
}

fn said(doing: &str, path: &Path, why: &dyn std::fmt::Display) -> io::Error {
    io::Error::other(format!("{doing} {}: {why}", path.display()))
}

/// Where cgroup file systems are mounted, and which are of version 2; read from the text of `/proc/self/mounts`.
fn hierarchies(mounts: &str) -> Vec<(PathBuf, bool)> {
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let found = fields.filter_map(|fields| match fields[..] {
        [_, point, kind @ ("cgroup" | "cgroup2"), ..] => Some((PathBuf::from(point), kind == "cgroup2")),
        _ => None,
    });
    found.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_of_both_versions_are_told_apart() {
        let mounts = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\ncgroup /sys/fs/cgroup/pids cgroup rw,pids 0 0\n\
                      cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        let (pids, unified) = ("/sys/fs/cgroup/pids".into(), "/sys/fs/cgroup/unified".into());
        assert_eq!(hierarchies(mounts), [(pids, false), (unified, true)]);
    }

    #[test]
    fn f1_a_bound_that_the_kernel_does_not_hold_is_an_error() {
        let folder = tempfile::tempdir().expect("a folder");
        let bound = |optional| Bound {
            of: "processes",
            file: "pids.max",
            value: 10,
            optional,
        };
        let plain = folder.path().join("pids.max");
        set(&plain, &bound(false)).expect("it is held");
        let deaf = Path::new("/dev/null");
        let error = set(deaf, &bound(false)).expect_err("it is not held").to_string();
        assert_eq!(error, "setting /dev/null: it says \"\" and not 10");
        let absent = folder.path().join("none/pids.max");
        set(&absent, &bound(true)).expect("nobody needs it");
        set(&absent, &bound(false)).expect_err("it cannot be set");
    }
}

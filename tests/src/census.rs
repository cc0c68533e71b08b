//! Counts what exists once per sandbox while a node runs: more of it than sandboxes means that the dead were not buried.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::leftovers::{Marks, cgroup_roots, mounts_below};
use crate::process;

/// How many of each kind there are now; `run` is the node's folder of run files, `program` the app's process.
pub fn count(marks: &Marks, run: &Path, program: &str) -> BTreeMap<&'static str, usize> {
    BTreeMap::from([
        ("network namespaces", mounts_below(&run.join("netns"))),
        ("other mounts", mounts_below(&run.join("sandboxes"))),
        ("sandbox folders", entries(&run.join("sandboxes"))),
        ("ports of the bridge", bridge_ports(marks)),
        ("cgroups", cgroups(marks, false)),
        ("cgroups of log writers", cgroups(marks, true)),
        ("app processes", processes(marks, program)),
    ])
}

fn entries(folder: &Path) -> usize {
    fs::read_dir(folder).map_or(0, Iterator::count)
}

fn bridge_ports(marks: &Marks) -> usize {
    let devices = fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
    let ours = devices.filter(|device| device.file_name().to_string_lossy().contains(&marks.name));
    ours.map(|device| entries(&device.path().join("brif"))).sum()
}

/// Cgroups one below the node's own, or below that of its log writers, in the hierarchy that has most.
fn cgroups(marks: &Marks, of_writers: bool) -> usize {
    let folders = |at: &Path| {
        let entries = fs::read_dir(at).into_iter().flatten().flatten();
        entries
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .map(|entry| entry.path())
            .collect::<Vec<_>>()
    };
    let below = |root: &Path| {
        let two_deep = folders(root)
            .into_iter()
            .flat_map(|folder| [vec![folder.clone()], folders(&folder)].concat());
        let ours = two_deep.filter(|folder| {
            folder.file_name().is_some_and(|name| {
                let name = name.to_string_lossy();
                name.contains(&marks.name) && name.ends_with(".logs") == of_writers
            })
        });
        ours.map(|folder| folders(&folder).len()).sum()
    };
    cgroup_roots().iter().map(|root| below(root)).max().unwrap_or_default()
}

fn processes(marks: &Marks, program: &str) -> usize {
    let read = |pid: u32, file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let ours = |pid: &u32| {
        process::is_alive(*pid) && read(*pid, "comm").trim() == program && read(*pid, "cgroup").contains(&marks.name)
    };
    process::all().into_iter().filter(ours).count()
}

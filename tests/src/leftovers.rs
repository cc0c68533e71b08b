//! What a node has left on the machine: everything that carries its name or its folder, found without asking the node.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::Signal;

use crate::process;

/// One thing that should be gone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Leftover {
    Process {
        pid: u32,
        command: String,
    },
    Mount(PathBuf),
    /// A block device of a file in the node's folder.
    Loop {
        device: PathBuf,
        file: String,
    },
    Device(String),
    /// A route to the node's subnet, as `ip route` names its destination.
    Route(String),
    Table(String),
    Pin(PathBuf),
    Cgroup(PathBuf),
}

impl fmt::Display for Leftover {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process { pid, command } => write!(out, "process {pid} ({command})"),
            Self::Mount(at) => write!(out, "mount at {}", at.display()),
            Self::Loop { device, file } => write!(out, "{} of {file}", device.display()),
            Self::Device(name) => write!(out, "network device {name}"),
            Self::Route(subnet) => write!(out, "route to {subnet}"),
            Self::Table(table) => write!(out, "nftables table {table}"),
            Self::Pin(path) => write!(out, "pin {}", path.display()),
            Self::Cgroup(path) => write!(out, "cgroup {}", path.display()),
        }
    }
}

/// What marks the things of one node: its name, which is unlike any other word on the machine, and its folder.
#[derive(Clone, Debug)]
pub struct Marks {
    pub name: String,
    pub folder: PathBuf,
    /// Beginning of the names of its veths, which are too short for the node's own.
    veths: String,
}

impl Marks {
    pub fn new(name: &str, folder: &Path) -> Self {
        // FNV-1a, as the daemon does it. A test on a running node fails should the two ever differ.
        let hash = name.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
            (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
        });
        Self {
            name: name.to_owned(),
            folder: folder.to_owned(),
            veths: format!("mv{hash:08x}"),
        }
    }

    /// Whether a path or a text belongs to the node.
    fn are_in(&self, text: &str) -> bool {
        text.contains(&self.name) || text.contains(&*self.folder.to_string_lossy()) || text.starts_with(&self.veths)
    }
}

/// Everything that is there now.
pub fn find(marks: &Marks) -> BTreeSet<Leftover> {
    let mut found = BTreeSet::new();
    found.extend(processes(marks));
    found.extend(mounts(marks));
    found.extend(loops(marks));
    found.extend(devices(marks));
    found.extend(routes(marks));
    found.extend(tables(marks));
    found.extend(marked_below(marks, &mount_points("bpf")).map(Leftover::Pin));
    found.extend(marked_below(marks, &cgroup_roots()).map(Leftover::Cgroup));
    found
}

/// The list as lines of text.
pub fn describe(found: &BTreeSet<Leftover>) -> String {
    found.iter().map(|leftover| format!("  {leftover}\n")).collect()
}

/// A process belongs to the node when its cgroup, its command line or a mount it sees says so; a network namespace
/// without a name lives only as long as a process or a mount, which are found here.
fn processes(marks: &Marks) -> Vec<Leftover> {
    let me = std::process::id();
    let ours = |pid: &u32| {
        let read = |file: &str| fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let texts = [read("cgroup"), read("cmdline")];
        *pid != me && process::is_alive(*pid) && texts.iter().any(|text| marks.are_in(&String::from_utf8_lossy(text)))
    };
    let command = |pid: u32| {
        fs::read_to_string(format!("/proc/{pid}/comm"))
            .unwrap_or_default()
            .trim()
            .to_owned()
    };
    process::all()
        .into_iter()
        .filter(ours)
        .map(|pid| Leftover::Process {
            pid,
            command: command(pid),
        })
        .collect()
}

/// Mount points of this process's mount namespace, from `/proc/self/mountinfo`: (mount point, file system).
fn mount_table() -> Vec<(PathBuf, String)> {
    let text = fs::read_to_string("/proc/self/mountinfo").expect("reading the mount table");
    let parse = |line: &str| {
        let (fields, rest) = line.split_once(" - ")?;
        Some((fields.split(' ').nth(4)?.into(), rest.split(' ').next()?.to_owned()))
    };
    text.lines().filter_map(parse).collect()
}

fn mount_points(file_system: &str) -> Vec<PathBuf> {
    mount_table()
        .into_iter()
        .filter(|(_, kind)| kind == file_system)
        .map(|(at, _)| at)
        .collect()
}

/// How many mount points are below a folder.
pub(crate) fn mounts_below(folder: &Path) -> usize {
    mount_table()
        .into_iter()
        .filter(|(at, _)| at.starts_with(folder) && at != folder)
        .count()
}

fn mounts(marks: &Marks) -> Vec<Leftover> {
    let table = mount_table().into_iter();
    table
        .filter(|(at, _)| marks.are_in(&at.to_string_lossy()))
        .map(|(at, _)| Leftover::Mount(at))
        .collect()
}

fn loops(marks: &Marks) -> Vec<Leftover> {
    let blocks = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let of_node = |block: fs::DirEntry| {
        let file = fs::read_to_string(block.path().join("loop/backing_file")).ok()?;
        let device = Path::new("/dev").join(block.file_name());
        let file = file.trim().to_owned();
        marks.are_in(&file).then_some(Leftover::Loop { device, file })
    };
    blocks.filter_map(of_node).collect()
}

/// Where cgroup file systems are mounted: the unified one first.
pub(crate) fn cgroup_roots() -> Vec<PathBuf> {
    mount_points("cgroup2")
        .into_iter()
        .chain(mount_points("cgroup"))
        .collect()
}

fn devices(marks: &Marks) -> Vec<Leftover> {
    let entries = fs::read_dir("/sys/class/net").expect("listing network devices");
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter(|name| marks.are_in(name)).map(Leftover::Device).collect()
}

/// The node's backstop route. It carries no name: the subnet stands in the settings of the node.
fn routes(marks: &Marks) -> Option<Leftover> {
    let settings = fs::read_to_string(marks.folder.join("control.toml")).ok()?;
    let subnet = settings
        .lines()
        .find_map(|line| line.strip_prefix("subnet = \"")?.strip_suffix('"'))?;
    let output = Command::new("ip")
        .args(["route", "show", "type", "unreachable", subnet])
        .output()
        .ok()?;
    (!output.stdout.is_empty()).then(|| Leftover::Route(subnet.to_owned()))
}

fn tables(marks: &Marks) -> Vec<Leftover> {
    let Ok(output) = Command::new("nft").args(["list", "tables"]).output() else {
        return Vec::new();
    };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let tables = text.lines().filter_map(|line| line.strip_prefix("table "));
    tables
        .filter(|table| marks.are_in(table))
        .map(|table| Leftover::Table(table.to_owned()))
        .collect()
}

/// The topmost folders and files below `roots` whose own names carry the mark.
fn marked_below(marks: &Marks, roots: &[PathBuf]) -> impl Iterator<Item = PathBuf> + use<> {
    let mut found = Vec::new();
    for root in roots {
        walk(root, &mut |path| {
            let marked = path
                .file_name()
                .is_some_and(|name| marks.are_in(&name.to_string_lossy()));
            if marked {
                found.push(path.to_owned());
            }
            !marked
        });
    }
    found.into_iter()
}

/// Visits what is below `folder`; goes into folders for which `visit` says true.
fn walk(folder: &Path, visit: &mut impl FnMut(&Path) -> bool) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if visit(&entry.path()) && is_folder {
            walk(&entry.path(), visit);
        }
    }
}

/// Removes by force what a failed test has left, so that it does not stand in the way of the next one.
pub fn remove(found: &BTreeSet<Leftover>) {
    // Processes first: they hold the rest. The order of the enum's variants is the order of removal.
    for leftover in found {
        match leftover {
            Leftover::Process { pid, .. } => process::signal(*pid, Signal::SIGKILL),
            Leftover::Mount(at) => run("umount", &["-l", &at.to_string_lossy()]),
            Leftover::Loop { device, .. } => run("losetup", &["-d", &device.to_string_lossy()]),
            Leftover::Device(name) => run("ip", &["link", "delete", name]),
            Leftover::Route(subnet) => run("ip", &["route", "delete", "unreachable", subnet]),
            Leftover::Table(table) => run("nft", &format!("delete table {table}").split(' ').collect::<Vec<_>>()),
            Leftover::Pin(path) => remove_pins(path),
            Leftover::Cgroup(path) => remove_cgroup(path),
        }
    }
}

fn remove_pins(path: &Path) {
    if fs::remove_dir_all(path).is_err() {
        fs::remove_file(path).unwrap_or_else(|error| eprintln!("removing {}: {error}", path.display()));
    }
}

/// A cgroup goes once those below it have gone; its files are not removed.
fn remove_cgroup(path: &Path) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_cgroup(&entry.path());
        }
    }
    // The kernel lets go of a cgroup a moment after its last process; what stays is reported by the next look.
    fs::remove_dir(path).unwrap_or_else(|error| eprintln!("removing {}: {error}", path.display()));
}

fn run(program: &str, arguments: &[&str]) {
    match Command::new(program).args(arguments).output() {
        Ok(output) if output.status.success() => {}
        Ok(output) => eprintln!(
            "{program} {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        ),
        Err(error) => eprintln!("{program} {arguments:?}: {error}"),
    }
}

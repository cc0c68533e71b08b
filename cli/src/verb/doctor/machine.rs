//! What of the machine can be seen without changing it.

use super::bpf;
use super::ports::{self, Holder};
use super::settings::Settings;
use nix::sys::statvfs::statvfs;
use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// Where programs are looked for after the place that the settings name.
const PLACES: [&str; 6] = [
    "/usr/local/bin",
    "/usr/local/sbin",
    "/usr/bin",
    "/usr/sbin",
    "/bin",
    "/sbin",
];
/// Programs that build images, and the sockets of the daemons that they need.
const BUILDERS: [(&str, &[&str]); 3] = [
    ("buildctl", &["/run/buildkit/buildkitd.sock"]),
    ("buildah", &[]),
    ("docker", &["/run/docker.sock", "/var/run/docker.sock"]),
];

/// What was seen.
#[derive(Clone, Debug)]
pub struct Machine {
    pub is_root: bool,
    /// As `uname -r` prints it.
    pub kernel: String,
    pub bpf: Bpf,
    /// `fast_path.mode`.
    pub fast_path: String,
    pub cgroups: Cgroups,
    pub ports: Vec<(SocketAddr, Option<Holder>)>,
    pub disk: Result<Disk, String>,
    /// Entries and the most of them; none where connections are not tracked.
    pub tracking: Option<(u64, u64)>,
    pub clock: Clock,
    pub containerd: Containerd,
    pub builders: Vec<Builder>,
}

#[derive(Clone, Debug)]
pub struct Bpf {
    /// Whether `/sys/fs/bpf` is one of its file systems.
    pub has_folder: bool,
    /// Whether the kernel describes its types (BTF).
    pub has_types: bool,
    /// Why it takes no program.
    pub refused: Option<String>,
}

/// Controllers that the hierarchies of either version have.
#[derive(Clone, Debug, Default)]
pub struct Cgroups {
    pub version1: BTreeSet<String>,
    /// None where none is mounted.
    pub version2: Option<BTreeSet<String>>,
}

/// Of the file system with the data folder.
#[derive(Clone, Debug)]
pub struct Disk {
    pub folder: PathBuf,
    pub free_bytes: u64,
    pub all_bytes: u64,
    pub free_files: u64,
    /// 0 where files are not counted.
    pub all_files: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Clock {
    Synchronised,
    Alone,
    Unknown(String),
}

#[derive(Clone, Debug)]
pub struct Containerd {
    /// Sandboxes are made by it.
    pub is_needed: bool,
    pub socket: PathBuf,
    /// Whether somebody listens there; none where there is no socket.
    pub answers: Option<Result<(), String>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Builder {
    pub name: &'static str,
    /// Its daemon can be reached, or it needs none.
    pub is_ready: bool,
}

pub fn look(settings: &Settings) -> Machine {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let mounts = read("/proc/self/mounts");
    Machine {
        is_root: nix::unistd::geteuid().is_root(),
        kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        bpf: Bpf {
            has_folder: mounted(&mounts, "bpf").any(|(point, _)| point == "/sys/fs/bpf"),
            has_types: Path::new("/sys/kernel/btf/vmlinux").exists(),
            refused: bpf::load().err().map(|error| error.to_string()),
        },
        fast_path: settings.fast_path.clone(),
        cgroups: cgroups(&mounts),
        ports: ports::look(&settings.listen),
        disk: disk(&settings.data_dir),
        tracking: tracking(),
        clock: clock(),
        containerd: containerd(settings),
        builders: builders(settings.build_programs.as_deref()),
    }
}

/// Mount points of one type, each with its options.
fn mounted<'m>(mounts: &'m str, kind: &str) -> impl Iterator<Item = (&'m str, &'m str)> {
    mounts.lines().filter_map(move |line| {
        let mut fields = line.split(' ').skip(1);
        let (point, found, options) = (fields.next()?, fields.next()?, fields.next()?);
        (found == kind).then_some((point, options))
    })
}

fn cgroups(mounts: &str) -> Cgroups {
    let words = |text: String| text.split_whitespace().map(str::to_owned).collect();
    let controllers =
        |(point, _): (&str, &str)| fs::read_to_string(Path::new(point).join("cgroup.controllers")).map(words);
    let version1 = mounted(mounts, "cgroup").flat_map(|(_, options)| options.split(','));
    Cgroups {
        version1: version1.map(str::to_owned).collect(),
        version2: mounted(mounts, "cgroup2").find_map(|mount| controllers(mount).ok()),
    }
}

/// Of the folder, or of the nearest one above it that is there already.
fn disk(folder: &Path) -> Result<Disk, String> {
    let there = folder.ancestors().find(|folder| folder.exists()).unwrap_or(folder);
    let found = statvfs(there).map_err(|error| format!("{}: {error}", there.display()))?;
    let blocks = |count: u64| count.saturating_mul(found.fragment_size());
    Ok(Disk {
        folder: folder.to_owned(),
        free_bytes: blocks(found.blocks_available()),
        all_bytes: blocks(found.blocks()),
        free_files: found.files_available(),
        all_files: found.files(),
    })
}

fn tracking() -> Option<(u64, u64)> {
    let number = |name: &str| {
        let path = format!("/proc/sys/net/netfilter/nf_conntrack_{name}");
        fs::read_to_string(path).ok()?.trim().parse().ok()
    };
    Some((number("count")?, number("max")?))
}

fn clock() -> Clock {
    // SAFETY: all of it are numbers, and all zeros ask for nothing to be changed.
    let mut told: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel fills in a structure of its own layout that outlives the call.
    match unsafe { libc::adjtimex(&mut told) } {
        -1 => Clock::Unknown(std::io::Error::last_os_error().to_string()),
        _ if told.status & libc::STA_UNSYNC != 0 => Clock::Alone,
        _ => Clock::Synchronised,
    }
}

fn containerd(settings: &Settings) -> Containerd {
    let usual = || PathBuf::from("/run/containerd/containerd.sock");
    let socket = settings.containerd.clone().unwrap_or_else(usual);
    let connected = || {
        UnixStream::connect(&socket)
            .map(drop)
            .map_err(|error| error.to_string())
    };
    Containerd {
        is_needed: settings.containerd.is_some(),
        answers: socket.exists().then(connected),
        socket,
    }
}

fn builders(first: Option<&Path>) -> Vec<Builder> {
    let places: Vec<&Path> = first.into_iter().chain(PLACES.iter().map(Path::new)).collect();
    let is_there = |name: &str| places.iter().any(|place| place.join(name).is_file());
    let listens = |socket: &&str| UnixStream::connect(socket).is_ok();
    let found = BUILDERS.iter().filter(|(name, _)| is_there(name));
    found
        .map(|(name, sockets)| Builder {
            name,
            is_ready: sockets.is_empty() || sockets.iter().any(listens),
        })
        .collect()
}

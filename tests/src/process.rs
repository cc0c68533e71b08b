//! Processes by number: whether they live, what they use, and their end.

use std::fs;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::sys::socket::sockopt::PeerCredentials;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, getsockopt, socket};
use nix::unistd::Pid;

use crate::leftovers::cgroup_roots;
use crate::wait::wait_until;

/// Whether a process of that number runs; one that only waits to be reaped does not. Its first thread may have ended before the
/// others, which have its files and locks until they do.
pub fn is_alive(pid: u32) -> bool {
    let threads = || fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
    stat(pid).is_some_and(|stat| !matches!(stat.state, 'Z' | 'X') || threads() > 1)
}

/// Sends a signal; a process that is gone already is fine.
pub fn signal(pid: u32, signal: Signal) {
    if let Err(error) = kill(as_pid(pid), signal)
        && error != nix::errno::Errno::ESRCH
    {
        panic!("sending {signal} to {pid}: {error}");
    }
}

/// `kill -9`, and waits until it is gone.
#[track_caller]
pub fn kill_and_wait(pid: u32) {
    signal(pid, Signal::SIGKILL);
    wait_until(&format!("process {pid} to end"), Duration::from_secs(60), || {
        if is_alive(pid) { Err("it still runs") } else { Ok(()) }
    });
}

fn as_pid(pid: u32) -> Pid {
    Pid::from_raw(i32::try_from(pid).expect("process numbers fit"))
}

struct Stat {
    state: char,
    parent: u32,
}

/// Fields of `/proc/PID/stat`; none when there is no such process.
fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may contain anything, brackets too: the fields go on after its last one.
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    Some(Stat {
        state: fields.next()?.chars().next()?,
        parent: fields.next()?.parse().ok()?,
    })
}

/// Numbers of all processes.
pub fn all() -> Vec<u32> {
    let entries = fs::read_dir("/proc").expect("reading /proc");
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect()
}

/// The running child of `parent` whose executable is called `name`.
pub fn child(parent: u32, name: &str) -> Option<u32> {
    all().into_iter().find(|pid| {
        stat(*pid).is_some_and(|stat| stat.parent == parent && stat.state != 'Z')
            && fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|path| path.ends_with(name))
    })
}

/// Who would be asked for its listening sockets there.
#[track_caller]
pub fn listener(path: &Path) -> u32 {
    let socket = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).expect("a socket");
    let address = UnixAddr::new(path).expect("a path that fits");
    connect(socket.as_raw_fd(), &address).unwrap_or_else(|error| panic!("asking at {}: {error}", path.display()));
    let peer = getsockopt(&socket, PeerCredentials).expect("the kernel knows who listens");
    u32::try_from(peer.pid()).expect("process numbers fit")
}

/// The folders of the groups that a process is in, one in each hierarchy that is mounted.
pub fn cgroups(pid: u32) -> Vec<PathBuf> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let paths: Vec<&str> = text.lines().filter_map(|line| line.splitn(3, ':').nth(2)).collect();
    let below = |root: PathBuf| {
        let mut paths = paths.iter().map(|path| root.join(path.trim_start_matches('/')));
        // One that is in the topmost group of a hierarchy is in none.
        paths.find(|folder| *folder != root.join("") && folder.is_dir())
    };
    cgroup_roots().into_iter().filter_map(below).collect()
}

/// Who started a process, or took it over.
#[track_caller]
pub fn parent(pid: u32) -> u32 {
    stat(pid).expect("a running process has a parent").parent
}

/// Resident memory in bytes.
#[track_caller]
pub fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("reading a process's status");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .expect("a running process has a VmRSS");
    let kilobytes: u64 = line
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .expect("VmRSS is a number of kB");
    kilobytes * 1024
}

/// Pages that the kernel had to find for a process so far, without reading them from a disk.
#[track_caller]
pub fn minor_faults(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("reading a process's state");
    // Fields are counted from behind the name, which may have blanks in it; this is the tenth of all.
    let (_, rest) = stat.rsplit_once(')').expect("a name in parentheses");
    let field = rest.split_whitespace().nth(7).expect("a tenth field");
    field.parse().expect("minflt is a number")
}

/// Effective capabilities, as a set of bits.
#[track_caller]
pub fn capabilities(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("reading a process's status");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .expect("a process has a CapEff");
    u64::from_str_radix(line.trim(), 16).expect("CapEff is a hexadecimal number")
}

/// Open descriptors.
#[track_caller]
pub fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd"))
        .expect("listing a process's descriptors")
        .count()
}

/// What the descriptors are open on, as `/proc` names it.
pub fn open_files(pid: u32) -> Vec<String> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| Some(fs::read_link(entry.path()).ok()?.to_string_lossy().into_owned()))
        .collect()
}

/// Effective user.
#[track_caller]
pub fn user(pid: u32) -> u32 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("reading a process's status");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("Uid:"))
        .expect("a process has a user");
    line.split_whitespace()
        .nth(1)
        .and_then(|field| field.parse().ok())
        .expect("the effective user is the second field")
}

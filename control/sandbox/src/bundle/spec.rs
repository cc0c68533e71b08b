//! Decides everything about a sandbox that the runtime specification can say.

use super::seccomp::Masks;
use super::{Open, Program, SandboxDir, Shown, Upper, capabilities, overlay, seccomp, with_terminal};
use crate::order::Attach;
use crate::volumes::VolumeMount;
use miren_api::app_file::Resources;
use miren_api::settings::Bytes;
use miren_image::User;
use serde::Serialize;
use serde_json::{Value, json};
use std::io;
use std::iter;
use std::path::{Path, PathBuf};

/// What its files are not open to, unless it says so: what docker and containerd give, whatever control's own is.
pub(crate) const UMASK: u32 = 0o022;
/// Open files of one process: the usual hard limit of a server distribution, less if ours is lower.
const OPEN_FILES: u64 = 65_536;
/// Length of the scheduler's period, in microseconds: the kernel's default.
const CPU_PERIOD: u64 = 100_000;
/// Room in `/tmp`, `/run` and `/dev/shm`; it counts against the memory limit as well.
const TMP: &str = "size=256m";
const SMALL: &str = "size=64m";

const MASKED: [&str; 11] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/interrupts",
    "/proc/kallsyms",
];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The limits of one sandbox.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Limits {
    pub(crate) memory: Option<Bytes>,
    pub(crate) cpu: Option<f64>,
    pub(crate) pids: Option<u32>,
}

impl Limits {
    /// What the service says, else what the node says.
    pub(crate) fn of(service: Resources, node: Resources) -> Self {
        Self {
            memory: service.memory.or(node.memory),
            cpu: service.cpu.or(node.cpu),
            pids: service.pids.or(node.pids),
        }
    }
}

/// What a specification is made of.
#[derive(Debug)]
pub(crate) struct SpecInput<'s> {
    pub(crate) sandbox: &'s str,
    pub(crate) program: &'s Program,
    /// What somebody speaks with it through.
    pub(crate) attach: Option<Attach>,
    pub(crate) app_files: Option<AppFiles<'s>>,
    pub(crate) shown: Vec<Shown>,
    /// The folder of what starts the app, in its `/dev`.
    pub(crate) init: Shown,
    pub(crate) writable: Writable,
    pub(crate) open: Vec<Open>,
    pub(crate) volumes: Vec<VolumeMount>,
    pub(crate) namespace: &'s Path,
    pub(crate) cgroup: String,
    pub(crate) limits: Limits,
    pub(crate) masks: Masks,
}

/// What of the root can be written to, besides what is mounted into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Writable {
    All,
    /// `/tmp` and `/run`, each memory of its own.
    TmpAndRun,
    /// `/tmp` alone.
    Tmp,
}

/// What is shown as `/app`.
#[derive(Debug)]
pub(crate) struct AppFiles<'s> {
    pub(crate) folder: &'s Path,
    pub(crate) above: Above,
}

/// What lies over the folder of an app.
#[derive(Debug)]
pub(crate) enum Above {
    /// What is written to it is kept here.
    Upper(Upper),
    /// It is read-only; what is not in it is found here: folders that something is mounted on.
    Points(PathBuf),
    /// It is read-only.
    Nothing,
}

/// Writes the bundle's `config.json`.
pub(crate) fn write(dir: &SandboxDir, input: &SpecInput<'_>) -> io::Result<()> {
    let powers = Powers {
        capabilities: capabilities::grantable()?,
        open_files: open_files()?,
    };
    let mut spec = spec(dir, input, &powers);
    if let (Some(attach), Some(process)) = (input.attach, spec["process"].as_object_mut()) {
        with_terminal(process, attach);
    }
    crate::files::write_json(&dir.spec(), &spec)
}

/// What this process can give to another.
#[derive(Debug)]
struct Powers {
    capabilities: Vec<&'static str>,
    open_files: u64,
}

fn open_files() -> io::Result<u64> {
    let (_, hard) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE)?;
    Ok(hard.min(OPEN_FILES))
}

fn spec(dir: &SandboxDir, input: &SpecInput<'_>, powers: &Powers) -> Value {
    let program = input.program;
    json!({
        "ociVersion": "1.0.2",
        "hostname": input.sandbox,
        "root": { "path": dir.rootfs(), "readonly": input.writable != Writable::All },
        "process": {
            "terminal": false,
            "user": {
                "uid": program.user.uid, "gid": program.user.gid, "additionalGids": groups(&program.user), "umask": UMASK,
            },
            "args": program.args,
            "env": program.env.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>(),
            "cwd": program.cwd,
            "noNewPrivileges": true,
            "capabilities": granted(&powers.capabilities, program.user.uid == 0),
            "rlimits": [{ "type": "RLIMIT_NOFILE", "hard": powers.open_files, "soft": powers.open_files }],
        },
        "mounts": mounts(input),
        "linux": {
            "cgroupsPath": input.cgroup,
            "namespaces": namespaces(input.namespace),
            "resources": resources(&input.limits),
            "seccomp": seccomp::profile(input.masks),
            "maskedPaths": MASKED,
            "readonlyPaths": READ_ONLY,
        },
    })
}

/// With the user's first group among them: else it could be left, and with it what its members are refused.
fn groups(user: &User) -> Vec<u32> {
    iter::once(user.gid).chain(user.groups.iter().copied()).collect()
}

/// Who is not root in the sandbox has none of root's powers.
fn granted(capabilities: &[&str], root: bool) -> Value {
    let active = if root { capabilities } else { &[] };
    json!({ "bounding": capabilities, "effective": active, "permitted": active })
}

fn namespaces(network: &Path) -> Value {
    json!([
        { "type": "pid" }, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" }, { "type": "cgroup" },
        { "type": "network", "path": network },
    ])
}

fn mounts(input: &SpecInput<'_>) -> Vec<Value> {
    let mut mounts: Vec<Value> = input
        .shown
        .iter()
        .map(|shown| bind(&shown.host, &shown.inside))
        .collect();
    mounts.extend(input.app_files.as_ref().map(app));
    mounts.extend([
        fresh("/proc", "proc", &["nosuid", "noexec", "nodev"]),
        fresh("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", SMALL]),
        fresh(
            "/dev/pts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        fresh("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", SMALL]),
        bind(&input.init.host, &input.init.inside),
    ]);
    if input.writable != Writable::All {
        mounts.push(fresh("/tmp", "tmpfs", &["nosuid", "nodev", "mode=1777", TMP]));
    }
    if input.writable == Writable::TmpAndRun {
        mounts.push(fresh("/run", "tmpfs", &["nosuid", "nodev", "mode=755", SMALL]));
    }
    mounts.extend(input.open.iter().map(open));
    // Last: they may lie in any of these.
    mounts.extend(input.volumes.iter().map(volume));
    mounts
}

fn fresh(destination: impl Serialize, kind: &str, options: &[&str]) -> Value {
    json!({ "destination": destination, "type": kind, "source": kind, "options": options })
}

/// Submounts of the host's folder are left out: what is mounted below `/usr` was not meant for sandboxes.
fn bind(host: &Path, inside: &Path) -> Value {
    json!({ "destination": inside, "type": "bind", "source": host, "options": ["bind", "ro", "nosuid", "nodev"] })
}

/// The folder of the root itself, beside the mount that makes the root read-only.
fn open(open: &Open) -> Value {
    match &open.host {
        None => fresh(&open.inside, "tmpfs", &["nosuid", "nodev", "mode=755", SMALL]),
        Some(host) => {
            let options = ["bind", "rw", "nosuid", "nodev"];
            json!({ "destination": open.inside, "type": "bind", "source": host, "options": options })
        }
    }
}

fn volume(volume: &VolumeMount) -> Value {
    let access = if volume.read_only { "ro" } else { "rw" };
    let options = ["bind", access, "nosuid", "nodev"];
    json!({ "destination": volume.inside, "type": "bind", "source": volume.host, "options": options })
}

/// A private copy-on-write view of the app's files, or the files themselves, read-only.
fn app(files: &AppFiles<'_>) -> Value {
    let folder = files.folder;
    let options = match &files.above {
        Above::Upper(Upper { upper, work }) => {
            overlay::options(&[("lowerdir", &[folder]), ("upperdir", &[upper]), ("workdir", &[work])])
        }
        Above::Points(points) => overlay::options(&[("lowerdir", &[folder, points])]),
        Above::Nothing => None,
    };
    let Some(mut options) = options else {
        return bind(folder, Path::new("/app"));
    };
    options.extend(["nosuid".into(), "nodev".into()]);
    json!({ "destination": "/app", "type": "overlay", "source": "overlay", "options": options })
}

fn resources(limits: &Limits) -> Value {
    let mut resources = json!({ "devices": [{ "allow": false, "access": "rwm" }] });
    if let Some(Bytes(memory)) = limits.memory {
        // Swap included: a limit that swapping stretches is none.
        resources["memory"] = json!({ "limit": memory, "swap": memory });
    }
    if let Some(pids) = limits.pids {
        resources["pids"] = json!({ "limit": pids });
    }
    if let Some(cpu) = limits.cpu {
        // At least a hundredth of a core: the kernel refuses less than 1 ms.
        let quota = (cpu * CPU_PERIOD as f64).max(1000.0) as i64;
        resources["cpu"] = json!({ "quota": quota, "period": CPU_PERIOD });
    }
    resources
}

#[cfg(test)]
mod tests;

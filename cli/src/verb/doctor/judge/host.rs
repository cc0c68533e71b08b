//! What a machine has to have: a kernel with its hooks and groups, free ports, programs.

use super::{Bpf, Cgroups, Check, bad, good, optional};
use crate::verb::doctor::machine::Builder;
use crate::verb::doctor::ports::Holder;
use std::net::SocketAddr;

/// The oldest kernel that sandboxes are expected to run on.
const OLDEST: (u32, u32) = (6, 1);
/// From here on packets can be looked at by the kernel's side (docs/adr/0005-ebpf-toolchain.md).
const WITH_HOOKS: (u32, u32) = (6, 6);
/// What limits of sandboxes need.
const CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];
/// Who may have the proxy's ports.
const PROXY: &str = "miren-proxy";

pub fn kernel(release: &str) -> Check {
    let Some(version) = version(release) else {
        return bad(
            "kernel",
            format!("{release:?} is no version of Linux"),
            "run on Linux 6.1 or later",
        );
    };
    match version {
        old if old < OLDEST => bad("kernel", release, "install Linux 6.1 or later; 6.6 for the fast path"),
        old if old < WITH_HOOKS => optional(
            "kernel",
            format!("{release}; the fast path does without its packet hook"),
            "install Linux 6.6 or later",
        ),
        _ => good("kernel", release),
    }
}

/// `6.18.5-cloud-amd64`
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

pub fn bpf(seen: &Bpf, mode: &str, is_root: bool) -> Check {
    if mode == "off" {
        return good("bpf", "not used: fast_path.mode is \"off\"");
    }
    let (what, remedy) = match &seen.refused {
        Some(why) if !is_root => {
            let detail = format!("the kernel takes no programs from this user: {why}");
            return optional("bpf", detail, "run miren doctor as root, as control does");
        }
        Some(why) => (
            format!("the kernel takes no programs: {why}"),
            "give this container CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON, or run on a kernel with CONFIG_BPF_SYSCALL",
        ),
        None if !seen.has_types => (
            "the kernel does not describe its types (/sys/kernel/btf/vmlinux)".to_owned(),
            "run a kernel with CONFIG_DEBUG_INFO_BTF, as distributions ship",
        ),
        None if !seen.has_folder => ("/sys/fs/bpf is no bpffs".to_owned(), "mount -t bpf bpf /sys/fs/bpf"),
        None => return good("bpf", "programs can be loaded; types are described"),
    };
    match mode {
        "kernel" => bad("bpf", format!("{what}, and fast_path.mode is \"kernel\""), remedy),
        _ => optional("bpf", format!("{what}; the fast path is off"), remedy),
    }
}

pub fn cgroups(seen: &Cgroups) -> Check {
    let in_version2 = |name: &str| seen.version2.as_ref().is_some_and(|there| there.contains(name));
    let lacking: Vec<&str> = CONTROLLERS
        .into_iter()
        .filter(|name| !in_version2(name) && !seen.version1.contains(*name))
        .collect();
    let layout = match (
        &seen.version2,
        CONTROLLERS.iter().any(|name| seen.version1.contains(*name)),
    ) {
        (None, false) => {
            let detail = "no cgroup file system is mounted";
            return bad("cgroup", detail, "mount -t cgroup2 none /sys/fs/cgroup");
        }
        (Some(_), false) => "version 2",
        (None, true) => "version 1",
        (Some(_), true) => "versions 1 and 2 side by side",
    };
    match lacking.is_empty() {
        true => good("cgroup", format!("{layout}, with {}", CONTROLLERS.join(", "))),
        false => bad(
            "cgroup",
            format!("{layout}, without {}: limits cannot be kept", lacking.join(", ")),
            "boot with cgroup_enable=memory, or have whoever runs this container pass the controllers on",
        ),
    }
}

pub fn ports(seen: &[(SocketAddr, Option<Holder>)]) -> Check {
    let taken = |holder: &Holder| match (holder.program.as_str(), holder.pid) {
        ("", _) => "taken by a process that this user cannot see".to_owned(),
        (program, Some(pid)) => format!("taken by {program} (pid {pid})"),
        (program, None) => format!("taken by {program}"),
    };
    let told: Vec<String> = seen
        .iter()
        .map(|(address, holder)| match holder {
            None => format!("{address} free"),
            Some(holder) if holder.program == PROXY => format!("{address} served"),
            Some(holder) => format!("{address} {}", taken(holder)),
        })
        .collect();
    let detail = told.join(", ");
    let mut holders = seen.iter().filter_map(|(_, holder)| holder.as_ref());
    let is_strange = |holder: &Holder| !holder.program.is_empty() && holder.program != PROXY;
    match holders.any(is_strange) {
        true => bad(
            "ports",
            detail,
            "end what has it, or set other addresses under [listen] http of proxy.toml",
        ),
        false => good("ports", detail),
    }
}

pub fn builders(seen: &[Builder]) -> Check {
    let told = |builder: &Builder| match builder.is_ready {
        true => builder.name.to_owned(),
        false => format!("{} without its daemon", builder.name),
    };
    let detail: Vec<String> = seen.iter().map(told).collect();
    let detail = detail.join(", ");
    match seen.iter().any(|builder| builder.is_ready) {
        true => good("builder", detail),
        false => {
            let detail = if detail.is_empty() { "none".to_owned() } else { detail };
            let remedy = "apt-get install buildah, or start buildkitd or docker";
            optional(
                "builder",
                format!("{detail}; folders with a Dockerfile cannot be built"),
                remedy,
            )
        }
    }
}

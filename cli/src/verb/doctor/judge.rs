//! Decides what of what was seen is wrong, and what to do about it. Nothing is looked at here.

use super::machine::{Bpf, Cgroups, Clock, Containerd, Disk, Machine};
use super::server::{Proxy, Running};
use miren_api::settings::Bytes;
use serde::Serialize;

mod host;
#[cfg(test)]
mod tests;

/// One judgement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    pub name: &'static str,
    pub ok: bool,
    /// What was seen.
    pub detail: String,
    /// What to do; empty when there is nothing.
    pub remedy: String,
}

fn good(name: &'static str, detail: impl Into<String>) -> Check {
    Check {
        name,
        ok: true,
        detail: detail.into(),
        remedy: String::new(),
    }
}

fn bad(name: &'static str, detail: impl Into<String>, remedy: impl Into<String>) -> Check {
    Check {
        ok: false,
        remedy: remedy.into(),
        ..good(name, detail)
    }
}

/// What works without it: a remedy for those who want it, and no fault.
fn optional(name: &'static str, detail: impl Into<String>, remedy: impl Into<String>) -> Check {
    Check {
        ok: true,
        ..bad(name, detail, remedy)
    }
}

/// Every judgement of the machine.
pub fn machine(seen: &Machine) -> Vec<Check> {
    vec![
        host::kernel(&seen.kernel),
        host::bpf(&seen.bpf, &seen.fast_path, seen.is_root),
        host::cgroups(&seen.cgroups),
        host::ports(&seen.ports),
        disk(&seen.disk),
        tracking(seen.tracking),
        clock(&seen.clock),
        containerd(&seen.containerd),
        host::builders(&seen.builders),
    ]
}

/// Less than this is too little for an image and its layers beside what runs.
const LEAST_BYTES: u64 = 1 << 30;
/// Fewer files than this are left after one more app with its packages.
const LEAST_FILES: u64 = 10_000;

fn disk(disk: &Result<Disk, String>) -> Check {
    let disk = match disk {
        Ok(disk) => disk,
        Err(why) => return bad("disk", why, "set data_dir of control.toml to a folder of a disk"),
    };
    // Whole mebibytes, so that the number stays short.
    let size = |bytes: u64| Bytes(bytes & !((1 << 20) - 1));
    let detail = format!(
        "{}: {} of {} free, {}",
        disk.folder.display(),
        size(disk.free_bytes),
        size(disk.all_bytes),
        match disk.all_files {
            0 => "any number of files".to_owned(),
            all => format!("{} of {all} inodes free", disk.free_files),
        }
    );
    if disk.free_bytes < LEAST_BYTES {
        return bad("disk", detail, "make room, or put data_dir on a larger disk");
    }
    if disk.all_files > 0 && disk.free_files < LEAST_FILES {
        return bad(
            "disk",
            detail,
            "remove small files, or put data_dir on a file system with more inodes",
        );
    }
    good("disk", detail)
}

fn tracking(entries: Option<(u64, u64)>) -> Check {
    let Some((count, most)) = entries else {
        return good("conntrack", "no connections are tracked yet");
    };
    let detail = format!("{count} of {most} connections");
    // As the alert of docs/operations.md.
    match most > 0 && count.saturating_mul(5) > most.saturating_mul(4) {
        true => bad(
            "conntrack",
            detail,
            "see who has them with conntrack -L, or raise net.netfilter.nf_conntrack_max with sysctl -w",
        ),
        false => good("conntrack", detail),
    }
}

fn clock(clock: &Clock) -> Check {
    match clock {
        Clock::Synchronised => good("clock", "synchronised"),
        Clock::Alone => bad(
            "clock",
            "not synchronised: certificates, expiries and logs go by it",
            "timedatectl set-ntp true, or run chrony",
        ),
        Clock::Unknown(why) => good("clock", format!("whether it is synchronised cannot be seen: {why}")),
    }
}

fn containerd(seen: &Containerd) -> Check {
    let at = seen.socket.display();
    let remedy = "systemctl start containerd, or set runtime.kind = \"embedded\" in control.toml";
    match (&seen.answers, seen.is_needed) {
        (Some(Ok(())), true) => good("containerd", format!("listens at {at}")),
        (Some(Ok(())), false) => good(
            "containerd",
            format!("listens at {at}; the embedded runtime needs none"),
        ),
        (None, true) => bad(
            "containerd",
            format!("runtime.kind asks for it, and {at} is not there"),
            remedy,
        ),
        (Some(Err(why)), true) => bad("containerd", format!("{at} does not answer: {why}"), remedy),
        (_, false) => good("containerd", "none runs; the embedded runtime needs none"),
    }
}

/// Every judgement of the server.
pub fn server(seen: &Running) -> Vec<Check> {
    vec![control(seen), proxy(seen)]
}

fn control(seen: &Running) -> Check {
    let (own, settings) = (&seen.own, seen.settings.display());
    match &seen.control {
        Ok(version) if version == own => good("control", format!("answers, version {version}")),
        Ok(version) => bad(
            "control",
            format!("answers with version {version}, and this is {own}"),
            "miren upgrade has the programs that are in place serve",
        ),
        Err(why) => bad(
            "control",
            why,
            format!(
                "systemctl start miren-control; what is wrong with its settings says miren-control --config {settings} config check"
            ),
        ),
    }
}

fn proxy(seen: &Running) -> Check {
    let own = &seen.own;
    match &seen.proxy {
        Proxy::Runs { pid, version } => match version {
            Some(version) if version != own => bad(
                "proxy",
                format!("pid {pid} serves with version {version}, and this is {own}"),
                "miren-proxy upgrade has the program that is in place serve",
            ),
            Some(version) => good("proxy", format!("pid {pid} serves, version {version}")),
            None => good(
                "proxy",
                format!("pid {pid} serves; its version cannot be seen by this user"),
            ),
        },
        Proxy::Absent(socket) => bad(
            "proxy",
            format!("nobody serves at {}", socket.display()),
            "systemctl start miren-proxy; what is wrong with its settings says miren-proxy config check",
        ),
        Proxy::Unknown(why) => bad(
            "proxy",
            format!("where it serves cannot be told: {why}"),
            "name its settings with --proxy-config, or look at the machine alone with --machine",
        ),
    }
}

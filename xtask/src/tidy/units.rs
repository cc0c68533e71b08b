//! The units for systemd: it has to understand every line of them.

use crate::command::root;
use anyhow::{Context, Result};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

/// From the root of the repository.
pub const UNITS: &[&str] = &[
    "control/systemd/miren-control.service",
    "proxy/systemd/miren-proxy.service",
    "proxy/systemd/miren-proxy.socket",
];
/// What units of ours refer to, and what every unit does.
const OTHERS: &[&str] = &[
    "sysinit.target",
    "basic.target",
    "shutdown.target",
    "sockets.target",
    "multi-user.target",
    "network-online.target",
    "local-fs.target",
    "system.slice",
    "-.slice",
];

/// What systemd does not understand of the units.
pub fn check() -> Result<Vec<String>> {
    let machine = tempfile::tempdir().context("making a folder for the units")?;
    let folder = machine.path().join("etc/systemd/system");
    let programs = machine.path().join("usr/bin");
    fs::create_dir_all(&folder)?;
    fs::create_dir_all(&programs)?;
    for other in OTHERS {
        fs::write(folder.join(other), "[Unit]\nDescription=there\n")?;
    }
    for program in ["miren-control", "miren-proxy"] {
        let program = programs.join(program);
        fs::write(&program, "#!/bin/sh\n")?;
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    }
    let mut names = Vec::new();
    for unit in UNITS {
        let name = Path::new(unit).file_name().context("a unit without a name")?;
        fs::copy(root().join(unit), folder.join(name)).with_context(|| (*unit).to_owned())?;
        names.push(name.to_owned());
    }
    verify(machine.path(), &names)
}

fn verify(machine: &Path, names: &[std::ffi::OsString]) -> Result<Vec<String>> {
    let mut analyze = Command::new("systemd-analyze");
    analyze.args(["verify", "--root"]).arg(machine).args(names);
    let said = analyze.output().context("running systemd-analyze")?;
    let text = String::from_utf8_lossy(&said.stderr).into_owned();
    let mut found: Vec<String> = text.lines().map(str::to_owned).collect();
    if !said.status.success() && found.is_empty() {
        found.push(format!("systemd-analyze ended with {}", said.status));
    }
    Ok(found)
}

//! Who starts a daemon again when it ends: `miren dev`, systemd, or somebody else; and where the daemon's last words are then.

use super::process::{Role, parent};
use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Command;

/// How much of the end of a log is looked at.
const TAIL: u64 = 4096;
/// How many of its last lines are quoted.
const LINES: usize = 5;

/// Who keeps a daemon running.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keeper {
    /// The `miren dev` that is asked at this socket.
    Dev(PathBuf),
    /// A unit of systemd.
    Unit(String),
    /// Another parent.
    Parent(u32),
    /// Nobody that is known of.
    Nobody,
}

/// Where a daemon speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Log {
    /// A file, from this many bytes on.
    File(PathBuf, u64),
    Journal(String),
    Unknown,
}

impl Keeper {
    /// That of a running daemon. `run_dir`: where control's socket is.
    pub fn of(pid: u32, run_dir: &Path) -> Self {
        let cgroups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        let parent = parent(pid).unwrap_or(1);
        let is_dev = Role::of(parent, Path::new("")).is_some_and(|role| role.program.ends_with("miren"));
        let socket = run_dir.join("dev.sock");
        match unit(&cgroups).filter(|unit| main_pid(unit) == Some(pid)) {
            _ if is_dev && socket.exists() => Self::Dev(socket),
            Some(unit) => Self::Unit(unit.to_owned()),
            None if parent == 1 => Self::Nobody,
            None => Self::Parent(parent),
        }
    }

    /// How the daemon is started again when it has ended as it was asked to; or why that is not to be relied upon. `is_supervised`: the
    /// operator says that its parent does.
    pub fn restarts(&self, is_supervised: bool) -> Result<String, String> {
        match self {
            Self::Dev(_) => Ok("started again by miren dev".to_owned()),
            Self::Unit(unit) => unit_restarts(unit, &shown(unit, "Restart").unwrap_or_default()),
            Self::Parent(parent) if is_supervised => Ok(format!("started again by process {parent}")),
            Self::Parent(parent) => Err(format!(
                "whether its parent (process {parent}, {}) does is not known: --supervised says that it does",
                name(*parent)
            )),
            Self::Nobody => Err("it has no parent but process 1, and no unit".to_owned()),
        }
    }

    /// Where the daemon that is process `pid` speaks, and those after it.
    pub fn log(&self, pid: u32) -> Log {
        if let Self::Unit(unit) = self {
            return Log::Journal(unit.clone());
        }
        let file = fs::read_link(format!("/proc/{pid}/fd/2"))
            .ok()
            .filter(|path| path.is_file());
        file.map_or(Log::Unknown, |path| {
            let length = fs::metadata(&path).map_or(0, |facts| facts.len());
            Log::File(path, length)
        })
    }
}

impl Log {
    /// The last lines since then; empty where there are none.
    pub fn last_words(&self) -> String {
        let text = match self {
            Self::File(path, from) => since(path, *from).unwrap_or_default(),
            Self::Journal(unit) => {
                let lines = LINES.to_string();
                printed(&["journalctl", "-u", unit, "-n", &lines, "-o", "cat", "--no-pager"]).unwrap_or_default()
            }
            Self::Unknown => String::new(),
        };
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        lines[lines.len().saturating_sub(LINES)..].join("\n")
    }
}

fn since(path: &Path, from: u64) -> std::io::Result<String> {
    let mut file = fs::File::open(path)?;
    let length = file.metadata()?.len();
    // One that was begun anew is shorter.
    let from = if from <= length { from } else { 0 };
    file.seek(SeekFrom::Start(from.max(length.saturating_sub(TAIL))))?;
    let mut bytes = Vec::new();
    file.take(TAIL).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The unit that a process is in, by the lines of `/proc/PID/cgroup`: the hierarchy of systemd is the unified one, or has its name.
fn unit(cgroups: &str) -> Option<&str> {
    let path = |line: &&str| {
        let mut parts = line.splitn(3, ':').skip(1);
        matches!(parts.next(), Some("" | "name=systemd"))
    };
    let mut lines = cgroups.lines().filter(path);
    lines.find_map(|line| line.rsplit('/').next().filter(|unit| unit.ends_with(".service")))
}

fn main_pid(unit: &str) -> Option<u32> {
    shown(unit, "MainPID")?.parse().ok()
}

/// A property of a unit.
fn shown(unit: &str, property: &str) -> Option<String> {
    let said = printed(&["systemctl", "show", "--property", property, "--value", unit])?;
    Some(said.trim().to_owned())
}

/// By what its `Restart=` is: the daemon ends with 0.
fn unit_restarts(unit: &str, restart: &str) -> Result<String, String> {
    match restart {
        "always" | "on-success" => Ok(format!("started again by systemd ({unit})")),
        other => Err(format!(
            "its unit {unit} has Restart={other}, and it ends with 0: \"always\" is needed"
        )),
    }
}

fn name(pid: u32) -> String {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    name.trim().to_owned()
}

fn printed(line: &[&str]) -> Option<String> {
    let output = Command::new(line[0]).args(&line[1..]).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    output.status.success().then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_unit_is_the_last_part_of_its_cgroup() {
        for (text, found) in [
            (
                "0::/system.slice/miren-control.service\n",
                Some("miren-control.service"),
            ),
            (
                "5:cpu:/\n1:name=systemd:/system.slice/miren-proxy.service\n0::/\n",
                Some("miren-proxy.service"),
            ),
            ("0::/user.slice/user-0.slice/user@0.service/app.slice/x.scope\n", None),
            ("4:memory:/a.service\n0::/\n", None),
            ("", None),
        ] {
            assert_eq!(unit(text), found, "{text}");
        }
    }

    #[test]
    fn a_keeper_is_relied_upon_if_it_starts_what_has_ended_well() {
        for (restart, does) in [
            ("always", true),
            ("on-success", true),
            ("on-failure", false),
            ("no", false),
            ("", false),
        ] {
            assert_eq!(unit_restarts("c.service", restart).is_ok(), does, "{restart}");
        }
        for (keeper, is_supervised, does) in [
            (Keeper::Dev("/dev.sock".into()), false, true),
            (Keeper::Parent(std::process::id()), false, false),
            (Keeper::Parent(std::process::id()), true, true),
            (Keeper::Nobody, true, false),
        ] {
            assert_eq!(keeper.restarts(is_supervised).is_ok(), does, "{keeper:?}");
        }
        let refused = Keeper::Parent(std::process::id()).restarts(false).unwrap_err();
        assert!(refused.contains("--supervised"), "{refused}");
    }

    #[test]
    fn last_words_are_those_since_then_unless_the_log_was_begun_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        fs::write(&path, "before\n").unwrap();
        let log = Log::File(path.clone(), 7);
        assert_eq!(log.last_words(), "");
        let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
        write!(file, "1\n2\n\n3\n4\n5\nwhy\n").unwrap();
        assert_eq!(log.last_words(), "2\n3\n4\n5\nwhy");
        fs::write(&path, "anew\n").unwrap();
        assert_eq!(log.last_words(), "anew");
        assert_eq!(Log::Unknown.last_words(), "");
    }
}

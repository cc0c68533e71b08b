//! Which process is which, as the kernel tells it: who listens at a socket, what it was started from and with, by whom.

use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, UnixAddr, connect, getsockopt, socket, sockopt::PeerCredentials,
};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What the kernel appends to the path of a program that has been replaced.
const REPLACED: &str = " (deleted)";
/// For an answer of a daemon that lives.
const ANSWER: Duration = Duration::from_secs(2);

/// How a daemon is run: enough to know its next process by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Role {
    /// Where it is started from.
    pub program: PathBuf,
    pub arguments: Vec<String>,
    pub parent: u32,
    /// Whose it is; none where that is not known.
    #[serde(default)]
    pub user: Option<u32>,
    pub config: PathBuf,
}

/// Which file something is, whatever it is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileId {
    device: u64,
    inode: u64,
}

/// Who listens at control's socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listener {
    pub pid: u32,
    /// Whether it takes changes.
    pub is_ready: bool,
}

pub fn file_id(path: &Path) -> Option<FileId> {
    let facts = fs::metadata(path).ok()?;
    Some(FileId {
        device: facts.dev(),
        inode: facts.ino(),
    })
}

/// The program of a process, which may have no name any more.
pub fn image(pid: u32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/exe"))
}

/// Whether a process runs the file that is there now.
pub fn runs(pid: u32, program: &Path) -> bool {
    let own = file_id(&image(pid));
    own.is_some() && own == file_id(program)
}

impl Role {
    /// That of a running process. `default`: the settings it reads unless told otherwise.
    pub fn of(pid: u32, default: &Path) -> Option<Self> {
        let arguments = arguments(pid)?;
        let program = fs::read_link(image(pid)).ok()?.to_string_lossy().into_owned();
        let program = program.strip_suffix(REPLACED).unwrap_or(&program).into();
        Some(Self {
            program,
            config: settings(pid, &arguments, default),
            parent: parent(pid)?,
            user: user(pid),
            arguments,
        })
    }

    /// Whether there was a process to take all that from.
    pub fn was_running(&self) -> bool {
        !self.arguments.is_empty()
    }

    /// Every process that is run so, whatever has become of its program: also a script in its place, which its interpreter runs.
    pub fn processes(&self) -> Vec<u32> {
        all().filter(|pid| self.is_of(*pid)).collect()
    }

    /// A command line is whatever its process says: whose it is, and which file its settings are, it cannot say.
    fn is_of(&self, pid: u32) -> bool {
        let Some(found) = arguments(pid) else { return false };
        let is_script = || found.get(1..) == Some(&self.arguments[..]) && parent(pid) == Some(self.parent);
        (found == self.arguments || is_script()) && self.has_user(pid) && self.has_settings(pid, &found)
    }

    fn has_user(&self, pid: u32) -> bool {
        self.user.is_none() || user(pid) == self.user
    }

    fn has_settings(&self, pid: u32, arguments: &[String]) -> bool {
        let own = settings(pid, arguments, &self.config);
        let is_linked = || file_id(&own).is_some_and(|id| file_id(&self.config) == Some(id));
        own == self.config || is_linked()
    }
}

/// Where a process reads its settings.
fn settings(pid: u32, arguments: &[String], default: &Path) -> PathBuf {
    let folder = fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_default();
    folder.join(config(arguments).unwrap_or(default))
}

/// Who has started a process, also one of a program that makes its user another one.
fn user(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let users = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    users.split_ascii_whitespace().next()?.parse().ok()
}

/// What `--config` says.
fn config(arguments: &[String]) -> Option<&Path> {
    let at = arguments.iter().position(|argument| argument.starts_with("--config"))?;
    match arguments[at].strip_prefix("--config=") {
        Some(path) => Some(Path::new(path)),
        None => arguments.get(at + 1).map(Path::new),
    }
}

/// What a process has open that is called so.
pub fn open_file(pid: u32, name: &str) -> Option<PathBuf> {
    let files = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten();
    files
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .find(|path| path.ends_with(name))
}

fn arguments(pid: u32) -> Option<Vec<String>> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let line = line.strip_suffix(b"\0")?;
    Some(
        line.split(|byte| *byte == 0)
            .map(|argument| String::from_utf8_lossy(argument).into_owned())
            .collect(),
    )
}

pub fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may contain anything.
    let (_, behind_name) = stat.rsplit_once(')')?;
    behind_name.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// Every process of this system, and not of containers in it.
fn all() -> impl Iterator<Item = u32> {
    let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let own = namespace("self");
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(move |entry| {
        let name = entry.file_name();
        let pid = name.to_str()?.parse().ok()?;
        (namespace(name.to_str()?) == own).then_some(pid)
    })
}

/// One that is gone is what was wanted.
pub fn signal(pid: u32, signal: Signal) {
    if let Ok(pid) = i32::try_from(pid) {
        let _ = kill(Pid::from_raw(pid), signal);
    }
}

/// The control that listens there, and whether it says that it is ready.
pub fn control_at(path: &Path) -> Option<Listener> {
    let mut stream = UnixStream::connect(path).ok()?;
    let pid = peer(&stream)?;
    let mut ask = || {
        stream.set_read_timeout(Some(ANSWER))?;
        stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: control\r\nConnection: close\r\n\r\n")?;
        let mut line = [0; 12];
        stream.read_exact(&mut line)?;
        Ok::<_, std::io::Error>(line.ends_with(b" 200"))
    };
    Some(Listener {
        pid,
        is_ready: ask().unwrap_or(false),
    })
}

/// The proxy that can be asked there to make way.
pub fn proxy_at(path: &Path) -> Option<u32> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).ok()?;
    connect(socket.as_raw_fd(), &UnixAddr::new(path).ok()?).ok()?;
    peer(&socket)
}

fn peer(socket: &impl AsFd) -> Option<u32> {
    u32::try_from(getsockopt(socket, PeerCredentials).ok()?.pid()).ok()
}

/// A running process that has this program, wherever its file is now, and these settings; of one of these users.
pub fn find(program: &Path, config: &Path, default: &Path, users: &[u32]) -> Option<u32> {
    all().find(|pid| {
        let is_it = |role: Role| {
            let is_theirs = role.user.is_some_and(|user| users.contains(&user));
            is_theirs && role.program == program && role.config == config && role.is_daemon()
        };
        Role::of(*pid, default).is_some_and(is_it)
    })
}

impl Role {
    /// Whether it was started to serve, and not to answer a question.
    fn is_daemon(&self) -> bool {
        let mut own = self.arguments.iter().skip(1);
        while let Some(argument) = own.next() {
            match argument.as_str() {
                "--config" | "--until" => drop(own.next()),
                "take-over" | "--keep-log" => {}
                other if other.starts_with("--config=") => {}
                _ => return false,
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::CommandExt;
    use std::process::Command;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn settings_are_what_a_command_line_says() {
        for (line, found) in [
            ("c --config /a.toml", Some("/a.toml")),
            ("c --config=/a.toml", Some("/a.toml")),
            ("c", None),
        ] {
            assert_eq!(config(&words(line)), found.map(Path::new), "{line}");
        }
    }

    #[test]
    fn only_what_serves_is_a_daemon() {
        for (line, is_one) in [
            ("miren-proxy --config /a take-over --keep-log --until 7", true),
            ("miren-proxy --config=/a", true),
            ("miren-proxy --config /a upgrade", false),
            ("miren-proxy --config /a config check", false),
        ] {
            let role = Role {
                program: "/p".into(),
                arguments: words(line),
                parent: 1,
                user: None,
                config: "/a".into(),
            };
            assert_eq!(role.is_daemon(), is_one, "{line}");
        }
    }

    #[test]
    fn a_process_is_known_again_by_how_it_is_run_and_a_script_by_its_parent_too() {
        let own = std::process::id();
        let number = format!("6{own}");
        let mut child = Command::new("sleep").arg(&number).spawn().unwrap();
        let mut script = Command::new("sh");
        // As an interpreter is called for a script: with the line that was asked for.
        let mut script = script.arg0("sleep").args(["-c", "read x", "sleep", &number]);
        script = script.stdin(std::process::Stdio::piped());
        let mut script = script.spawn().unwrap();
        let role = |parent| Role {
            program: "/usr/bin/sleep".into(),
            arguments: vec!["sleep".into(), number.clone()],
            parent,
            user: user(own),
            config: "/c".into(),
        };
        let found = role(own).processes();
        assert_eq!(found, [child.id()], "and not whatever has other arguments");
        let shell = Role {
            arguments: vec!["-c".into(), "read x".into(), "sleep".into(), number.clone()],
            ..role(own)
        };
        assert_eq!(shell.processes(), [script.id()]);
        assert!(Role { parent: 1, ..shell }.processes().is_empty(), "another's child");
        for child in [&mut child, &mut script] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        assert!(role(own).processes().is_empty());
    }

    #[test]
    fn a_command_line_is_not_enough_to_be_known_by() {
        let own = std::process::id();
        let line = ["-c", "read x", &format!("7{own}"), "--config", "c"];
        let start = |folder: &str, user: u32| {
            let mut shell = Command::new("sh");
            shell.args(line).current_dir(folder).stdin(std::process::Stdio::piped());
            shell.uid(user).spawn().unwrap()
        };
        let user = user(own).unwrap();
        let mut all = vec![start("/", user), start("/usr", user)];
        if user == 0 {
            all.push(start("/", 65534));
        }
        let role = Role {
            program: "/bin/sh".into(),
            arguments: [&["sh"], &line[..]].concat().into_iter().map(str::to_owned).collect(),
            parent: own,
            user: Some(user),
            config: "/c".into(),
        };
        let found = role.processes();
        let unknown = Role { user: None, ..role }.processes();
        let expected: Vec<u32> = all.iter().map(std::process::Child::id).collect();
        for child in &mut all {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        assert_eq!(
            found,
            expected[..1],
            "not that of another folder, nor that of another user"
        );
        let of_all_users = [&expected[..1], &expected[2..]].concat();
        assert!(unknown.len() == of_all_users.len() && of_all_users.iter().all(|pid| unknown.contains(pid)));
    }
}

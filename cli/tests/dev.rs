//! `miren dev` as a process, with stand-ins for the two daemons: this file itself, run again under their names.

#[path = "dev/stand_in.rs"]
mod stand_in;

use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Longest wait for anything here.
const DEADLINE: Duration = Duration::from_secs(20);

/// Entry point of the stand-ins; an ordinary test run passes through.
#[test]
fn stand_in_entry() {
    stand_in::run_if_asked();
}

/// A folder with the real `miren` and the stand-ins, and room for a node's own folder.
struct Place {
    root: tempfile::TempDir,
    name: String,
}

impl Place {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let place = Self {
            root: tempfile::tempdir().unwrap(),
            name: format!(
                "c{:06x}{:02x}",
                std::process::id(),
                COUNT.fetch_add(1, Ordering::Relaxed)
            ),
        };
        fs::set_permissions(place.root.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let bin = place.root.path().join("bin");
        fs::create_dir(&bin).unwrap();
        fs::hard_link(env!("CARGO_BIN_EXE_miren"), bin.join("miren"))
            .or_else(|_| fs::copy(env!("CARGO_BIN_EXE_miren"), bin.join("miren")).map(drop))
            .unwrap();
        place.daemon("control", "");
        place.daemon("proxy", "");
        place
    }

    /// Makes a daemon: `before`, then the stand-in.
    fn daemon(&self, role: &str, before: &str) {
        let own = std::env::current_exe().unwrap();
        let script = format!(
            "#!/bin/sh\n{before}\nexport STAND_IN={role} STAND_IN_CONFIG=\"$2\"\nexec '{}' --exact stand_in_entry --nocapture\n",
            own.display()
        );
        let path = self.root.path().join(format!("bin/miren-{role}"));
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn dir(&self) -> PathBuf {
        self.root.path().join("node")
    }

    fn command(&self, name: &str, dir: &Path) -> Command {
        let mut command = Command::new(self.root.path().join("bin/miren"));
        command
            .args([
                "dev",
                "--http",
                "127.0.0.1:0",
                "--format",
                "json",
                "--name",
                name,
                "--dir",
            ])
            .arg(dir);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        command.stderr(
            fs::File::options()
                .create(true)
                .append(true)
                .open(self.root.path().join("stderr"))
                .unwrap(),
        );
        command
    }

    fn start(&self) -> Dev {
        let mut child = self.command(&self.name, &self.dir()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let ready = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error} in {line:?}: {}", self.said()));
        Dev { child, ready }
    }

    /// A start that must fail: exit code and the error.
    fn refused(&self, name: &str, dir: &Path) -> (i32, Value) {
        let output = self.command(name, dir).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let document: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text:?}"));
        (output.status.code().unwrap(), document["error"].clone())
    }

    fn said(&self) -> String {
        fs::read_to_string(self.root.path().join("stderr")).unwrap_or_default()
    }

    fn waits_for(&self, what: &str, condition: impl Fn() -> bool) {
        let began = Instant::now();
        while !condition() {
            assert!(
                began.elapsed() < DEADLINE,
                "waited for {what}; stderr so far:\n{}",
                self.said()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // A killed `miren dev` cannot remove its lock file.
        let _ = fs::remove_file(format!("/run/miren-dev-{}.lock", self.name));
    }
}

struct Dev {
    child: Child,
    ready: Value,
}

impl Dev {
    fn pid_of(&self, daemon: &str) -> u32 {
        u32::try_from(self.ready[daemon].as_u64().unwrap()).unwrap()
    }

    fn http(&self) -> String {
        self.ready["http"].as_str().unwrap().to_owned()
    }

    /// Exit code after a signal.
    fn end(&mut self, signal: nix::sys::signal::Signal) -> Option<i32> {
        send(self.child.id(), signal);
        self.child.wait().unwrap().code()
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        // By its parent's death signal the daemons end with it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn send(pid: u32, signal: nix::sys::signal::Signal) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap()), signal).unwrap();
}

fn is_alive(pid: u32) -> bool {
    // A zombie of a killed parent waits for init, which may be slow to notice.
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// What the stand-in of the proxy answers: its process id.
fn ask(http: &str) -> u32 {
    let mut stream = TcpStream::connect(http).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(b"?").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text.trim().parse().unwrap()
}

use nix::sys::signal::Signal::{SIGKILL, SIGTERM};

#[test]
fn it_serves_on_its_own_socket_and_sigterm_ends_it_with_nothing_left() {
    let place = Place::new();
    let mut dev = place.start();
    let dir = place.dir();
    assert_eq!(dev.ready["ready"], true);
    assert_eq!(dev.ready["server"], format!("unix:{}/run/control.sock", dir.display()));
    assert_eq!(dev.ready["https"], Value::Null);
    assert_eq!(dev.ready["fast_path"], "off");
    assert_eq!(ask(&dev.http()), dev.pid_of("proxy_pid"));
    let settings = fs::read_to_string(dir.join("proxy.toml")).unwrap();
    assert!(
        settings.contains(&format!(",file:{}/run/slots\"", dir.display())),
        "{settings}"
    );

    assert_eq!(dev.end(SIGTERM), Some(0), "{}", place.said());
    assert!(!is_alive(dev.pid_of("control_pid")) && !is_alive(dev.pid_of("proxy_pid")));
    assert!(!dir.join("run").exists() && !dir.join("dev.lock").exists());
    assert!(!Path::new(&format!("/run/miren-dev-{}.lock", place.name)).exists());
}

#[test]
fn a_killed_daemon_comes_back_and_its_socket_never_closed() {
    let place = Place::new();
    let mut dev = place.start();
    let (proxy, control) = (dev.pid_of("proxy_pid"), dev.pid_of("control_pid"));
    send(proxy, SIGKILL);
    // Until it is wholly gone, it might still take a connection with it.
    place.waits_for("the proxy's end", || {
        place.said().contains("miren-proxy ended (signal: 9 (SIGKILL))")
    });
    // From then on a connection waits in the socket, which `miren dev` holds open.
    assert_ne!(ask(&dev.http()), proxy);
    send(control, SIGKILL);
    place.waits_for("control's return", || {
        place.said().contains("miren-control is ready again")
    });
    assert_eq!(dev.end(SIGTERM), Some(0), "{}", place.said());
}

#[test]
fn the_daemons_do_not_outlive_it() {
    let place = Place::new();
    let mut dev = place.start();
    assert_eq!(dev.end(SIGKILL), None);
    let daemons = [dev.pid_of("control_pid"), dev.pid_of("proxy_pid")];
    place.waits_for("both daemons to end", || !daemons.iter().any(|pid| is_alive(*pid)));
    // Their locks and sockets are no obstacle to the next one.
    assert_eq!(place.start().end(SIGTERM), Some(0), "{}", place.said());
}

#[test]
fn one_per_folder_and_one_per_name() {
    let place = Place::new();
    let mut dev = place.start();
    let (code, error) = place.refused("another-name", &place.dir());
    assert_eq!((code, &error["code"]), (1, &"already_running".into()), "{error}");
    let (code, error) = place.refused(&place.name, &place.root.path().join("elsewhere"));
    assert_eq!((code, &error["code"]), (1, &"already_running".into()), "{error}");
    assert!(
        error["message"].as_str().unwrap().contains(&dev.child.id().to_string()),
        "{error}"
    );
    assert!(!place.root.path().join("elsewhere").exists(), "nothing is left behind");
    assert_eq!(dev.end(SIGTERM), Some(0));
}

#[test]
fn a_daemon_that_cannot_start_is_quoted_and_the_other_is_stopped() {
    let place = Place::new();
    place.daemon("proxy", "echo 'error: no user nobody' >&2; exit 1");
    let (code, error) = place.refused(&place.name, &place.dir());
    assert_eq!(code, 1);
    let message = error["message"].as_str().unwrap();
    assert!(
        message.contains("starting miren-proxy") && message.contains("no user nobody"),
        "{message}"
    );
    let control: u32 = fs::read_to_string(place.dir().join("control.pid"))
        .unwrap()
        .parse()
        .unwrap();
    assert!(!is_alive(control));
    assert!(!place.dir().join("run").exists());
}

#[test]
fn what_is_missing_is_named_before_anything_is_made() {
    let place = Place::new();
    fs::remove_file(place.root.path().join("bin/miren-proxy")).unwrap();
    let (code, error) = place.refused(&place.name, &place.dir());
    assert_eq!((code, &error["code"]), (1, &"missing_binary".into()));
    assert!(!place.dir().exists());

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    place.daemon("proxy", "");
    let address = taken.local_addr().unwrap().to_string();
    let output = place
        .command(&place.name, &place.dir())
        .args(["--http", &address])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "an option given twice is wrong usage");
    let mut command = Command::new(place.root.path().join("bin/miren"));
    let output = command
        .args(["dev", "--http", &address, "--name", &place.name, "--dir"])
        .arg(place.dir())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        text.starts_with(&format!("error: listening on {address}: ")) && text.contains("\n  try: --http"),
        "{text}"
    );
    assert_eq!(output.status.code(), Some(1));
    assert!(!place.dir().exists());
}

//! Commands that run once, as a user has them: pipes, a terminal, a status, and what is left when their client or control goes.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use miren_api::run::{Run, RunStatus};
use miren_blackbox::{AppFolder, Node, process, wait_until};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{Winsize, openpty};
use nix::sys::signal::Signal;
use nix::sys::termios::{LocalFlags, tcgetattr};

const LIMIT: Duration = Duration::from_secs(30);

nix::ioctl_write_ptr_bad!(set_size, libc::TIOCSWINSZ, Winsize);

fn runs(node: &Node) -> Vec<Run> {
    node.cli.json(&["app", "runs", "-a", "once"])
}

/// The run of this id, or the only one that is not over, once its status is that.
fn becomes(node: &Node, id: Option<&str>, status: RunStatus) -> Run {
    wait_until("a run", LIMIT, || {
        let runs = runs(node);
        let meant = |run: &&Run| id.map_or(!run.status.is_final(), |id| run.id.as_str() == id);
        match runs.iter().find(meant) {
            Some(run) if run.status == status => Ok(run.clone()),
            _ => Err(format!("{runs:?}")),
        }
    })
}

fn app_run(node: &Node, options: &[&str], words: &[&str]) -> Command {
    let arguments = [&["app", "run", "-a", "once"], options, &["--"], words].concat();
    node.cli.command(&arguments)
}

fn detached(node: &Node, words: &[&str]) -> String {
    let output = app_run(node, &["--detach"], words).output().expect("the command");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text").trim().to_owned()
}

fn piped(mut command: Command) -> Child {
    let command = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command.spawn().expect("the command")
}

/// Pipes, status, and the variables of the version; then one that is let go.
fn runs_as_if_it_ran_here(node: &Node) {
    let mut child = piped(app_run(node, &["-i"], &["sh", "-c", "cat; echo $COLOR >&2; exit 9"]));
    child
        .stdin
        .take()
        .expect("a pipe")
        .write_all(b"from here")
        .expect("it reads");
    let done = child.wait_with_output().expect("its end");
    assert_eq!(done.status.code(), Some(9), "{done:?}");
    assert_eq!((&*done.stdout, &*done.stderr), (&b"from here"[..], &b"red\n"[..]));
    let killed = app_run(node, &[], &["sh", "-c", "exit 137"])
        .output()
        .expect("the command");
    assert_eq!(killed.status.code(), Some(137), "{killed:?}");
    let long = app_run(node, &[], &["head", "-c", "3000000", "/dev/zero"])
        .output()
        .expect("the command");
    assert_eq!((long.status.code(), long.stdout.len()), (Some(0), 3_000_000));
    let absent = app_run(node, &[], &["no-such-program"]).output().expect("the command");
    let told = String::from_utf8_lossy(&absent.stderr).into_owned();
    assert!(
        absent.status.code() == Some(1) && told.contains("command not found: no-such-program"),
        "{told}"
    );

    let id = detached(node, &["sh", "-c", "echo into the log; exit 3"]);
    let run = becomes(node, Some(&id), RunStatus::Failed);
    assert_eq!(
        (run.exit_code, run.command.as_str()),
        (Some(3), "sh -c 'echo into the log; exit 3'")
    );
    let logs = node.cli.call(&["logs", "-a", "once", "--sandbox", &id]);
    assert!(logs.stdout.contains("into the log"), "{logs}");
}

/// Ctrl-C ends it; so does the end of control, which one that was let go outlives.
fn ends_with_its_client(node: &Node) {
    let mut child = piped(app_run(node, &[], &["sh", "-c", "echo on; exec sleep 600"]));
    let mut heard = [0; 3];
    let stdout = child.stdout.as_mut().expect("a pipe");
    stdout.read_exact(&mut heard).expect("what it says once it runs");
    let run = becomes(node, None, RunStatus::Running);
    process::signal(child.id(), Signal::SIGINT);
    let done = child.wait_with_output().expect("its end");
    let told = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(
        done.status.code() == Some(130) && told.contains(run.id.as_str()),
        "{told}"
    );
    let ended = becomes(node, Some(run.id.as_str()), RunStatus::Stopped);
    assert_eq!(ended.reason.as_deref(), Some("its client has gone"));

    let script = "while ! [ -e /tmp/go ]; do sleep 0.02; done; exit 4";
    let id = detached(node, &["sh", "-c", script]);
    becomes(node, Some(&id), RunStatus::Running);
    let attached = piped(app_run(node, &[], &["sleep", "600"]));
    let lost = wait_until("the other one", LIMIT, || {
        let runs = runs(node);
        let other = runs
            .iter()
            .find(|run| run.id.as_str() != id && run.status == RunStatus::Running);
        other.cloned().ok_or_else(|| format!("{runs:?}"))
    });
    let control = node.control_pid().expect("control");
    process::kill_and_wait(control);
    assert_ne!(attached.wait_with_output().expect("its end").status.code(), Some(0));
    wait_until("the next control", LIMIT, || node.control_pid().ok_or("there is none"));
    becomes(node, Some(lost.id.as_str()), RunStatus::Stopped);
    becomes(node, Some(&id), RunStatus::Running);
    let go = node.cli.call(&["sandbox", "exec", &id, "--", "touch", "/tmp/go"]);
    assert_eq!(go.code, 0, "{go}");
    assert_eq!(becomes(node, Some(&id), RunStatus::Failed).exit_code, Some(4));
}

/// A terminal of this test's own, with the command in it.
struct InTerminal {
    outer: File,
    inner: OwnedFd,
    child: Child,
}

impl InTerminal {
    fn start(mut command: Command) -> Self {
        let size = Winsize {
            ws_row: 33,
            ws_col: 101,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let pty = openpty(Some(&size), None).expect("a terminal");
        for end in [&pty.master, &pty.slave] {
            // What other tests start has nothing to do with it.
            fcntl(end, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).expect("a flag");
        }
        let end = || Stdio::from(pty.slave.try_clone().expect("a descriptor"));
        command.stdin(end()).stdout(end()).stderr(end());
        // SAFETY: both calls are allowed between fork and exec, and touch nothing of this process.
        unsafe {
            command.pre_exec(|| {
                nix::unistd::setsid()?;
                match libc::ioctl(0, libc::TIOCSCTTY, 0) {
                    0 => Ok(()),
                    _ => Err(std::io::Error::last_os_error()),
                }
            });
        }
        let child = command.spawn().expect("the command");
        Self {
            outer: pty.master.into(),
            inner: pty.slave,
            child,
        }
    }

    /// Reads until `wanted` has come; what runs there says when it is too late, and what does not run has its limit.
    fn hear(&mut self, wanted: &str) -> String {
        let (mut heard, mut buffer) = (String::new(), [0; 4096]);
        let limit = PollTimeout::try_from(LIMIT).expect("a limit");
        while !heard.contains(wanted) {
            let told = poll(&mut [PollFd::new(self.outer.as_fd(), PollFlags::POLLIN)], limit);
            assert_eq!(told, Ok(1), "{heard:?} and not {wanted:?}");
            let read = self.outer.read(&mut buffer).expect("a terminal");
            assert!(read > 0, "{heard:?} and not {wanted:?}");
            heard.push_str(&String::from_utf8_lossy(&buffer[..read]));
            assert!(!heard.contains("late"), "{heard:?} and not {wanted:?}");
        }
        heard
    }

    fn resize(&self, rows: u16, columns: u16) {
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        // SAFETY: `size` lives as long as the call, which reads it.
        unsafe { set_size(self.outer.as_raw_fd(), &raw const size) }.expect("a size");
    }

    /// Whether it is as it was made: lines are echoed, and Ctrl-C is a signal.
    fn is_as_it_was(&self) -> bool {
        let now = tcgetattr(&self.inner).expect("its settings").local_flags;
        now.contains(LocalFlags::ECHO | LocalFlags::ICANON | LocalFlags::ISIG)
    }
}

impl Drop for InTerminal {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Ends by itself where nobody ends it, so that no test waits for ever.
const IN_TERMINAL: &str = "trap 'echo resized $(stty size)' WINCH; trap 'echo caught; exit 9' INT; trap exit TERM HUP; \
    tty; stty size; echo ready; n=0; while [ $n -lt 1500 ]; do n=$((n+1)); sleep 0.02; done; echo late";

fn has_a_terminal(command: Command) {
    let mut terminal = InTerminal::start(command);
    let heard = terminal.hear("ready");
    assert!(heard.contains("/dev/pts/") && heard.contains("33 101"), "{heard:?}");
    assert!(!terminal.is_as_it_was(), "every key goes through");
    terminal.resize(50, 200);
    terminal.hear("resized 50 200");
    terminal.outer.write_all(b"\x03").expect("Ctrl-C");
    terminal.hear("caught");
    let status = terminal.child.wait().expect("its end");
    assert_eq!(status.code(), Some(9));
    assert!(terminal.is_as_it_was(), "it is given back");
}

fn gives_its_terminal_back(node: &Node) {
    let sandbox = node.running("once")[0].id.to_string();
    has_a_terminal(app_run(node, &["-t"], &["sh", "-c", IN_TERMINAL]));
    let exec = ["sandbox", "exec", "-t", &sandbox, "--", "sh", "-c", IN_TERMINAL];
    has_a_terminal(node.cli.command(&exec));
    // However it ends.
    let mut terminal = InTerminal::start(app_run(node, &["-t"], &["sh", "-c", IN_TERMINAL]));
    terminal.hear("ready");
    process::signal(terminal.child.id(), Signal::SIGTERM);
    assert_eq!(terminal.child.wait().expect("its end").code(), Some(143));
    assert!(terminal.is_as_it_was(), "it is given back");
    let refused = app_run(node, &["-t"], &["sh"]).output().expect("the command");
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(2) && told.contains("-t"), "{told}");
}

#[test]
fn g17_a_command_runs_once_in_a_sandbox_of_its_own() {
    let node = Node::start();
    let app = AppFolder::rust("once").fixed(1).env("COLOR", "red");
    let none = app_run(&node, &[], &["true"]).output().expect("the command");
    assert_eq!(none.status.code(), Some(3), "{none:?}");
    node.deploy(&app);
    runs_as_if_it_ran_here(&node);
    gives_its_terminal_back(&node);
    ends_with_its_client(&node);
    assert_eq!(
        node.running("once").len(),
        1,
        "the one that serves, and nothing of the runs"
    );
    node.stop();
}

#[test]
fn g5_a_release_line_runs_before_the_switch_and_its_failure_changes_nothing() {
    let node = Node::start();
    let app = AppFolder::rust("released").fixed(1);
    let procfile = |line: &str| fs::write(app.path().join("Procfile"), format!("release: {line}\n")).expect("a file");
    procfile("echo migrating $MIREN_SERVICE; exit 3");
    let failed = node.cli.call(&["deploy", "-d", &app.path().to_string_lossy()]);
    assert_eq!(failed.code, 1, "{failed}");
    assert!(
        failed.stderr.contains("migrating release") && failed.stderr.contains("exited with status 3"),
        "{failed}"
    );
    assert!(node.running("released").is_empty(), "nothing of it was started");
    procfile("echo migrated");
    let done = node.cli.call(&["deploy", "-d", &app.path().to_string_lossy()]);
    assert_eq!(done.code, 0, "{done}");
    assert!(done.stderr.contains("migrated"), "{done}");
    assert_eq!(node.pools("released").len(), 1, "it is no service");
    node.stop();
}

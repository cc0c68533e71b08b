//! The control daemon of a node, taken out of the hands of `miren dev`, which stands still meanwhile.

use std::fs::{self, File};
use std::process::{Child, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;

use super::notified::Notified;
use crate::binaries::Binaries;
use crate::node::Node;
use crate::process;
use crate::wait::wait_until;

/// Longest end that a test waits for: a drain of all that it has.
const END: Duration = Duration::from_secs(180);

/// Dropped, it is `miren dev`'s again, which starts one with its own settings.
pub struct SupervisedControl<'n> {
    node: &'n Node,
    child: Child,
    notified: Notified,
}

impl<'n> SupervisedControl<'n> {
    /// With the node's settings, changed; its last control is killed, as it would not leave what runs.
    #[track_caller]
    pub fn take(node: &'n Node, change: impl Fn(&str) -> String) -> Self {
        let own = fs::read_to_string(node.folder().join("control.toml")).expect("reading the settings of control");
        fs::write(node.folder().join("supervised.toml"), change(&own)).expect("writing settings");
        let before = node.control_pid().expect("control runs");
        process::signal(node.dev_pid(), Signal::SIGSTOP);
        process::kill_and_wait(before);
        let notified = Notified::at(&node.folder().join("supervised.notify"));
        let child = start(node, &notified);
        let control = Self { node, child, notified };
        control.is_ready();
        control
    }

    /// As systemd has it: what runs outlives the daemon.
    #[track_caller]
    pub fn keeping(node: &'n Node) -> Self {
        Self::take(node, |own| own.replace("on_stop = \"remove\"", "on_stop = \"keep\""))
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next one, ready.
    #[track_caller]
    pub fn start(&mut self) {
        self.child = start(self.node, &self.notified);
        self.is_ready();
    }

    /// The next one, which may not become ready.
    #[track_caller]
    pub fn begin(&mut self) {
        self.child = start(self.node, &self.notified);
    }

    #[track_caller]
    pub fn is_ready(&self) {
        self.notified.ready(self.child.id(), || self.node.log());
    }

    /// SIGTERM, and how it ended.
    #[track_caller]
    pub fn terminate(&mut self) -> ExitStatus {
        process::signal(self.pid(), Signal::SIGTERM);
        self.ended()
    }

    #[track_caller]
    pub fn ended(&mut self) -> ExitStatus {
        wait_until("control to end", END, || match self.child.try_wait() {
            Ok(Some(status)) => Ok(status),
            other => Err(format!("{other:?}\n{}", self.node.log())),
        })
    }

    /// `kill -9`.
    #[track_caller]
    pub fn kill(&mut self) {
        self.child.kill().expect("killing control");
        self.child.wait().expect("waiting for control");
    }
}

impl Drop for SupervisedControl<'_> {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
        process::signal(self.node.dev_pid(), Signal::SIGCONT);
    }
}

fn start(node: &Node, notified: &Notified) -> Child {
    let log = File::options().append(true).open(node.folder().join("control.log"));
    let log = log.expect("opening the log of control");
    let mut command = Binaries::find().command("miren-control");
    command.arg("--config").arg(node.folder().join("supervised.toml"));
    command.env("NOTIFY_SOCKET", &notified.path).env("NO_COLOR", "1");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    command.spawn().expect("starting control")
}

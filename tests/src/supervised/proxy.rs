//! A proxy that gets its listening socket from its supervisor, as with `miren-proxy.socket` of systemd.

use std::fs::{self, File};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::notified::Notified;
use crate::binaries::Binaries;
use crate::node::Node;

/// The first socket that a supervisor hands on (sd_listen_fds(3)).
const FIRST: i32 = 3;
/// The process does not know its own number before it is one; a shell does.
const SHELL: &str = "LISTEN_PID=$$ exec \"$0\" \"$@\"";

/// The socket, which outlives every process that serves it, and the process that does.
pub struct SupervisedProxy {
    listener: TcpListener,
    pub http: SocketAddr,
    child: Child,
    notified: Notified,
    folder: PathBuf,
}

impl SupervisedProxy {
    /// Like the node's own proxy, with a socket and a data folder of its own.
    #[track_caller]
    pub fn start(node: &Node) -> Self {
        let folder = node.folder().to_owned();
        let own = fs::read_to_string(folder.join("proxy.toml")).expect("reading the settings of the node's proxy");
        let shared = |line: &&str| ["control", "slots", "user"].contains(&line.split(' ').next().unwrap_or_default());
        let shared: Vec<&str> = own.lines().filter(shared).collect();
        let settings = format!(
            "{}\ndata_dir = {:?}\n[admin]\nlisten = \"127.0.0.1:0\"\n",
            shared.join("\n"),
            folder.join("supervised-proxy"),
        );
        fs::write(folder.join("supervised-proxy.toml"), settings).expect("writing settings");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let notified = Notified::at(&folder.join("supervised-proxy.notify"));
        let child = spawn(&folder, &listener, &notified);
        let proxy = Self {
            http: listener.local_addr().expect("an address"),
            listener,
            child,
            notified,
            folder,
        };
        proxy.is_ready();
        proxy
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("supervised-proxy.log")).unwrap_or_default()
    }

    /// `kill -9`; it is gone when this returns, and the socket is not.
    #[track_caller]
    pub fn kill(&mut self) {
        self.child.kill().expect("killing a proxy");
        self.child.wait().expect("waiting for a proxy");
    }

    /// The next one, ready.
    #[track_caller]
    pub fn start_again(&mut self) {
        self.child = spawn(&self.folder, &self.listener, &self.notified);
        self.is_ready();
    }

    #[track_caller]
    fn is_ready(&self) {
        self.notified.ready(self.child.id(), || self.log());
    }
}

impl Drop for SupervisedProxy {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(folder: &Path, listener: &TcpListener, notified: &Notified) -> Child {
    let log = File::options()
        .create(true)
        .append(true)
        .open(folder.join("supervised-proxy.log"))
        .expect("making a log");
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(SHELL).arg(Binaries::find().path("miren-proxy"));
    command.arg("--config").arg(folder.join("supervised-proxy.toml"));
    command.env("LISTEN_FDS", "1").env("LISTEN_FDNAMES", "http");
    command.env("NOTIFY_SOCKET", &notified.path).env("NO_COLOR", "1");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    let socket = listener.as_raw_fd();
    // SAFETY: between fork and exec only system calls are made, with plain descriptor numbers.
    unsafe {
        command.pre_exec(move || inherit(socket));
    }
    command.spawn().expect("starting a proxy")
}

/// Under the number where it is looked for, and open after exec.
fn inherit(socket: i32) -> io::Result<()> {
    let done = if socket == FIRST {
        // SAFETY: takes plain numbers, and changes nothing but a flag of this process's own descriptor.
        unsafe { libc::fcntl(socket, libc::F_SETFD, 0) }
    } else {
        // SAFETY: takes plain numbers; whatever had the second one was to be closed by exec.
        unsafe { libc::dup2(socket, FIRST) }
    };
    if done < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

//! Decides how a further command joins a sandbox: a helper process of its own makes it and kills it when the daemon lets go.

use super::executor::{Command, Filtered};
use super::helper::{Report, chain, reap, report, take_channel, told};
use super::launch::Channel;
use super::stdio;
use crate::bundle::{ExecDir, SandboxDir};
use crate::process::Process;
use crate::runtime::{Executed, LaunchError};
use async_trait::async_trait;
use futures_util::future::{self, BoxFuture, FutureExt};
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::oci_spec::runtime::Spec;
use libcontainer::syscall::syscall::SyscallType;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, setsid};
use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

/// The helper's `argv[0]`. Its arguments are the folder of the sandbox and the name of the command.
const NAME: &str = "miren-sandbox-exec";

/// The helper of one command, as the daemon holds it.
pub(super) struct Joined {
    channel: Channel,
    helper: Process,
}

impl Joined {
    /// Returns when the command runs.
    pub(super) async fn begin(program: &Path, dir: &SandboxDir, exec: &ExecDir) -> Result<Self, LaunchError> {
        let arguments = [dir.path().as_os_str().to_owned(), OsString::from(&exec.name)];
        let (mut channel, mut helper) = Channel::open(program, NAME, &arguments, &exec.helper_log())?;
        match channel.report().await? {
            Report::Started => {}
            Report::Failed(why) => return Err(LaunchError::Refused(why)),
            _ => return Err(channel.silent()),
        }
        let helper = helper.0.take().ok_or_else(|| channel.silent())?;
        Ok(Self { channel, helper })
    }
}

#[async_trait]
impl Executed for Joined {
    fn end_input(&self) -> BoxFuture<'static, ()> {
        future::ready(()).boxed()
    }

    async fn wait(&mut self) -> Result<i32, String> {
        match self.channel.report().await {
            Ok(Report::Ended(status)) => Ok(status),
            Ok(_) => Err(self.channel.silent().to_string()),
            Err(error) => Err(error.to_string()),
        }
    }

    async fn end(self: Box<Self>) {
        drop(self.channel);
        if let Err(error) = self.helper.exited().await {
            tracing::warn!(pid = self.helper.pid(), %error, "cannot watch the helper of a command");
        }
    }
}

/// Runs the helper process of one command and exits, if that is what this process was started for.
pub(crate) fn main_if_asked() {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    if arguments.first().map(OsString::as_os_str) != Some(OsStr::new(NAME)) {
        return;
    }
    let ended = match &arguments[1..] {
        [dir, name] => run(&SandboxDir(dir.into()), &name.to_string_lossy()),
        _ => Err("the folder of the sandbox and the name of the command are missing".into()),
    };
    if let Err(error) = ended {
        miren_log::complain(&chain(&*error));
        std::process::exit(1);
    }
    std::process::exit(0);
}

fn run(dir: &SandboxDir, name: &str) -> Result<(), Box<dyn Error>> {
    setsid()?;
    let mut channel = take_channel()?;
    let exec = ExecDir::existing(dir, name);
    let process = match join(dir, &exec) {
        Ok(process) => process,
        Err(error) => {
            return Ok(report(
                &mut channel,
                &Report::Failed(told("joining the sandbox", &*error)),
            )?);
        }
    };
    // A daemon that has let go is seen below.
    let _ = report(&mut channel, &Report::Started);
    let status = hold(&process, &channel)?;
    let _ = report(&mut channel, &Report::Ended(status));
    Ok(())
}

/// Makes the process. libcontainer leaves the system-call filter out here, so the executor puts it on.
fn join(dir: &SandboxDir, exec: &ExecDir) -> Result<Process, Box<dyn Error>> {
    let sandbox = dir
        .path()
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let spec = Spec::load(dir.spec())?;
    let filter = spec.linux().as_ref().and_then(|linux| linux.seccomp().clone());
    let filter = filter.ok_or("its specification has no system-call filter")?;
    let builder = ContainerBuilder::new(sandbox, SyscallType::Linux)
        .with_root_path(dir.state())?
        .with_executor(Filtered {
            command: Command,
            filter,
        });
    let pid = stdio::give(builder, exec)?
        .validate_id()?
        .as_tenant()
        .with_process(Some(exec.process()))
        .with_detach(true)
        .build()?;
    Ok(Process::open(u32::try_from(pid.as_raw())?)?)
}

/// Waits for its end, and brings it about when the daemon lets go. Its raw status.
fn hold(process: &Process, channel: &UnixStream) -> Result<i32, Box<dyn Error>> {
    loop {
        let mut fds = [
            PollFd::new(process.as_fd(), PollFlags::POLLIN),
            PollFd::new(channel.as_fd(), PollFlags::POLLIN),
        ];
        poll(&mut fds, PollTimeout::NONE)?;
        if fds[0].any().unwrap_or_default() {
            return reap(process);
        }
        if fds[1].any().unwrap_or_default() {
            // It leads a session of its own: what it started there goes with it.
            let _ = killpg(Pid::from_raw(i32::try_from(process.pid())?), Signal::SIGKILL);
            process.signal(Signal::SIGKILL)?;
            return reap(process);
        }
    }
}

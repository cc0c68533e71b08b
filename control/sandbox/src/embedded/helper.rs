//! Decides what the process that holds one sandbox does: make it, report, pump its log, record how it ended.
//!
//! libcontainer forks and goes on running Rust code in the child, which deadlocks in a process with threads. So each
//! sandbox gets a process of its own that never has more than one, and that outlives the daemon.

use super::executor::{Command, USER_ERROR};
use super::stdio;
use crate::bundle::{ExecDir, Exit, Job, Processes, SandboxDir, UMASK, give_to_user};
use crate::exit::{Ending, describe};
use crate::files;
use crate::process::{Process, ProcessRef};
use libcontainer::container::Container;
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::syscall::syscall::SyscallType;
use miren_api::resource::LogStream;
use nix::fcntl::OFlag;
use nix::sys::signal::Signal;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{dup2_stdin, pipe2, setsid};
use serde::{Deserialize, Serialize};
use std::error::Error;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

/// The helper's `argv[0]`. Its only argument is the folder of the sandbox.
pub(super) const NAME: &str = "miren-sandbox";
/// What the daemon sends once it has registered init: the command may run.
pub(super) const GO: u8 = b'g';

/// What the helper tells the daemon, one JSON line each, over its standard input.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Report {
    /// Init exists and waits.
    Created(ProcessRef),
    /// Init was told to run the command.
    Started,
    /// There is no sandbox.
    Failed(String),
    /// A further command has ended, with this raw status.
    Ended(i32),
}

/// Runs the helper process of one sandbox and exits, if that is what this process was started for.
///
/// Call it first thing in `main`, before any thread exists: the helper forks.
pub(crate) fn main_if_asked() {
    let mut arguments = std::env::args_os();
    if arguments.next().as_deref() != Some(OsStr::new(NAME)) {
        return;
    }
    let ended = match arguments.next() {
        Some(dir) => run(&SandboxDir(dir.into())),
        None => Err("the folder of the sandbox is missing".into()),
    };
    match ended {
        Ok(()) => std::process::exit(0),
        Err(error) => {
            miren_log::complain(&chain(&*error));
            std::process::exit(1)
        }
    }
}

fn run(dir: &SandboxDir) -> Result<(), Box<dyn Error>> {
    setsid()?;
    let mut channel = take_channel()?;
    let job: Job = files::read_json(&dir.job())?.ok_or("there is no job.json")?;
    // Says that this helper lives; closed on exec, so init does not hold it.
    let _alive = files::lock(&dir.lock())?;
    let mut log = job.open_log()?;
    let (stdout, stdout_end) = output()?;
    let (stderr, stderr_end) = output()?;
    let (reading, status_end) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
    let first = job.is_attached.then(|| ExecDir::of_first(dir)).flatten();
    let made = create(dir, job.sandbox.as_str(), status_end, |builder| match &first {
        Some(first) => stdio::give(builder, first),
        None => {
            give_to_user(dir, &stdout_end)?;
            give_to_user(dir, &stderr_end)?;
            Ok(builder.with_stdout(stdout_end).with_stderr(stderr_end))
        }
    });
    let (mut container, init) = match made {
        Ok(made) => made,
        Err(error) => {
            return Ok(report(
                &mut channel,
                &Report::Failed(told("creating the sandbox", &*error)),
            )?);
        }
    };
    let helper = Process::open(std::process::id())?.reference();
    let processes = Processes {
        helper,
        app: init.reference(),
        has_begun: false,
    };
    files::write_json(&dir.processes(), &processes)?;
    if !is_wanted(&mut channel, init.reference()) {
        init.signal(Signal::SIGKILL)?;
        return record(dir, reap(&init)?);
    }
    match container.start() {
        Ok(()) => report(&mut channel, &Report::Started).or_else(daemon_may_be_gone)?,
        Err(error) => {
            report(&mut channel, &Report::Failed(told("creating the sandbox", &error))).or_else(daemon_may_be_gone)?;
            init.signal(Signal::SIGKILL)?;
        }
    }
    drop(channel);
    job.pump(dir, [stdout, stderr], Some(init.as_fd()), &mut log)?;
    let status = said(reading, reap(&init)?);
    log.line(
        LogStream::System,
        describe(Some(Ending::Status(status)), None).as_bytes(),
    );
    log.flush();
    record(dir, status)
}

/// The raw status of the app, if init has said it; else that of init, which may have become the app, or have been killed.
fn said(reading: OwnedFd, of_init: i32) -> i32 {
    let mut status = [0; size_of::<i32>()];
    match File::from(reading).read_exact(&mut status) {
        Ok(()) => i32::from_ne_bytes(status),
        Err(_) => of_init,
    }
}

/// A daemon that is gone will find the sandbox when it comes back.
fn daemon_may_be_gone(_: io::Error) -> io::Result<()> {
    Ok(())
}

/// A pipe for one output, and the end that the sandbox gets: open for reading too, so that writing to it is no error when this
/// process is killed. Until it is full, what is in it waits.
fn output() -> io::Result<(OwnedFd, OwnedFd)> {
    let (reading, writing) = pipe2(OFlag::O_CLOEXEC)?;
    let path = format!("/proc/self/fd/{}", writing.as_raw_fd());
    let both = File::options().read(true).write(true).open(path)?;
    Ok((reading, both.into()))
}

/// The daemon's socket arrives as standard input, which the sandbox would inherit: it gets `/dev/null` instead.
pub(super) fn take_channel() -> io::Result<UnixStream> {
    let channel = io::stdin().as_fd().try_clone_to_owned()?;
    dup2_stdin(File::open("/dev/null")?)?;
    Ok(UnixStream::from(channel))
}

/// Makes the sandbox with everything but its command running: init waits for [`Container::start`]. It writes to `status` how the app
/// ended.
fn create(
    dir: &SandboxDir,
    sandbox: &str,
    status: OwnedFd,
    give: impl FnOnce(ContainerBuilder) -> io::Result<ContainerBuilder>,
) -> Result<(Container, Process), Box<dyn Error>> {
    std::fs::create_dir_all(dir.state())?;
    // The runtime makes folders of the sandbox under it.
    let own = umask(Mode::from_bits_truncate(UMASK));
    let builder = ContainerBuilder::new(sandbox.to_owned(), SyscallType::Linux)
        .with_root_path(dir.state())?
        .with_executor(Command {
            status: Some(status.as_raw_fd()),
        });
    let container = give(builder)?
        .validate_id()?
        .as_init(dir.path())
        .with_systemd(false)
        .with_detach(true)
        .build();
    umask(own);
    let container = container?;
    let pid = container.pid().ok_or("the runtime names no process")?;
    let init = Process::open(u32::try_from(pid.as_raw())?)?;
    Ok((container, init))
}

/// Reports init and waits for the daemon's word. A daemon that dies before it gives it never wanted the sandbox.
fn is_wanted(channel: &mut UnixStream, init: ProcessRef) -> bool {
    let mut answer = [0];
    let asked = report(channel, &Report::Created(init)).and_then(|()| channel.read_exact(&mut answer));
    asked.is_ok() && answer[0] == GO
}

pub(super) fn report(channel: &mut UnixStream, report: &Report) -> io::Result<()> {
    let mut line = serde_json::to_vec(report)?;
    line.push(b'\n');
    channel.write_all(&line)
}

/// For whichever daemon is there by then.
fn record(dir: &SandboxDir, status: i32) -> Result<(), Box<dyn Error>> {
    Ok(files::write_json(&dir.exit(), &Exit { status })?)
}

/// Waits for init, which is our child; its raw status.
pub(super) fn reap(init: &Process) -> Result<i32, Box<dyn Error>> {
    let pid = libc::pid_t::try_from(init.pid())?;
    let mut status = 0;
    loop {
        // SAFETY: `status` lives as long as the call.
        if unsafe { libc::waitpid(pid, &raw mut status, 0) } == pid {
            return Ok(status);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error.into());
        }
    }
}

/// What failed, with all its causes; only our own part of it where that is for the user.
pub(super) fn told(doing: &str, error: &(dyn Error + 'static)) -> String {
    let text = chain(error);
    match text.split_once(USER_ERROR) {
        Some((_, user)) => user.trim_end_matches('\0').to_owned(),
        None => format!("{doing}: {text}"),
    }
}

pub(super) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut texts: Vec<String> = Vec::new();
    let mut cause = Some(error);
    while let Some(error) = cause {
        let text = error.to_string();
        // Transparent errors repeat what they wrap.
        if !texts.iter().any(|before| before.contains(&text)) {
            texts.push(text);
        }
        cause = error.source();
    }
    texts.join(": ")
}

//! Decides in which order a helper gives up the host: limits, network, processes, root, and last of all its users.

use super::{Jail, USERS, mounts, root};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, raise};
use nix::sys::stat::{Mode, umask};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{
    ForkResult, Gid, Pid, Uid, dup2_stdin, fork, getppid, setgroups, sethostname, setresgid, setresuid, setsid,
};
use std::convert::Infallible;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// The helper's `argv[0]`.
pub(super) const NAME: &str = "miren-build-jail";
/// How it ends when there is no root to enter.
const FAILED: i32 = 125;
/// What the machine is called in there.
const HOST_NAME: &str = "build";

/// Becomes a builder in a root of its own, if that is what this process was started for.
///
/// Call it first thing in `main`, before any thread exists: it forks.
pub(crate) fn main_if_asked() {
    if std::env::args_os().next().as_deref() != Some(OsStr::new(NAME)) {
        return;
    }
    let status = run().unwrap_or_else(|why| {
        eprintln!("making a root for the builder: {why}");
        FAILED
    });
    std::process::exit(status)
}

fn run() -> io::Result<i32> {
    let jail: Jail = serde_json::from_reader(io::stdin())?;
    close_others()?;
    // No terminal of whoever started control: what can open it types for him.
    setsid()?;
    set_pdeathsig(Signal::SIGKILL)?;
    if getppid().as_raw().cast_unsigned() != jail.parent {
        return Err(io::Error::other("whoever asked for it has ended"));
    }
    for group in &jail.groups {
        mounts::during("joining", group, fs::write(group.join("cgroup.procs"), "0"))?;
    }
    match &jail.network {
        Some(path) => setns(
            mounts::during("opening", path, File::open(path))?,
            CloneFlags::CLONE_NEWNET,
        )?,
        None => unshare(CloneFlags::CLONE_NEWNET)?,
    }
    unshare(CloneFlags::CLONE_NEWPID)?;
    let (asked, asking) = io::pipe()?;
    let (told, telling) = io::pipe()?;
    // SAFETY: no thread but this one has ever been there, so nothing that the child needs is held by another.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => {
            drop((asking, told));
            let mapped = map_users(child, jail.first_user, asked, telling);
            let ended = waitpid(child, None)?;
            match mapped {
                // It has told why it asked for nothing.
                Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => Err(error),
                _ => end_like(ended),
            }
        }
        ForkResult::Child => {
            drop((asked, telling));
            let Err(why) = become_builder(&jail, asking, told);
            eprintln!("making a root for the builder: {why}");
            std::process::exit(FAILED)
        }
    }
}

/// Nothing that this process was started with is open in the builder, but its output.
fn close_others() -> io::Result<()> {
    // SAFETY: takes numbers only; nothing in this process owns a descriptor from 3 on yet.
    match unsafe { libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, 0_u32) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The first process of the new namespaces.
fn become_builder(jail: &Jail, mut asking: PipeWriter, mut told: PipeReader) -> io::Result<Infallible> {
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWCGROUP)?;
    // Its users own nothing of what is made now, and are to read it.
    umask(Mode::from_bits_truncate(0o022));
    root::enter(jail)?;
    let own = CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS;
    unshare(own).map_err(|error| {
        io::Error::other(format!(
            "a user namespace: {error}; allow them with sysctl user.max_user_namespaces"
        ))
    })?;
    ask(&mut asking, &mut told)?;
    setgroups(&[])?;
    let (user, group) = (Uid::from_raw(0), Gid::from_raw(0));
    setresgid(group, group, group)?;
    setresuid(user, user, user)?;
    // A change of users forgets it. An end of the parent before this is seen by asking once more.
    set_pdeathsig(Signal::SIGKILL)?;
    ask(&mut asking, &mut told)?;
    sethostname(HOST_NAME)?;
    root::mount_terminals()?;
    dup2_stdin(File::open("/dev/null")?)?;
    let (program, arguments) = jail.command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .envs(jail.environment.iter().map(|(name, value)| (name, value)));
    Err(io::Error::other(format!("{program}: {}", command.exec())))
}

fn ask(asking: &mut PipeWriter, told: &mut PipeReader) -> io::Result<()> {
    asking.write_all(&[0])?;
    told.read_exact(&mut [0])
}

/// Gives the child its users once it has a namespace for them; only somebody outside can.
fn map_users(child: Pid, first: u32, mut asked: PipeReader, mut telling: PipeWriter) -> io::Result<()> {
    asked.read_exact(&mut [0])?;
    let map = format!("0 {first} {USERS}\n");
    for file in ["uid_map", "gid_map"] {
        let path = format!("/proc/{child}/{file}");
        mounts::during("writing", path.as_ref(), fs::write(&path, &map))?;
    }
    telling.write_all(&[0])?;
    asked.read_exact(&mut [0])?;
    telling.write_all(&[0])
}

/// The same end, as far as whoever waits for this process can tell.
fn end_like(ended: WaitStatus) -> io::Result<i32> {
    match ended {
        WaitStatus::Exited(_, code) => Ok(code),
        WaitStatus::Signaled(_, signal, _) => {
            raise(signal)?;
            Ok(128 + signal as i32)
        }
        other => Err(io::Error::other(format!("the builder is {other:?}"))),
    }
}

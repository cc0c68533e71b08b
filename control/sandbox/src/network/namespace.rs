//! Decides how network namespaces get a name in the file system, and how work is done inside one.

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use std::fs::{self, File};
use std::io;
use std::path::Path;

/// Makes a namespace that lives as long as `path`: a throw-away thread enters a new one and mounts it there.
///
/// No fork: a child of a process with threads could find a lock taken for ever.
pub(super) fn create(path: &Path) -> io::Result<()> {
    File::options().create_new(true).write(true).open(path)?;
    let target = path.to_owned();
    let made = on_own_thread(move || {
        unshare(CloneFlags::CLONE_NEWNET)?;
        let own = "/proc/thread-self/ns/net";
        mount(Some(own), &target, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
        Ok(())
    });
    if made.is_err() {
        fs::remove_file(path)?;
    }
    made
}

/// Takes the name away; the namespace ends when nothing else holds it.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match umount2(path, MntFlags::MNT_DETACH) {
        // EINVAL: a file on which nothing is mounted, as a crash between the two steps of `create` leaves.
        Ok(()) | Err(Errno::ENOENT | Errno::EINVAL) => {}
        Err(error) => return Err(error.into()),
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Runs `work` on a thread inside the namespace; sockets it opens belong to it.
pub(super) fn run_in<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let namespace = File::open(path)?;
    on_own_thread(move || {
        setns(&namespace, CloneFlags::CLONE_NEWNET)?;
        work()
    })
}

/// A thread that changed its namespace is never used again: it ends with its work.
fn on_own_thread<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    let thread = std::thread::Builder::new().name("miren-netns".into()).spawn(work)?;
    thread
        .join()
        .map_err(|_| io::Error::other("the thread that works in the namespace panicked"))?
}

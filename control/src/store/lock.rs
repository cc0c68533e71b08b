//! Decides that one daemon at a time uses a folder: a lock file that the kernel frees when its holder dies.

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// For so long what is left of a holder that has ended may have the lock: a child that it was starting as it was killed shares its
/// files until it runs its own program, which is a matter of milliseconds.
const REMNANT: Duration = Duration::from_secs(10);

/// Why a folder could not be locked.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error(
        "another miren-control{holder} uses {folder}: stop it, or give this one its own data_dir, run_dir and name",
        folder = .folder.display()
    )]
    Held { folder: PathBuf, holder: String },
    #[error("locking {path}: {source}", path = .path.display())]
    Io { path: PathBuf, source: std::io::Error },
}

/// A held lock; freed on drop, and by the kernel when the process ends.
#[derive(Debug)]
pub struct Lock {
    _file: Flock<File>,
}

impl Lock {
    /// Takes `folder/control.lock`, or says who has it.
    pub fn take(folder: &Path) -> Result<Self, LockError> {
        let path = folder.join("control.lock");
        let io = |source| LockError::Io {
            path: path.clone(),
            source,
        };
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(io)?;
        let mut file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Err((mut file, Errno::EWOULDBLOCK)) => {
                let pid = holder(&mut file);
                let freed = if has_ended(&pid) {
                    freed(file).map_err(io)?
                } else {
                    None
                };
                freed.ok_or_else(|| LockError::Held {
                    folder: folder.to_owned(),
                    holder: if pid.is_empty() {
                        pid
                    } else {
                        format!(" (process {pid})")
                    },
                })?
            }
            Err((_, errno)) => return Err(io(errno.into())),
            Ok(file) => file,
        };
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| write!(file, "{}", std::process::id()))
            .map_err(io)?;
        Ok(Self { _file: file })
    }
}

/// The process that wrote itself down; empty if nobody did.
fn holder(file: &mut File) -> String {
    let mut pid = String::new();
    let read = file.rewind().and_then(|()| file.read_to_string(&mut pid));
    read.map_or_else(|_| String::new(), |_| pid.trim().to_owned())
}

/// Whether that process is known, and is no more.
fn has_ended(pid: &str) -> bool {
    pid.parse::<u32>()
        .is_ok_and(|pid| !Path::new(&format!("/proc/{pid}")).exists())
}

/// The lock, unless it is kept longer than a remnant would.
fn freed(file: File) -> io::Result<Option<Flock<File>>> {
    let (tell, told) = mpsc::channel();
    // Waits on when it is too late, until this process ends.
    thread::Builder::new().name("lock".into()).spawn(move || {
        let locked = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| io::Error::from(errno));
        // Nobody listens: too late, and it is freed again.
        let _ = tell.send(locked);
    })?;
    told.recv_timeout(REMNANT).ok().transpose()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;
    use std::process::Command;

    /// Whether the kernel knows somebody who waits for a lock of this file.
    fn is_waited_for(path: &Path) -> bool {
        let inode = std::fs::metadata(path).expect("the file").ino();
        let all = std::fs::read_to_string("/proc/locks").expect("the locks of this machine");
        all.lines()
            .any(|line| line.contains("-> FLOCK") && line.contains(&format!(":{inode} ")))
    }

    #[test]
    fn i7_what_is_left_of_a_killed_holder_is_waited_for_and_a_living_one_is_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let held = Lock::take(folder.path()).expect("a lock");
        let path = folder.path().join("control.lock");
        let refused = Lock::take(folder.path()).expect_err("its holder lives");
        assert!(
            refused.to_string().contains(&format!("process {}", std::process::id())),
            "{refused}"
        );

        let mut ended = Command::new("true").spawn().expect("true starts");
        ended.wait().expect("it ends");
        std::fs::write(&path, ended.id().to_string()).expect("its holder is another one");
        let next = thread::spawn({
            let folder = folder.path().to_owned();
            move || Lock::take(&folder)
        });
        while !next.is_finished() && !is_waited_for(&path) {
            thread::yield_now();
        }
        drop(held);
        let lock = next.join().expect("no panic").expect("the lock of one that has ended");
        let written = std::fs::read_to_string(&path).expect("the file");
        assert_eq!(written, std::process::id().to_string());
        drop(lock);
    }
}

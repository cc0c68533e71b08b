//! Decides that one daemon at a time uses a folder: a lock file that the kernel frees when its holder dies.

use nix::fcntl::{Flock, FlockArg};
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

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
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(mut file) => {
                file.set_len(0)
                    .and_then(|()| write!(file, "{}", std::process::id()))
                    .map_err(io)?;
                Ok(Self { _file: file })
            }
            Err((mut file, nix::errno::Errno::EWOULDBLOCK)) => Err(LockError::Held {
                folder: folder.to_owned(),
                holder: holder(&mut file),
            }),
            Err((_, errno)) => Err(io(errno.into())),
        }
    }
}

fn holder(file: &mut File) -> String {
    let mut pid = String::new();
    let read = file.rewind().and_then(|()| file.read_to_string(&mut pid));
    match read {
        Ok(_) if !pid.is_empty() => format!(" (process {})", pid.trim()),
        _ => String::new(),
    }
}

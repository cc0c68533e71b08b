//! Decides where pins may live, who may look at them, and how they are taken away.

use std::{
    fs::{DirBuilder, File, Permissions},
    io,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
};

use nix::{
    fcntl::{Flock, FlockArg},
    mount::{MsFlags, mount},
    sys::statfs::{BPF_FS_MAGIC, statfs},
};

use super::hook;
use crate::error::OpenError;

/// Where bpffs belongs.
const BPFFS: &str = "/sys/fs/bpf";

/// Makes the folder for the pins, on a bpffs, closed to everybody but root: a read-only descriptor of a map becomes a
/// writable one for anybody who may pin into, or open from, a folder of a bpffs.
pub(super) fn prepare(pin_dir: &Path) -> Result<(), OpenError> {
    let failed = |doing: &str, error| OpenError::from_kernel(format!("{doing} {}", pin_dir.display()), error);
    ensure_bpffs(pin_dir)?;
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(pin_dir)
        .map_err(|error| failed("creating", error))?;
    std::fs::set_permissions(pin_dir, Permissions::from_mode(0o700)).map_err(|error| failed("closing", error))?;
    Ok(())
}

/// Takes away the hooks first, so that none acts on words nobody keeps.
pub(super) fn remove_all(pin_dir: &Path) -> io::Result<()> {
    for pin in hook::pins(pin_dir)? {
        std::fs::remove_file(pin)?;
    }
    for entry in std::fs::read_dir(pin_dir)? {
        std::fs::remove_file(entry?.path())?;
    }
    Ok(())
}

/// [`remove_all`] and the folder itself; nothing to do where there is none, or where it holds no pins.
pub(super) fn remove_folder(pin_dir: &Path) -> io::Result<()> {
    match is_bpffs(pin_dir) {
        Ok(true) => {}
        Ok(false) => return Ok(()),
        // Whoever may not look there could not have made pins there either.
        Err(nix::Error::ENOENT | nix::Error::ENOTDIR | nix::Error::EACCES) => return Ok(()),
        Err(error) => return Err(error.into()),
    }
    match remove_all(pin_dir).and_then(|()| std::fs::remove_dir(pin_dir)) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            tracing::warn!(pins = %pin_dir.display(), "pins of another user are left where they are");
            Ok(())
        }
        result => result,
    }
}

/// The root of the cgroup2 hierarchy.
pub(super) fn cgroup_root() -> Result<PathBuf, OpenError> {
    const MOUNTS: &str = "/proc/self/mounts";
    let mounts = std::fs::read_to_string(MOUNTS).map_err(OpenError::io("reading", MOUNTS))?;
    let mut fields = mounts.lines().map(|line| line.split(' '));
    fields
        .find_map(|mut fields| match (fields.nth(1), fields.next()) {
            (Some(place), Some("cgroup2")) => Some(PathBuf::from(place)),
            _ => None,
        })
        .ok_or_else(|| OpenError::Unsupported {
            doing: "looking for a cgroup for the connect hook".into(),
            reason: "no cgroup2 file system is mounted".into(),
        })
}

fn ensure_bpffs(pin_dir: &Path) -> Result<(), OpenError> {
    let existing = pin_dir.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let on_bpffs = |path: &Path| {
        let failed =
            |error: nix::Error| OpenError::from_kernel(format!("asking about {}", path.display()), error.into());
        is_bpffs(path).map_err(failed)
    };
    if on_bpffs(existing)? {
        return Ok(());
    }
    if !pin_dir.starts_with(BPFFS) {
        return Err(OpenError::NotBpffs(pin_dir.to_owned()));
    }
    let failed = |error: io::Error| OpenError::from_kernel(format!("mounting a bpffs at {BPFFS}"), error);
    let folder = File::open(BPFFS).map_err(failed)?;
    // Two that mount at once would put one file system, and its pins, on top of the other.
    let _lock = Flock::lock(folder, FlockArg::LockExclusive).map_err(|(_, error)| failed(error.into()))?;
    if on_bpffs(Path::new(BPFFS))? {
        return Ok(());
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("bpf"), BPFFS, Some("bpf"), flags, Some("mode=0700")).map_err(|error| failed(error.into()))?;
    tracing::info!("mounted a bpffs at {BPFFS}, mode 0700");
    Ok(())
}

fn is_bpffs(path: &Path) -> nix::Result<bool> {
    Ok(statfs(path)?.filesystem_type() == BPF_FS_MAGIC)
}

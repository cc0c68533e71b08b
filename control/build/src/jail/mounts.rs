//! Decides with which rights folders and files of the host are shown in another root.

use nix::mount::{MsFlags, mount};
use std::fs::{self, File};
use std::io;
use std::path::Path;

/// What nothing in there needs of the host's.
pub(super) const HARMLESS: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV);

/// Says what was being done, and to which path.
pub(super) fn during<T>(doing: &'static str, path: &Path, done: Result<T, impl std::fmt::Display>) -> io::Result<T> {
    done.map_err(|error| io::Error::other(format!("{doing} {}: {error}", path.display())))
}

/// Shows one mount of the host's, without what is mounted below it.
pub(super) fn bind(from: &Path, to: &Path, flags: MsFlags) -> io::Result<()> {
    match from.is_dir() {
        true => during("making", to, fs::create_dir_all(to))?,
        false => {
            let parent = to.parent().unwrap_or(to);
            during("making", parent, fs::create_dir_all(parent))?;
            during("making", to, File::create(to).map(drop))?;
        }
    }
    let bound = mount(Some(from), to, None::<&str>, MsFlags::MS_BIND, None::<&str>);
    during("mounting", from, bound)?;
    let flags = flags | MsFlags::MS_BIND | MsFlags::MS_REMOUNT;
    during(
        "restricting",
        to,
        mount(None::<&str>, to, None::<&str>, flags, None::<&str>),
    )
}

/// Mounts a file system of the kernel's own; `options` are its words.
pub(super) fn special(kind: &str, to: &Path, flags: MsFlags, options: &str) -> io::Result<()> {
    during("making", to, fs::create_dir_all(to))?;
    let mounted = mount(Some(kind), to, Some(kind), flags, Some(options));
    during("mounting", to, mounted)
}

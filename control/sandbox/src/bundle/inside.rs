//! Decides where paths lead in the root of a sandbox that nothing runs in yet, and makes what is missing, without leaving it.
//!
//! What is in the root is an image's, which is anybody's: each name is opened alone and follows no link; links are followed here.

use rustix::fs::{AtFlags, FileType, Mode, OFlags, chmodat, mkdirat, openat, readlinkat, statat, unlinkat};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

/// Most links on the way to a folder: what the kernel allows.
const LINKS_MAX: u32 = 40;
/// Deepest folder: each on the way to it costs a descriptor for as long as it is looked for.
const DEPTH_MAX: usize = 128;
/// Longest path that the kernel takes, its last zero not counted.
const PATH_MAX: usize = 4095;
/// Folders of the kernel, and of what belongs to a sandbox of any kind: the runtime mounts on them.
const KERNEL: [&str; 3] = ["proc", "sys", "dev"];

/// The root of one sandbox, open.
pub(crate) struct Inside {
    root: OwnedFd,
}

/// A way from the root to a folder.
struct Way {
    names: Vec<OsString>,
    folders: Vec<OwnedFd>,
}

impl Inside {
    pub(crate) fn open(root: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(root, flags, Mode::empty())?;
        Ok(Self { root })
    }

    /// Sees that the places where the runtime mounts things are folders themselves: it would follow their links to the host's.
    pub(crate) fn keep_places_of_kernel(&self) -> io::Result<()> {
        KERNEL.iter().try_for_each(|name| self.own_folder(name))
    }

    /// A folder right below the root, in place of anything else that has its name.
    pub(crate) fn own_folder(&self, name: &str) -> io::Result<()> {
        match self.kind(&self.root, OsStr::new(name))? {
            Some(FileType::Directory) => return Ok(()),
            Some(_) => unlinkat(&self.root, name, AtFlags::empty())?,
            None => {}
        }
        make(&self.root, OsStr::new(name))
    }

    /// Where a path leads that is as [`clean`] leaves it. Folders that are missing are made: root's, mode 0755, as docker makes them.
    ///
    /// # Errors
    /// When something on the way is no folder, and when there is no end of links.
    pub(crate) fn folder(&self, path: &Path) -> io::Result<PathBuf> {
        Ok(self.walk(path)?.path())
    }

    /// Writes a file, readable for all, in place of what is there: a link as well as an empty folder.
    pub(crate) fn write(&self, folder: &Path, name: &str, text: &str) -> io::Result<()> {
        let way = self.walk(folder)?;
        let folder = way.last(self);
        match self.kind(folder, OsStr::new(name))? {
            Some(FileType::Directory) => unlinkat(folder, name, AtFlags::REMOVEDIR).map_err(|errno| match errno {
                Errno::NOTEMPTY | Errno::EXIST => io::Error::other("it is a folder with something in it"),
                errno => errno.into(),
            })?,
            Some(_) => unlinkat(folder, name, AtFlags::empty())?,
            None => {}
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(openat(folder, name, flags, Mode::from(0o644))?);
        file.set_permissions(Permissions::from_mode(0o644))?;
        file.write_all(text.as_bytes())
    }

    fn kind(&self, folder: impl AsFd, name: &OsStr) -> io::Result<Option<FileType>> {
        match statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    fn walk(&self, path: &Path) -> io::Result<Way> {
        let mut way = Way {
            names: Vec::new(),
            folders: Vec::new(),
        };
        let mut rest: VecDeque<OsString> = names(path.as_os_str().as_bytes()).collect();
        let mut links = 0;
        while let Some(name) = rest.pop_front() {
            if name == ".." {
                way.up();
                continue;
            }
            match self.kind(way.last(self), &name)? {
                Some(FileType::Directory) => {}
                Some(FileType::Symlink) => {
                    links += 1;
                    if links > LINKS_MAX {
                        return Err(io::Error::other("it leads through links without end"));
                    }
                    let target = readlinkat(way.last(self), &name, Vec::new())?.into_bytes();
                    if target.starts_with(b"/") {
                        way = Way {
                            names: Vec::new(),
                            folders: Vec::new(),
                        };
                    }
                    let target: Vec<_> = names(&target).collect();
                    target.into_iter().rev().for_each(|name| rest.push_front(name));
                    continue;
                }
                Some(_) => return Err(io::Error::other("there is something on its way that is no folder")),
                None => make(way.last(self), &name)?,
            }
            way.down(self, name)?;
        }
        Ok(way)
    }
}

impl Way {
    fn last<'w>(&'w self, inside: &'w Inside) -> &'w OwnedFd {
        self.folders.last().unwrap_or(&inside.root)
    }

    fn up(&mut self) {
        self.names.pop();
        self.folders.pop();
    }

    fn down(&mut self, inside: &Inside, name: OsString) -> io::Result<()> {
        if self.names.len() >= DEPTH_MAX {
            return Err(io::Error::other("it is too many folders deep"));
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = openat(self.last(inside), &name, flags, Mode::empty())?;
        self.names.push(name);
        self.folders.push(folder);
        Ok(())
    }

    fn path(&self) -> PathBuf {
        let root = PathBuf::from("/");
        self.names.iter().fold(root, |path, name| path.join(name))
    }
}

/// Whatever this process's mask is.
fn make(folder: impl AsFd, name: &OsStr) -> io::Result<()> {
    let mode = Mode::from(0o755);
    mkdirat(&folder, name, mode)?;
    Ok(chmodat(&folder, name, mode, AtFlags::empty())?)
}

fn names(path: &[u8]) -> impl Iterator<Item = OsString> {
    let parts = path.split(|byte| *byte == b'/');
    let parts = parts.filter(|part| !part.is_empty() && *part != b".");
    parts.map(|part| OsStr::from_bytes(part).to_owned())
}

/// A path as docker understands one of an image: each `..` takes back what is written before it. None: it is no whole path.
pub(crate) fn clean(text: &str) -> Option<PathBuf> {
    if !text.starts_with('/') || text.contains('\0') || text.len() > PATH_MAX {
        return None;
    }
    let mut cleaned = PathBuf::from("/");
    for component in Path::new(text).components() {
        match component {
            Component::Normal(name) => cleaned.push(name),
            Component::ParentDir => drop(cleaned.pop()),
            _ => {}
        }
    }
    Some(cleaned)
}

/// Whether a path, as [`Inside::folder`] says it, is in a folder that the runtime mounts something of the kernel on.
pub(crate) fn is_of_kernel(path: &Path) -> bool {
    let first = path.components().nth(1);
    first.is_some_and(|first| KERNEL.iter().any(|name| first.as_os_str() == *name))
}

#[cfg(test)]
mod tests;

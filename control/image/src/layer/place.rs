//! Decides where entries land: below one folder, whatever their names and the links among them say.
//!
//! Folders are opened by `openat2` with the layer as root, so the kernel itself keeps every link on
//! the way inside; the last name is used by calls that follow none. Links are followed rather than
//! refused because images have entries below a link of the same layer (`lib` to `usr/lib`).

use super::entries::DEPTH_MAX;
use crate::error::Fault;
use crate::limits::Allowance;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, XattrFlags};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// Marks a folder that hides what lower layers have at its place.
const OPAQUE: &str = "trusted.overlay.opaque";
const IMPLIED: Mode = Mode::from_raw_mode(0o755);

/// The folder of a layer.
pub(super) struct Root {
    fd: OwnedFd,
    depth: usize,
    /// The folder used last: entries come folder by folder.
    last: Option<(Vec<u8>, Rc<OwnedFd>)>,
}

/// What was at a place.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Before {
    Nothing,
    Folder,
    Whiteout,
    Other,
}

impl Root {
    pub(super) fn open(path: &Path) -> Result<Self, Fault> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty())?;
        let depth = real(&fd)?.components().count();
        Ok(Self { fd, depth, last: None })
    }

    /// A folder that is there, or is made with all above it.
    pub(super) fn folder(&mut self, parts: &[&[u8]], files: &Allowance) -> Result<Rc<OwnedFd>, Fault> {
        let path = parts.join(&b'/');
        if let Some((last, fd)) = &self.last
            && *last == path
        {
            return Ok(fd.clone());
        }
        let fd = match self.resolve(&path) {
            Ok(fd) => fd,
            Err(Errno::NOENT | Errno::NOTDIR) => self.make(parts, files)?,
            Err(errno) => return Err(refused(errno)),
        };
        // Links can lead deeper than any name is long.
        if real(&fd)?.components().count() > self.depth + DEPTH_MAX {
            return Err(Fault::corrupt("it lies too deep"));
        }
        let fd = Rc::new(fd);
        self.last = Some((path, fd.clone()));
        Ok(fd)
    }

    /// A folder that has to be there.
    pub(super) fn existing(&self, parts: &[&[u8]]) -> Result<OwnedFd, Fault> {
        self.resolve(&parts.join(&b'/')).map_err(refused)
    }

    fn resolve(&self, path: &[u8]) -> rustix::io::Result<OwnedFd> {
        let path = if path.is_empty() { b"." } else { path };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
        loop {
            match rustix::fs::openat2(&self.fd, OsStr::from_bytes(path), flags, Mode::empty(), inside) {
                // Something was renamed somewhere while the kernel walked through a "..".
                Err(Errno::AGAIN | Errno::INTR) => {}
                other => return other,
            }
        }
    }

    fn make(&self, parts: &[&[u8]], files: &Allowance) -> Result<OwnedFd, Fault> {
        let mut above = self.resolve(b"").map_err(refused)?;
        for (at, name) in parts.iter().enumerate() {
            above = match self.resolve(&parts[..=at].join(&b'/')) {
                Ok(folder) => folder,
                Err(Errno::NOENT) => {
                    files.take(1)?;
                    make_folder(&above, name)?
                }
                Err(Errno::NOTDIR) if stat(&above, name)?.is_some_and(|stat| is_whiteout(&stat)) => {
                    rustix::fs::unlinkat(&above, OsStr::from_bytes(name), AtFlags::empty())?;
                    let folder = make_folder(&above, name)?;
                    set_opaque(&folder)?;
                    folder
                }
                Err(errno) => return Err(refused(errno)),
            };
        }
        Ok(above)
    }

    /// Makes room for an entry; a folder stays if a folder comes.
    pub(super) fn clear(&mut self, folder: &OwnedFd, name: &[u8], for_folder: bool) -> Result<Before, Fault> {
        let Some(stat) = stat(folder, name)? else {
            return Ok(Before::Nothing);
        };
        if FileType::from_raw_mode(stat.st_mode).is_dir() {
            if for_folder {
                return Ok(Before::Folder);
            }
            self.last = None;
            let held = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()));
            std::fs::remove_dir_all(held.join(OsStr::from_bytes(name)))?;
            return Ok(Before::Other);
        }
        rustix::fs::unlinkat(folder, OsStr::from_bytes(name), AtFlags::empty())?;
        Ok(if is_whiteout(&stat) {
            Before::Whiteout
        } else {
            Before::Other
        })
    }
}

pub(super) fn stat(folder: &OwnedFd, name: &[u8]) -> Result<Option<rustix::fs::Stat>, Fault> {
    match rustix::fs::statat(folder, OsStr::from_bytes(name), AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// A new folder of everyone's, open.
pub(super) fn make_folder(folder: &OwnedFd, name: &[u8]) -> Result<OwnedFd, Fault> {
    match rustix::fs::mkdirat(folder, OsStr::from_bytes(name), IMPLIED) {
        Ok(()) => {}
        Err(Errno::EXIST) => return Err(Fault::corrupt("it lies below a link to nothing")),
        Err(errno) => return Err(errno.into()),
    }
    let made = open_folder(folder, name)?;
    // Not what the process's mask left of it.
    rustix::fs::fchmod(&made, IMPLIED)?;
    Ok(made)
}

pub(super) fn open_folder(folder: &OwnedFd, name: &[u8]) -> Result<OwnedFd, Fault> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(
        folder,
        OsStr::from_bytes(name),
        flags,
        Mode::empty(),
    )?)
}

pub(super) fn set_opaque(folder: &OwnedFd) -> Result<(), Fault> {
    Ok(rustix::fs::fsetxattr(folder, OPAQUE, b"y", XattrFlags::empty())?)
}

pub(crate) fn is_opaque(folder: &OwnedFd) -> bool {
    let mut value = [0; 2];
    matches!(rustix::fs::fgetxattr(folder, OPAQUE, &mut value), Ok(1)) && value[0] == b'y'
}

pub(crate) fn is_whiteout(stat: &rustix::fs::Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode).is_char_device() && stat.st_rdev == 0
}

/// Why a name could not be followed.
fn refused(errno: Errno) -> Fault {
    match errno {
        Errno::NOENT => Fault::corrupt("it names something that is not there"),
        Errno::NOTDIR => Fault::corrupt("it lies below something that is no folder"),
        Errno::LOOP => Fault::corrupt("its name leads through links without end"),
        Errno::NAMETOOLONG => Fault::corrupt("its name is too long"),
        errno => errno.into(),
    }
}

/// Where an open folder is.
fn real(fd: &OwnedFd) -> Result<PathBuf, Fault> {
    Ok(std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()))?)
}

//! Decides how a layer becomes a folder: what of its entries is kept, and how deletions are written for overlayfs.
//!
//! Device nodes are left out: a sandbox gets its own `/dev`, and a character device 0/0 would read
//! as a deletion. Of extended attributes, users' own, access lists and file capabilities are kept;
//! the rest speaks to the kernel of the machine that made the image, or to overlayfs.

pub(crate) mod compression;
mod deletions;
pub(crate) mod entries;
mod pax;
pub(crate) mod place;

use crate::digest::{Digest, Hashing};
use crate::error::{Fault, ImageError};
use crate::limits::{Budget, Metered};
use deletions::Deletions;
use entries::{Entries, Entry, parts};
use place::{Before, Root};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags};
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::{BufRead, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use tar::EntryType;

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Begins the names of an older file system's own records.
const AUFS: &[u8] = b".wh..wh.";

/// What a layer came to.
#[derive(Debug)]
pub(crate) struct Unpacked {
    pub(crate) bytes: u64,
    pub(crate) files: u64,
    /// Whether nothing of lower layers is to be seen.
    pub(crate) opaque: bool,
}

/// Unpacks a blob into the empty folder `root`, and verifies that it is the layer `diff_id`. Blocks.
pub(crate) fn unpack(
    blob: impl BufRead,
    root: &Path,
    diff_id: &Digest,
    budget: &Budget,
) -> Result<Unpacked, ImageError> {
    let about = |fault: Fault| fault.during("reading it");
    let plain = Metered::new(compression::open(blob).map_err(about)?, &budget.bytes);
    let mut entries = Entries::new(Hashing::new(plain));
    let mut folder = Folder {
        root: Root::open(root).map_err(|fault| fault.during("opening its folder"))?,
        budget,
        files: 0,
        opaque: false,
        deletions: Deletions::default(),
        times: HashMap::new(),
    };
    while let Some(entry) = entries.next().map_err(about)? {
        let taken = folder.take(&entry, &mut entries);
        taken.map_err(|fault| fault.during(format_args!("entry {:?}", entry.shown())))?;
    }
    let plain = entries.into_inner().verify(diff_id).map_err(about)?;
    let pruned = folder.deletions.prune(&folder.root);
    pruned.map_err(|fault| fault.during("removing deletions without effect"))?;
    folder.set_times();
    Ok(Unpacked {
        bytes: plain.count(),
        files: folder.files,
        opaque: folder.opaque,
    })
}

/// The folder being filled.
struct Folder<'a> {
    root: Root,
    budget: &'a Budget,
    files: u64,
    opaque: bool,
    deletions: Deletions,
    /// Of folders, to be set when nothing is added to them any more.
    times: HashMap<Vec<u8>, (i64, u32)>,
}

impl Folder<'_> {
    fn take<R: Read>(&mut self, entry: &Entry, entries: &mut Entries<R>) -> Result<(), Fault> {
        self.files += 1;
        self.budget.files.take(1)?;
        let parts = parts(&entry.path)?;
        let Some((name, above)) = parts.split_last() else {
            return self.take_root(entry);
        };
        if matches!(entry.kind, EntryType::Char | EntryType::Block) {
            return Ok(());
        }
        let parent = self.root.folder(above, &self.budget.files)?;
        if name.starts_with(WHITEOUT) {
            return self.hide(&parent, above, name);
        }
        match entry.kind {
            EntryType::Directory => self.make_folder(&parent, name, entry),
            EntryType::Regular | EntryType::Continuous => {
                self.root.clear(&parent, name, false)?;
                write_file(&parent, name, entry, entries)
            }
            EntryType::Symlink => {
                self.root.clear(&parent, name, false)?;
                make_link(&parent, name, entry)
            }
            EntryType::Link => self.make_hard_link(&parent, name, entry),
            EntryType::Fifo => {
                self.root.clear(&parent, name, false)?;
                make_fifo(&parent, name, entry)
            }
            kind => Err(Fault::unsupported(format_args!(
                "entries of kind {kind:?} are not supported"
            ))),
        }
    }

    fn take_root(&mut self, entry: &Entry) -> Result<(), Fault> {
        if entry.kind != EntryType::Directory {
            return Err(Fault::corrupt("the root of the layer is no folder"));
        }
        self.times.insert(Vec::new(), entry.mtime);
        set_metadata(&*self.root.folder(&[], &self.budget.files)?, entry)
    }

    /// A deletion: of one name in lower layers, or of all they have in this folder.
    fn hide(&mut self, parent: &OwnedFd, above: &[&[u8]], name: &[u8]) -> Result<(), Fault> {
        if name == OPAQUE {
            self.opaque |= above.is_empty();
            return place::set_opaque(parent);
        }
        if name.starts_with(AUFS) {
            return Ok(());
        }
        let hidden = &name[WHITEOUT.len()..];
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(Fault::corrupt("it deletes something that is no name"));
        }
        match place::stat(parent, hidden)? {
            // A deletion is about lower layers: what this one has at the place stays.
            Some(stat) if FileType::from_raw_mode(stat.st_mode).is_dir() => {
                place::set_opaque(&place::open_folder(parent, hidden)?)
            }
            Some(_) => Ok(()),
            None => {
                self.deletions.add(above, hidden);
                let (name, device) = (OsStr::from_bytes(hidden), FileType::CharacterDevice);
                Ok(rustix::fs::mknodat(
                    parent,
                    name,
                    device,
                    Mode::empty(),
                    rustix::fs::makedev(0, 0),
                )?)
            }
        }
    }

    fn make_folder(&mut self, parent: &OwnedFd, name: &[u8], entry: &Entry) -> Result<(), Fault> {
        let before = self.root.clear(parent, name, true)?;
        let folder = match before {
            Before::Folder => place::open_folder(parent, name)?,
            _ => place::make_folder(parent, name)?,
        };
        if before == Before::Whiteout {
            place::set_opaque(&folder)?;
        }
        self.times.insert(entry.path.clone(), entry.mtime);
        set_metadata(&folder, entry)
    }

    fn make_hard_link(&mut self, parent: &OwnedFd, name: &[u8], entry: &Entry) -> Result<(), Fault> {
        let target = parts(&entry.link)?;
        let Some((from, above)) = target.split_last() else {
            return Err(Fault::corrupt("it is a hard link to nothing"));
        };
        let folder = self.root.existing(above)?;
        let stat = place::stat(&folder, from)?.ok_or_else(|| Fault::corrupt("it is a hard link to nothing"))?;
        if FileType::from_raw_mode(stat.st_mode).is_dir() || place::is_whiteout(&stat) {
            return Err(Fault::corrupt("it is a hard link to something that is no file"));
        }
        let own = place::stat(parent, name)?;
        if own.is_some_and(|own| (own.st_dev, own.st_ino) == (stat.st_dev, stat.st_ino)) {
            return Ok(());
        }
        self.root.clear(parent, name, false)?;
        let (from, to) = (OsStr::from_bytes(from), OsStr::from_bytes(name));
        match rustix::fs::linkat(&folder, from, parent, to, AtFlags::empty()) {
            // The place was a folder with the target in it.
            Err(Errno::NOENT) => Err(Fault::corrupt("it is a hard link to nothing")),
            other => Ok(other?),
        }
    }

    /// What is no folder any more is passed over.
    fn set_times(&self) {
        for (path, mtime) in &self.times {
            let folder = parts(path).and_then(|parts| self.root.existing(&parts));
            if let Ok(folder) = folder {
                let _ = rustix::fs::futimens(&folder, &times(*mtime));
            }
        }
    }
}

fn write_file<R: Read>(parent: &OwnedFd, name: &[u8], entry: &Entry, entries: &mut Entries<R>) -> Result<(), Fault> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(parent, OsStr::from_bytes(name), flags, Mode::RUSR | Mode::WUSR)?;
    let mut file = std::fs::File::from(fd);
    std::io::copy(&mut entries.content(), &mut file)?;
    let fd = OwnedFd::from(file);
    // Last, because a write and a change of owner take capabilities and special bits away.
    set_metadata(&fd, entry)?;
    Ok(rustix::fs::futimens(&fd, &times(entry.mtime))?)
}

fn make_link(parent: &OwnedFd, name: &[u8], entry: &Entry) -> Result<(), Fault> {
    if entry.link.is_empty() || entry.link.len() > 4095 || entry.link.contains(&0) {
        return Err(Fault::corrupt("it is a link to nothing"));
    }
    let name = OsStr::from_bytes(name);
    rustix::fs::symlinkat(OsStr::from_bytes(&entry.link), parent, name)?;
    own(parent, name, entry)?;
    Ok(rustix::fs::utimensat(
        parent,
        name,
        &times(entry.mtime),
        AtFlags::SYMLINK_NOFOLLOW,
    )?)
}

fn make_fifo(parent: &OwnedFd, name: &[u8], entry: &Entry) -> Result<(), Fault> {
    let (name, mode) = (OsStr::from_bytes(name), Mode::from_raw_mode(entry.mode));
    rustix::fs::mknodat(parent, name, FileType::Fifo, Mode::empty(), 0)?;
    own(parent, name, entry)?;
    rustix::fs::chmodat(parent, name, mode, AtFlags::empty())?;
    Ok(rustix::fs::utimensat(
        parent,
        name,
        &times(entry.mtime),
        AtFlags::SYMLINK_NOFOLLOW,
    )?)
}

fn own(parent: &OwnedFd, name: &OsStr, entry: &Entry) -> Result<(), Fault> {
    let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
    Ok(rustix::fs::chownat(
        parent,
        name,
        Some(uid),
        Some(gid),
        AtFlags::SYMLINK_NOFOLLOW,
    )?)
}

/// Owner, permissions and attributes of an open file or folder, in the order in which none undoes another.
fn set_metadata(fd: &OwnedFd, entry: &Entry) -> Result<(), Fault> {
    let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
    rustix::fs::fchown(fd, Some(uid), Some(gid))?;
    rustix::fs::fchmod(fd, Mode::from_raw_mode(entry.mode))?;
    for (name, value) in entry.xattrs.iter().filter(|(name, _)| is_kept(name)) {
        match rustix::fs::fsetxattr(fd, OsStr::from_bytes(name), value, XattrFlags::empty()) {
            // This file system has none of this kind.
            Err(Errno::OPNOTSUPP) if !name.starts_with(b"security.") => {}
            Err(Errno::INVAL | Errno::RANGE | Errno::TOOBIG) => {
                let name = String::from_utf8_lossy(name);
                return Err(Fault::corrupt(format_args!("its attribute {name:?} makes no sense")));
            }
            other => other?,
        }
    }
    Ok(())
}

fn is_kept(xattr: &[u8]) -> bool {
    let own = xattr.starts_with(b"user.") && !xattr.starts_with(b"user.overlay.");
    own || xattr.starts_with(b"system.posix_acl_") || xattr == b"security.capability"
}

fn times((seconds, nanos): (i64, u32)) -> Timestamps {
    Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        last_modification: Timespec {
            tv_sec: seconds,
            tv_nsec: nanos.into(),
        },
    }
}

//! Decides what a path of an image names, reading its layers where they lie as an overlay mount would show them.

use crate::error::Fault;
use crate::layer::place::{is_opaque, is_whiteout};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::rc::Rc;

/// Most links on the way to a file: what the kernel allows.
const LINKS_MAX: u32 = 40;

/// A folder of the image: its parts in the layers that have it, topmost first.
type Merged = Rc<Vec<OwnedFd>>;

/// What a name in a folder is.
enum Found {
    Nothing,
    Folder(Merged),
    Link(Vec<u8>),
    File(File),
}

/// Reads a file by its path in the image, topmost layer first; none if there is no such file.
///
/// Each name is opened alone and follows no link; links are followed here, inside the image.
pub(crate) fn read(layers: &[PathBuf], path: &str, max: u64) -> Result<Option<String>, Fault> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let open = |layer: &PathBuf| rustix::fs::open(layer, flags, Mode::empty());
    let root = layers.iter().map(open).collect::<Result<Vec<_>, _>>()?;
    // The way from the root to where the walk is.
    let mut way: Vec<Merged> = vec![Rc::new(root)];
    let mut rest: VecDeque<Vec<u8>> = names(path.as_bytes()).collect();
    let mut links = 0;
    while let Some(name) = rest.pop_front() {
        if name == b".." {
            way.truncate(way.len().saturating_sub(1).max(1));
            continue;
        }
        let Some(here) = way.last() else { break };
        match look_up(here, &name)? {
            Found::Nothing => return Ok(None),
            Found::Folder(folder) => way.push(folder),
            Found::File(file) if rest.is_empty() => return text(file, max).map(Some),
            Found::File(_) => return Ok(None),
            Found::Link(target) => {
                links += 1;
                if links > LINKS_MAX {
                    return Err(Fault::corrupt(format_args!("{path} leads through links without end")));
                }
                if target.starts_with(b"/") {
                    way.truncate(1);
                }
                let target: Vec<_> = names(&target).collect();
                target.into_iter().rev().for_each(|name| rest.push_front(name));
            }
        }
    }
    Ok(None)
}

fn names(path: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let parts = path.split(|byte| *byte == b'/');
    parts
        .filter(|part| !part.is_empty() && *part != b".")
        .map(<[u8]>::to_vec)
}

fn look_up(folder: &[OwnedFd], name: &[u8]) -> Result<Found, Fault> {
    let name = OsStr::from_bytes(name);
    let mut merged = Vec::new();
    for layer in folder {
        let stat = match rustix::fs::statat(layer, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT | Errno::NAMETOOLONG) => continue,
            Err(errno) => return Err(errno.into()),
        };
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind.is_dir() {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let part = rustix::fs::openat(layer, name, flags, Mode::empty())?;
            let hides = is_opaque(&part);
            merged.push(part);
            if hides {
                break;
            }
        } else if !merged.is_empty() || is_whiteout(&stat) {
            break;
        } else if kind.is_symlink() {
            let target = rustix::fs::readlinkat(layer, name, Vec::new())?;
            return Ok(Found::Link(target.into_bytes()));
        } else if kind.is_file() {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            return Ok(Found::File(
                rustix::fs::openat(layer, name, flags, Mode::empty())?.into(),
            ));
        } else {
            return Ok(Found::Nothing);
        }
    }
    if merged.is_empty() {
        return Ok(Found::Nothing);
    }
    Ok(Found::Folder(Rc::new(merged)))
}

fn text(file: File, max: u64) -> Result<String, Fault> {
    let mut text = Vec::new();
    file.take(max + 1).read_to_end(&mut text)?;
    if text.len() as u64 > max {
        let what = "a file of accounts in the image";
        return Err(Fault::TooLarge { what, max });
    }
    // Names of accounts are ASCII; another byte elsewhere in the line does no harm.
    Ok(String::from_utf8_lossy(&text).into_owned())
}

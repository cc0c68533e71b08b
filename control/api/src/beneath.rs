//! Decides how a file of somebody's folder is read: through links for as long as they stay in the folder, never out of it.
//!
//! The kernel itself keeps the way inside (`RESOLVE_BENEATH`): an absolute link leads out, wherever it points.

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::Path;

/// Why a file that is there is not read.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    #[error("leads out of the folder")]
    Outside,
    #[error("is a link to nothing")]
    Dangling,
    #[error("is not a file")]
    NoFile,
    #[error("has {size} bytes, more than the {max} that are read")]
    TooLarge { size: u64, max: usize },
    #[error("cannot be read: {0}")]
    Io(io::Error),
}

/// The bytes of the file at a relative path; none if the folder has nothing there. Of more than `max` bytes nothing is read.
///
/// # Errors
/// When something is there that is no file inside the folder.
pub fn read(folder: &Path, file: impl AsRef<Path>, max: usize) -> Result<Option<Vec<u8>>, Unreadable> {
    let Some(found) = open(folder, file.as_ref())? else {
        return Ok(None);
    };
    let size = found.metadata().map_err(Unreadable::Io)?.len();
    let mut bytes = Vec::new();
    if size <= max as u64 {
        let read = found.take(max as u64 + 1).read_to_end(&mut bytes);
        read.map_err(Unreadable::Io)?;
    }
    // It may have grown meanwhile.
    match size.max(bytes.len() as u64) {
        size if size > max as u64 => Err(Unreadable::TooLarge { size, max }),
        _ => Ok(Some(bytes)),
    }
}

/// Whether [`read`] finds a file, of any size.
///
/// # Errors
/// Those of [`read`].
pub fn find(folder: &Path, file: impl AsRef<Path>) -> Result<bool, Unreadable> {
    open(folder, file.as_ref()).map(|found| found.is_some())
}

/// Whether a file is there, or a link that stands for one: whoever reads it is told where that leads.
pub fn has(folder: &Path, file: impl AsRef<Path>) -> bool {
    !matches!(find(folder, file), Ok(false) | Err(Unreadable::NoFile))
}

fn open(folder: &Path, file: &Path) -> Result<Option<File>, Unreadable> {
    let io = |errno: Errno| Unreadable::Io(errno.into());
    let root = rustix::fs::open(
        folder,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(io)?;
    // A pipe is not waited for, and a terminal is nobody's.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let found = match within(&root, file, flags) {
        Ok(found) => File::from(found),
        Err(Errno::NOENT | Errno::NOTDIR) => {
            return match within(&root, file, OFlags::PATH | OFlags::NOFOLLOW) {
                Ok(_) => Err(Unreadable::Dangling),
                Err(_) => Ok(None),
            };
        }
        Err(Errno::XDEV) => return Err(Unreadable::Outside),
        Err(Errno::LOOP) => return Err(Unreadable::Dangling),
        // A socket.
        Err(Errno::NXIO) => return Err(Unreadable::NoFile),
        Err(errno) => return Err(io(errno)),
    };
    match found.metadata().map_err(Unreadable::Io)?.is_file() {
        true => Ok(Some(found)),
        false => Err(Unreadable::NoFile),
    }
}

fn within(root: &OwnedFd, file: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let inside = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    loop {
        match openat2(root, file, flags | OFlags::CLOEXEC, Mode::empty(), inside) {
            // Something was renamed while the kernel walked through a "..".
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn found(folder: &Path, file: &str) -> Result<Option<String>, String> {
        let found = read(folder, file, 10).map_err(|error| error.to_string())?;
        Ok(found.map(|bytes| String::from_utf8(bytes).expect("text")))
    }

    #[test]
    fn g6_a_link_is_followed_inside_the_folder_and_never_out_of_it() {
        let place = tempfile::tempdir().expect("a folder");
        fs::write(place.path().join("secret"), "secret").expect("a file");
        let folder = place.path().join("app");
        fs::create_dir_all(folder.join("sub")).expect("a folder");
        fs::write(folder.join("sub/real"), "text").expect("a file");
        fs::write(folder.join("large"), "x".repeat(11)).expect("a file");
        make_pipe(&folder.join("pipe"));
        for (name, to) in [
            ("inner", "sub/real".to_owned()),
            ("folder", "sub".to_owned()),
            ("sub/up", "../inner".to_owned()),
            ("absolute", folder.join("sub/real").display().to_string()),
            ("out", "../secret".to_owned()),
            ("far", "/etc/hostname".to_owned()),
            ("etc", "/etc".to_owned()),
            ("through", "folder/../../secret".to_owned()),
            ("process", "/proc/self/root/etc/hostname".to_owned()),
            ("nothing", "nowhere".to_owned()),
            ("loop", "loop".to_owned()),
        ] {
            symlink(to, folder.join(name)).expect("a link");
        }
        for inner in ["sub/real", "inner", "folder/real", "sub/up", "./sub/../inner"] {
            assert_eq!(found(&folder, inner), Ok(Some("text".into())), "{inner}");
            assert!(has(&folder, inner), "{inner}");
        }
        for absent in ["none", "sub/none", "sub/real/none", "etc2/x"] {
            assert_eq!(found(&folder, absent), Ok(None), "{absent}");
        }
        for (file, why) in [
            ("absolute", "leads out of the folder"),
            ("out", "leads out of the folder"),
            ("far", "leads out of the folder"),
            ("etc/hostname", "leads out of the folder"),
            ("through", "leads out of the folder"),
            ("process", "leads out of the folder"),
            ("../secret", "leads out of the folder"),
            ("/etc/hostname", "leads out of the folder"),
            ("nothing", "is a link to nothing"),
            ("loop", "is a link to nothing"),
            ("sub", "is not a file"),
            ("pipe", "is not a file"),
            ("large", "has 11 bytes"),
        ] {
            let refused = found(&folder, file).expect_err(file);
            assert!(refused.starts_with(why), "{file}: {refused}");
            assert_eq!(has(&folder, file), why != "is not a file", "{file}");
        }
    }

    fn make_pipe(path: &Path) {
        rustix::fs::mknodat(
            rustix::fs::CWD,
            path,
            rustix::fs::FileType::Fifo,
            Mode::RUSR | Mode::WUSR,
            0,
        )
        .expect("a pipe");
    }
}

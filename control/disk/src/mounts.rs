//! What is mounted where in the caller's mount namespace, and how something is mounted and unmounted there.

use crate::error::DiskError;
use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use nix::sys::stat::makedev;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Mount namespaces belong to threads: `/proc/self` would be that of the first one.
const MOUNTINFO: &str = "/proc/thread-self/mountinfo";
const POLL: Duration = Duration::from_millis(20);

/// One line of mountinfo (proc_pid_mountinfo(5)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    /// Number of the device, as in `st_dev`.
    pub device: u64,
    /// What of the file system is mounted.
    pub root: PathBuf,
    pub point: PathBuf,
    pub options: String,
    pub source: PathBuf,
}

impl Mount {
    pub(crate) fn has_option(&self, option: &str) -> bool {
        self.options.split(',').any(|one| one == option)
    }

    pub(crate) fn is_read_only(&self) -> bool {
        self.has_option("ro")
    }

    /// Whether a block device is what is mounted. btrfs shows a number of its own, but the device as its source.
    pub(crate) fn is_of(&self, device: u64, path: &Path) -> bool {
        self.device == device || self.source == path
    }
}

/// All mounts the caller sees, oldest first.
pub(crate) fn all() -> Result<Vec<Mount>, DiskError> {
    let path = Path::new(MOUNTINFO);
    let text = fs::read(path).map_err(DiskError::io("reading", path))?;
    Ok(parse(&text))
}

/// The mount points in a folder, at any depth.
pub(crate) fn below(dir: &Path) -> Result<Vec<PathBuf>, DiskError> {
    let points = all()?.into_iter().map(|mount| mount.point);
    Ok(points.filter(|point| point.starts_with(dir)).collect())
}

/// Makes the place of a mount, which nothing else may be mounted at; its path without links.
pub(crate) fn prepare_place(at: &Path) -> Result<PathBuf, DiskError> {
    fs::create_dir_all(at).map_err(DiskError::io("making", at))?;
    at.canonicalize().map_err(DiskError::io("looking up", at))
}

/// Refuses a place where something is mounted.
pub(crate) fn must_be_free(at: &Path) -> Result<(), DiskError> {
    if all()?.iter().any(|mount| mount.point == at) {
        return Err(DiskError::busy(format!(
            "something else is mounted at {}",
            at.display()
        )));
    }
    Ok(())
}

/// Unmounts, waiting until the deadline for those who use it. False: they still do.
pub(crate) fn unmount(at: &Path, deadline: Instant) -> Result<bool, DiskError> {
    loop {
        match umount2(at, MntFlags::UMOUNT_NOFOLLOW) {
            // Not a mount point any more.
            Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => return Ok(true),
            Err(Errno::EBUSY) if Instant::now() < deadline => std::thread::sleep(POLL),
            Err(Errno::EBUSY) => return Ok(false),
            Err(error) => return Err(DiskError::io("unmounting", at)(io::Error::from(error))),
        }
    }
}

pub(crate) fn parse(mountinfo: &[u8]) -> Vec<Mount> {
    mountinfo.split(|byte| *byte == b'\n').filter_map(parse_line).collect()
}

/// `36 35 98:0 /root /point rw,noatime master:1 - ext4 /dev/sda rw`: a varying number of fields before the hyphen.
fn parse_line(line: &[u8]) -> Option<Mount> {
    let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let (major, minor) = std::str::from_utf8(fields.get(2)?).ok()?.split_once(':')?;
    let hyphen = 6 + fields.get(6..)?.iter().position(|field| *field == b"-")?;
    Some(Mount {
        device: makedev(major.parse().ok()?, minor.parse().ok()?),
        root: unescape(fields[3]),
        point: unescape(fields[4]),
        options: String::from_utf8_lossy(fields[5]).into_owned(),
        source: unescape(fields.get(hyphen + 2)?),
    })
}

/// The kernel writes blanks and backslashes in paths as three octal digits.
fn unescape(text: &[u8]) -> PathBuf {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let octal = after.get(..3).filter(|_| *first == b'\\');
        let byte = octal.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        out.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &after[3..] } else { after };
    }
    PathBuf::from(OsString::from_vec(out))
}

/// Whether a path ends in these names.
pub(crate) fn ends_in(path: &Path, names: &[&str]) -> bool {
    let tail: PathBuf = names.iter().map(|name| OsStr::from_bytes(name.as_bytes())).collect();
    path.ends_with(tail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_with_its_blanks_and_optional_fields() {
        let text = b"36 35 7:3 / /mnt/a\\040b rw,nosuid,nodev master:1 shared:2 - ext4 /dev/loop3 rw\n\
            37 35 0:5 /x /run ro - tmpfs none rw\nnonsense\n";
        let mounts = parse(text);
        assert_eq!(mounts.len(), 2);
        assert_eq!(mounts[0].point, Path::new("/mnt/a b"));
        assert!(mounts[0].is_of(makedev(7, 3), Path::new("/other")));
        assert!(mounts[0].is_of(0, Path::new("/dev/loop3")));
        assert!(mounts[0].has_option("nodev") && !mounts[0].is_read_only());
        assert!(mounts[1].is_read_only() && mounts[1].root == Path::new("/x"));
    }

    #[test]
    fn the_last_names_of_a_path_are_compared_whole() {
        assert!(ends_in(Path::new("/a/db/data"), &["db", "data"]));
        assert!(!ends_in(Path::new("/a/mydb/data"), &["db", "data"]));
    }
}

//! Decides how run files appear whole, and how a folder is removed without ever reaching through a mount.

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MntFlags, umount2};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Writes a JSON file that a reader sees whole or not at all.
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, serde_json::to_vec(value)?)?;
    fs::rename(&new, path)
}

/// Reads such a file; `None` when there is none.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Names of the entries of a folder; none when it does not exist.
pub(crate) fn names_in(dir: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    entries
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect()
}

pub(crate) fn remove_file_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Removes an empty folder, if it is there.
pub(crate) fn remove_dir_if_there(dir: &Path) -> io::Result<()> {
    match fs::remove_dir(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Removes a folder with everything in it, but nothing that is only mounted there: mounts go first, and while one is
/// left nothing is removed. A sandbox binds `/usr` of the host below such a folder.
pub(crate) fn remove_tree(dir: &Path) -> io::Result<()> {
    let Ok(dir) = dir.canonicalize() else {
        return Ok(());
    };
    for mount in mounts_below(&dir)?.iter().rev() {
        umount2(mount, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW)?;
    }
    if let Some(left) = mounts_below(&dir)?.first() {
        return Err(io::Error::other(format!("{} is still mounted", left.display())));
    }
    fs::remove_dir_all(dir)
}

/// Locks a file, which is made if it is not there, for as long as the result lives. It is closed on exec.
pub(crate) fn lock(path: &Path) -> io::Result<Flock<fs::File>> {
    let file = fs::File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| error.into())
}

/// Whether a process holds the lock on a file. One that does not exist is not locked.
pub(crate) fn is_locked(path: &Path) -> io::Result<bool> {
    let file = match fs::File::options().write(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(_) => Ok(false),
        Err((_, Errno::EWOULDBLOCK)) => Ok(true),
        Err((_, error)) => Err(error.into()),
    }
}

pub(crate) fn mounts_below(dir: &Path) -> io::Result<Vec<PathBuf>> {
    Ok(mount_points(&fs::read_to_string("/proc/self/mountinfo")?)
        .filter(|point| point.starts_with(dir))
        .collect())
}

/// The fifth field of every line of mountinfo, in the order of mounting.
fn mount_points(mountinfo: &str) -> impl Iterator<Item = PathBuf> {
    mountinfo
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|point| PathBuf::from(unescape(point)))
}

/// The kernel writes blanks and backslashes in paths as three octal digits.
fn unescape(text: &str) -> String {
    let escapes = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    escapes.iter().fold(text.to_owned(), |text, (escape, character)| {
        text.replace(escape, character)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_read_with_their_blanks() {
        let text = "36 35 98:0 /m1 /mnt/a\\040b rw,noatime - ext3 /dev/root rw\n37 35 0:5 / /run rw - tmpfs none rw\n";
        let points: Vec<_> = mount_points(text).collect();
        assert_eq!(points, [PathBuf::from("/mnt/a b"), PathBuf::from("/run")]);
    }

    #[test]
    fn b9_a_disk_that_is_mounted_in_a_folder_outlives_it() {
        let dir = tempfile::tempdir().expect("a folder");
        let (disk, tree) = (dir.path().join("disk"), dir.path().join("tree"));
        for folder in [&disk, &tree.join("rootfs/data")] {
            fs::create_dir_all(folder).expect("a folder");
        }
        fs::write(disk.join("rows"), "1 2 3").expect("a file");
        let (at, bind) = (tree.join("rootfs/data"), nix::mount::MsFlags::MS_BIND);
        nix::mount::mount(Some(&disk), &at, None::<&str>, bind, None::<&str>).expect("a mount: run as root");
        assert!(at.join("rows").exists());
        let removed = remove_tree(&tree);
        let _ = umount2(&at, MntFlags::MNT_DETACH);
        removed.expect("removed");
        assert!(!tree.exists());
        assert_eq!(fs::read_to_string(disk.join("rows")).expect("the file"), "1 2 3");
    }

    #[test]
    fn a_folder_that_is_gone_is_removed_already() {
        let dir = tempfile::tempdir().expect("a folder");
        remove_tree(&dir.path().join("none")).expect("no error");
        let tree = dir.path().join("tree");
        fs::create_dir_all(tree.join("a/b")).expect("folders");
        remove_tree(&tree).expect("removed");
        assert_eq!(names_in(dir.path()).expect("names"), Vec::<String>::new());
    }
}

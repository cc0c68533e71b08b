//! A disk of a test's own that can be filled and emptied.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use tempfile::TempDir;

/// A file system in memory, mounted in a folder of its own.
pub struct SmallDisk {
    folder: TempDir,
}

impl SmallDisk {
    /// `size` as mount(8) takes it: `48m`.
    #[track_caller]
    pub fn mount(size: &str) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("miren-disk-")
            .tempdir()
            .expect("making a folder");
        let options = format!("size={size},mode=0755");
        mount(
            Some("tmpfs"),
            folder.path(),
            Some("tmpfs"),
            MsFlags::empty(),
            Some(options.as_str()),
        )
        .expect("mounting a tmpfs");
        // What is below it is reached by the proxy's user, too.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("opening the way");
        Self { folder }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    fn filler(&self) -> PathBuf {
        self.path().join("filler")
    }

    /// Until not one byte more can be written, nor added to a file that is there: what is left of its last block is used.
    #[track_caller]
    pub fn fill(&self) {
        fill(&self.filler());
        for entry in fs::read_dir(self.path()).expect("listing the disk").flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_file()) {
                fill(&entry.path());
            }
        }
    }

    #[track_caller]
    pub fn make_room(&self) {
        fs::remove_file(self.filler()).expect("removing what filled the disk");
    }
}

#[track_caller]
fn fill(path: &Path) {
    let mut file = File::options().create(true).append(true).open(path);
    let file = file.as_mut().expect("opening a file to fill the disk with");
    for piece in [1 << 20, 4096, 1] {
        let bytes = vec![b'\n'; piece];
        loop {
            match file.write_all(&bytes) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => break,
                Err(error) => panic!("filling {}: {error}", path.display()),
            }
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Whoever still has a file open there holds up nothing.
        if let Err(error) = umount2(self.path(), MntFlags::MNT_DETACH) {
            eprintln!("unmounting {}: {error}", self.path().display());
        }
    }
}

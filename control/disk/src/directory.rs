//! How a disk is kept as a plain folder: bind-mounted, as large as the machine has room.

use crate::disk::{AttachOptions, DiskId, Mounted};
use crate::error::DiskError;
use crate::folder;
use crate::holders::{self, Held};
use crate::mounts::{self, Mount};
use nix::mount::{MsFlags, mount};
use std::fs::{self, DirBuilder, Metadata};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What apps see, in the folder of the disk.
const CONTENT: &str = "data";

pub(crate) fn make(dir: &Path) -> Result<(), DiskError> {
    let content = dir.join(CONTENT);
    DirBuilder::new()
        .mode(0o755)
        .create(&content)
        .map_err(DiskError::io("making", &content))?;
    folder::sync(&content)
}

/// That what a disk's record says is there, is.
pub(crate) fn inspect(dir: &Path) -> Result<(), DiskError> {
    match content(dir)? {
        Some(_) => Ok(()),
        None => Err(DiskError::damaged(&dir.join(CONTENT), "is not there")),
    }
}

/// Where a disk is mounted, if it is. Asks nothing of its record.
pub(crate) fn mounted(dir: &Path, id: &DiskId) -> Result<Option<Mounted>, DiskError> {
    let mount = mounts_of(dir, id)?.into_iter().next();
    Ok(mount.map(|mount| Mounted {
        id: id.clone(),
        read_only: mount.is_read_only(),
        at: mount.point,
        device: None,
    }))
}

pub(crate) fn attach(dir: &Path, id: &DiskId, at: &Path, options: AttachOptions) -> Result<Mounted, DiskError> {
    let mounts = mounts_of(dir, id)?;
    match mounts.first() {
        Some(mount) if mount.point != at => {
            return Err(DiskError::busy(format!(
                "disk {id} is attached at {}",
                mount.point.display()
            )));
        }
        // A crash between the two mount calls leaves one without its options.
        Some(mount) if !mount.has_option("nodev") => restrict(at, options)?,
        Some(mount) if mount.is_read_only() != options.read_only => {
            return Err(DiskError::busy(format!(
                "disk {id} is attached at {} with other options",
                at.display()
            )));
        }
        Some(_) => {}
        None => {
            mounts::must_be_free(at)?;
            let content = dir.join(CONTENT);
            mount(Some(&content), at, None::<&str>, MsFlags::MS_BIND, None::<&str>)
                .map_err(DiskError::io("mounting at", at))?;
            restrict(at, options)?;
        }
    }
    Ok(Mounted {
        id: id.clone(),
        at: at.to_owned(),
        device: None,
        read_only: options.read_only,
    })
}

fn restrict(at: &Path, options: AttachOptions) -> Result<(), DiskError> {
    let mut flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_NODEV | MsFlags::MS_NOSUID;
    flags.set(MsFlags::MS_RDONLY, options.read_only);
    mount(None::<&str>, at, None::<&str>, flags, None::<&str>).map_err(DiskError::io("mounting at", at))
}

pub(crate) fn detach(dir: &Path, id: &DiskId, limit: Duration) -> Result<(), DiskError> {
    let deadline = Instant::now() + limit;
    for mount in mounts_of(dir, id)?.iter().rev() {
        if !mounts::unmount(&mount.point, deadline)? {
            return Err(DiskError::Busy {
                what: format!("disk {id} is in use at {}", mount.point.display()),
                holders: holders::of(Held::At(&mount.point)),
            });
        }
    }
    Ok(())
}

fn content(dir: &Path) -> Result<Option<Metadata>, DiskError> {
    let path = dir.join(CONTENT);
    match fs::symlink_metadata(&path) {
        Ok(found) if found.is_dir() => Ok(Some(found)),
        Ok(_) => Err(DiskError::damaged(&path, "is not a folder")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(DiskError::io("reading", &path)(error)),
    }
}

/// Bind mounts keep the device of what they show: these are told by the folder's inode.
fn mounts_of(dir: &Path, id: &DiskId) -> Result<Vec<Mount>, DiskError> {
    let Some(content) = content(dir)? else {
        return Ok(Vec::new());
    };
    let shows_it = |point: &PathBuf| {
        fs::metadata(point).is_ok_and(|found| (found.dev(), found.ino()) == (content.dev(), content.ino()))
    };
    let (mut mounts, folder) = (mounts::all()?, id.to_string());
    mounts.retain(|mount| mounts::ends_in(&mount.root, &[&folder, CONTENT]) && shows_it(&mount.point));
    Ok(mounts)
}

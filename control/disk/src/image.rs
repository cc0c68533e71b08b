//! How a disk is kept as an image with a file system of its own: reserved whole, mounted through one loop device.

mod copy;
mod device;
mod filesystem;
mod freeze;
mod grow;
mod ioctl;
mod mounting;
mod snapshot;
mod superblock;

pub(crate) use freeze::thaw_if_frozen;
pub(crate) use grow::grow;
pub(crate) use mounting::{attach, detach, mounted, must_be_detached, usage};
pub(crate) use snapshot::snapshot;

use crate::disk::{Disk, DiskId, Filesystem};
use crate::error::DiskError;
use crate::folder;
use crate::limits::Limits;
use crate::step::Steps;
use miren_api::settings::Bytes;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The image, in the folder of its disk.
const IMAGE: &str = "image";
const MIB: u64 = 1 << 20;

/// What every operation is told.
#[derive(Default)]
pub(crate) struct Context {
    pub limits: Limits,
    pub steps: Steps,
}

/// An image that is what its record says.
pub(crate) struct Image<'a> {
    pub disk: &'a Disk,
    pub filesystem: Filesystem,
    /// Open for reading and writing.
    pub file: File,
    pub path: PathBuf,
    pub length: u64,
    /// How much of it the file system takes, as last written to it.
    pub taken: u64,
}

/// The size an image of that much has, if there can be one.
pub(crate) fn whole(size: Bytes, filesystem: Filesystem) -> Result<Bytes, DiskError> {
    let smallest = filesystem.smallest();
    if size.0 < smallest {
        return Err(DiskError::Invalid {
            what: format!(
                "{size} is too small for {filesystem}: it takes {} or more",
                Bytes(smallest)
            ),
        });
    }
    let whole = size.0.checked_next_multiple_of(MIB).map(Bytes);
    whole
        .filter(|size| i64::try_from(size.0).is_ok())
        .ok_or(DiskError::Invalid {
            what: format!("{size} is more than a file can have"),
        })
}

/// Makes the image of a disk in a folder that was just made for it.
pub(crate) fn make(dir: &Path, disk: &Disk, kept: (Bytes, Filesystem), context: &Context) -> Result<(), DiskError> {
    let (size, filesystem) = kept;
    let path = dir.join(IMAGE);
    let file = new_file(&path)?;
    context.steps.reached("image made");
    file.set_len(size.0)
        .and_then(|()| copy::reserve(&file, size.0))
        .map_err(DiskError::io("reserving", &path))?;
    context.steps.reached("image reserved");
    filesystem.make(&path, disk.uuid, context.limits.program)?;
    file.sync_all().map_err(DiskError::io("syncing", &path))?;
    context.steps.reached("file system made");
    Ok(())
}

fn new_file(path: &Path) -> Result<File, DiskError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(DiskError::io("making", path))
}

/// Opens the image of a disk. Whatever is not as the record says is an error; nothing is changed.
pub(crate) fn inspect<'a>(dir: &Path, disk: &'a Disk, kept: (Bytes, Filesystem)) -> Result<Image<'a>, DiskError> {
    let (size, filesystem) = kept;
    let path = dir.join(IMAGE);
    let file = folder::open(&path, true)?.ok_or_else(|| DiskError::damaged(&path, "is not there"))?;
    let found = file.metadata().map_err(DiskError::io("reading", &path))?;
    if !found.is_file() {
        return Err(DiskError::damaged(&path, "is not a file"));
    }
    if found.len() < size.0 {
        let what = format!("has {} of {}", Bytes(found.len()), size);
        return Err(DiskError::damaged(&path, what));
    }
    let superblock = superblock::read(&file, filesystem).map_err(DiskError::io("reading", &path))?;
    let superblock = superblock.ok_or_else(|| DiskError::damaged(&path, format!("has no {filesystem} superblock")))?;
    if superblock.uuid != disk.uuid {
        let what = format!("has file system {}, not {}", superblock.uuid, disk.uuid);
        return Err(DiskError::damaged(&path, what));
    }
    Ok(Image {
        disk,
        filesystem,
        file,
        length: found.len(),
        taken: superblock.size,
        path,
    })
}

impl Image<'_> {
    fn id(&self) -> &DiskId {
        &self.disk.id
    }
}

//! How a disk grows: first the image, then its device, then its file system, then its record; each step can be the last.

use super::device::Device;
use super::{Context, Image, mounting, whole};
use crate::disk::{Disk, Provider};
use crate::error::DiskError;
use crate::folder;
use miren_api::settings::Bytes;
use nix::fcntl::{FallocateFlags, fallocate};
use std::path::Path;

/// Grows a disk to a size. What is mounted grows at once, else the file system follows at the next attach for writing.
/// The length of the image is the truth: a record that says less is written anew.
pub(crate) fn grow(dir: &Path, image: &Image<'_>, size: Bytes, context: &Context) -> Result<Disk, DiskError> {
    let size = whole(size, image.filesystem)?;
    if size.0 < image.length {
        return Err(DiskError::Invalid {
            what: format!(
                "disk {} has {}: it cannot become smaller",
                image.id(),
                Bytes(image.length)
            ),
        });
    }
    let place = mounting::place(image)?.filter(|(_, mount)| !mount.is_read_only());
    if place.is_some() && size.0 > image.length && !image.filesystem.grows_mounted() {
        return Err(DiskError::Unsupported {
            what: format!(
                "growing {} while it is mounted takes CAP_SYS_RESOURCE: detach disk {} first",
                image.filesystem,
                image.id()
            ),
        });
    }
    extend(image, size.0, context)?;
    if let Some((device, mount)) = place {
        let image = Image {
            file: image.file.try_clone().map_err(DiskError::io("opening", &image.path))?,
            path: image.path.clone(),
            length: size.0,
            ..*image
        };
        settle(&image, &device, &mount.point, context)?;
    }
    let disk = Disk {
        kept: Provider::Loop {
            size,
            filesystem: image.filesystem,
        },
        ..image.disk.clone()
    };
    folder::write_record(dir, &disk)?;
    context.steps.reached("record written");
    Ok(disk)
}

/// Reserves first, beyond the end, so that the length changes only once all of it is there.
fn extend(image: &Image<'_>, length: u64, context: &Context) -> Result<(), DiskError> {
    if length == image.length {
        return Ok(());
    }
    let file = &image.file;
    let offset = |bytes: u64| libc::off_t::try_from(bytes).map_err(std::io::Error::other);
    let reserve = || -> std::io::Result<()> {
        let (from, more) = (offset(image.length)?, offset(length - image.length)?);
        fallocate(file, FallocateFlags::FALLOC_FL_KEEP_SIZE, from, more)?;
        file.sync_all()
    };
    if let Err(error) = reserve() {
        // Gives back what lies beyond the end.
        file.set_len(image.length)
            .map_err(DiskError::io("resizing", &image.path))?;
        return Err(DiskError::io("reserving", &image.path)(error));
    }
    context.steps.reached("more reserved");
    file.set_len(length)
        .and_then(|()| file.sync_all())
        .map_err(DiskError::io("resizing", &image.path))?;
    context.steps.reached("image extended");
    Ok(())
}

/// Lets a mounted file system take all of its image.
pub(super) fn settle(image: &Image<'_>, device: &Device, at: &Path, context: &Context) -> Result<(), DiskError> {
    if image.taken >= image.length || !image.filesystem.grows_mounted() {
        return Ok(());
    }
    device.set_capacity()?;
    context.steps.reached("device extended");
    image.filesystem.grow_mounted(device, at, context.limits.program)?;
    context.steps.reached("file system grown");
    Ok(())
}

/// As [`settle`], before it is mounted, where the kernel does not let the caller do it later. Growing a mounted one is
/// better: the kernel's journal covers it.
pub(super) fn settle_unmounted(image: &Image<'_>, device: &Device, context: &Context) -> Result<(), DiskError> {
    if image.taken >= image.length || image.filesystem.grows_mounted() {
        return Ok(());
    }
    let limits = &context.limits;
    image.filesystem.check(device, &image.path, true, limits.check)?;
    context.steps.reached("file system checked in full");
    image.filesystem.grow_unmounted(device, limits.program)?;
    context.steps.reached("file system grown");
    Ok(())
}

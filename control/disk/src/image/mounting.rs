//! When an image may be mounted, and where: checked first, at one place at a time, through one device.

use super::device::{self, Device};
use super::{Context, IMAGE, Image, freeze, grow};
use crate::disk::{AttachOptions, DiskId, Filesystem, Mounted, Usage};
use crate::error::DiskError;
use crate::folder;
use crate::holders::{self, Held};
use crate::limits::Limits;
use crate::mounts::{self, Mount};
use miren_api::settings::Bytes;
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sys::statvfs::statvfs;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Instant;

/// A device an image has, and its mounts in the caller's namespace, oldest first.
struct Use {
    device: Device,
    mounts: Vec<Mount>,
}

fn use_of(image: &fs::File) -> Result<Option<Use>, DiskError> {
    let Some(device) = device::of(image)? else {
        return Ok(None);
    };
    let number = device.number()?;
    let mut mounts = mounts::all()?;
    mounts.retain(|mount| mount.is_of(number, device.path()));
    Ok(Some(Use { device, mounts }))
}

/// Mounts an image at a place, or finds that it is mounted there.
pub(crate) fn attach(
    image: &Image<'_>,
    at: &Path,
    options: AttachOptions,
    context: &Context,
) -> Result<Mounted, DiskError> {
    let id = image.id();
    let device = match use_of(&image.file)? {
        Some(Use { device, mounts }) => match mounts.first() {
            Some(mount) if mount.point == at && mount.is_read_only() == options.read_only => {
                return settle(image, &device, at, options, context);
            }
            Some(mount) => {
                let (at, mode) = (
                    mount.point.display(),
                    if mount.is_read_only() { ", read-only" } else { "" },
                );
                return Err(DiskError::busy(format!("disk {id} is attached at {at}{mode}")));
            }
            None => {
                device.take_over()?;
                device
            }
        },
        None => device::configure(&image.file)?,
    };
    mounts::must_be_free(at)?;
    context.steps.reached("device configured");
    let limit = context.limits.check;
    image.filesystem.check(&device, &image.path, false, limit)?;
    context.steps.reached("file system checked");
    if !options.read_only {
        grow::settle_unmounted(image, &device, context)?;
    }
    mount_device(image, &device, at, options)?;
    context.steps.reached("mounted");
    settle(image, &device, at, options, context).inspect_err(|_| {
        // The error that is reported is the first one.
        let _ = mounts::unmount(at, Instant::now() + context.limits.unmount);
    })
}

fn mount_device(image: &Image<'_>, device: &Device, at: &Path, options: AttachOptions) -> Result<(), DiskError> {
    let mut flags = MsFlags::MS_NODEV | MsFlags::MS_NOSUID;
    flags.set(MsFlags::MS_RDONLY, options.read_only);
    let filesystem = image.filesystem;
    let mounted = mount(
        Some(device.path()),
        at,
        Some(filesystem.as_str()),
        flags,
        Some(filesystem.mount_options()),
    );
    match mounted {
        Ok(()) => Ok(()),
        Err(error) => Err(not_mounted(error, image, at)),
    }
}

fn not_mounted(error: Errno, image: &Image<'_>, at: &Path) -> DiskError {
    match (error, image.filesystem) {
        (Errno::ENODEV, filesystem) => DiskError::Unsupported {
            what: format!("this kernel has no {filesystem}"),
        },
        // A snapshot has the UUID of its disk. xfs is told not to mind.
        (Errno::EEXIST, Filesystem::Btrfs) => DiskError::busy(format!(
            "disk {}, or another snapshot of it, is mounted: before Linux 6.7 btrfs mounts one of them at a time",
            image.id()
        )),
        (Errno::EUCLEAN | Errno::EBADMSG | Errno::EINVAL, _) => {
            DiskError::damaged(&image.path, format!("cannot be mounted: {error}"))
        }
        _ => DiskError::io("mounting at", at)(error),
    }
}

/// Finishes what an interrupted or a detached grow left to do.
fn settle(
    image: &Image<'_>,
    device: &Device,
    at: &Path,
    options: AttachOptions,
    context: &Context,
) -> Result<Mounted, DiskError> {
    if !options.read_only {
        grow::settle(image, device, at, context)?;
    }
    Ok(Mounted {
        id: image.id().clone(),
        at: at.to_owned(),
        device: Some(device.path().to_owned()),
        read_only: options.read_only,
    })
}

/// Unmounts a disk and frees its device, whatever its record says.
pub(crate) fn detach(dir: &Path, id: &DiskId, limits: &Limits) -> Result<(), DiskError> {
    let Some(image) = folder::open(&dir.join(IMAGE), false)? else {
        return Ok(());
    };
    let Some(Use { device, mounts }) = use_of(&image)? else {
        return Ok(());
    };
    let (number, path) = (device.number()?, device.path().to_owned());
    let deadline = Instant::now() + limits.unmount;
    let held = |files| Held::Device {
        number,
        path: &path,
        files,
    };
    for mount in mounts.iter().rev() {
        // A frozen file system would outlive its mount, where nobody can thaw it.
        freeze::thaw_if_frozen(&mount.point);
        let files = fs::metadata(&mount.point).ok().map(|point| point.dev());
        if !mounts::unmount(&mount.point, deadline)? {
            return Err(DiskError::Busy {
                what: format!("disk {id} is in use at {}", mount.point.display()),
                holders: holders::of(held(files)),
            });
        }
    }
    device.free()?;
    drop(device);
    match device::gone(&image, deadline)? {
        None => Ok(()),
        Some(_) => Err(DiskError::Busy {
            what: format!("{} of disk {id} is in use", path.display()),
            holders: holders::of(held(None)),
        }),
    }
}

/// Refuses a disk that has a device, mounted or not.
pub(crate) fn must_be_detached(dir: &Path, id: &DiskId) -> Result<(), DiskError> {
    let Some(image) = folder::open(&dir.join(IMAGE), false)? else {
        return Ok(());
    };
    match device::of(&image)? {
        None => Ok(()),
        Some(device) => {
            let path = device.path().display();
            Err(DiskError::busy(format!("disk {id} is attached: {path} refers to it")))
        }
    }
}

/// Where a disk is mounted, if it is. Asks nothing of its record.
pub(crate) fn mounted(dir: &Path, id: &DiskId) -> Result<Option<Mounted>, DiskError> {
    let Some(image) = folder::open(&dir.join(IMAGE), false)? else {
        return Ok(None);
    };
    let Some(Use { device, mounts }) = use_of(&image)? else {
        return Ok(None);
    };
    Ok(mounts.into_iter().next().map(|mount| Mounted {
        id: id.clone(),
        read_only: mount.is_read_only(),
        at: mount.point,
        device: Some(device.path().to_owned()),
    }))
}

pub(crate) fn usage(at: &Path) -> Result<Usage, DiskError> {
    let found = statvfs(at).map_err(DiskError::io("asking", at))?;
    let block = found.fragment_size();
    Ok(Usage {
        used: Bytes(found.blocks().saturating_sub(found.blocks_free()) * block),
        size: Bytes(found.blocks() * block),
    })
}

/// The device of an image and where it is mounted, for those who change it.
pub(super) fn place(image: &Image<'_>) -> Result<Option<(Device, Mount)>, DiskError> {
    let Some(Use { device, mounts }) = use_of(&image.file)? else {
        return Ok(None);
    };
    match mounts.into_iter().next() {
        Some(mount) => Ok(Some((device, mount))),
        None => {
            // Not mounted at all, or where the caller cannot see it: then it must not be touched.
            device.take_over()?;
            Ok(None)
        }
    }
}

//! Which loop device an image has: found by what the kernel says it refers to, never by a name, and never a second one.

use super::ioctl;
use crate::error::DiskError;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const CONTROL: &str = "/dev/loop-control";
const DEVICES: &str = "/sys/block";
/// Others look for a free device at the same time, and may take the one that was found.
const TRIES: usize = 64;
const FREEING_MAX: Duration = Duration::from_secs(1);
const POLL: Duration = Duration::from_millis(10);

/// An open loop device. The kernel frees it when it is neither open nor mounted any more.
pub(crate) struct Device {
    file: File,
    path: PathBuf,
}

/// The device that refers to an image, if one does.
pub(crate) fn of(image: &File) -> Result<Option<Device>, DiskError> {
    let image = image
        .metadata()
        .map_err(DiskError::io("reading", Path::new("an image")))?;
    let mut found = Vec::new();
    for path in in_use()? {
        let Some(device) = open(&path, false)? else {
            await_freed(&path);
            continue;
        };
        match ioctl::status(&device.file) {
            Ok(status) if (status.device, status.inode) == (image.dev(), image.ino()) => found.push(device),
            Ok(_) => {}
            Err(Errno::ENXIO) => {
                drop(device);
                await_freed(&path);
            }
            Err(error) => return Err(DiskError::io("asking", &path)(error)),
        }
    }
    let device = found.pop();
    if let (Some(device), Some(other)) = (&device, found.pop()) {
        return Err(DiskError::busy(format!(
            "both {} and {} refer to one image",
            other.path.display(),
            device.path.display()
        )));
    }
    Ok(device)
}

/// Devices that refer to a file.
fn in_use() -> Result<Vec<PathBuf>, DiskError> {
    let path = Path::new(DEVICES);
    let mut found = Vec::new();
    for entry in fs::read_dir(path).map_err(DiskError::io("reading", path))? {
        let entry = entry.map_err(DiskError::io("reading", path))?;
        let name = entry.file_name();
        let is_loop = name.to_string_lossy().starts_with("loop");
        if is_loop && refers(&entry.path()) {
            found.push(Path::new("/dev").join(name));
        }
    }
    Ok(found)
}

fn refers(block: &Path) -> bool {
    block.join("loop/backing_file").exists()
}

/// A device that is being freed no longer says which file it has, and still has it for a moment.
fn await_freed(path: &Path) {
    let block = Path::new(DEVICES).join(path.file_name().unwrap_or_default());
    let deadline = Instant::now() + FREEING_MAX;
    while refers(&block) && Instant::now() < deadline {
        std::thread::sleep(POLL);
    }
}

/// None when it is just being freed.
fn open(path: &Path, write: bool) -> Result<Option<Device>, DiskError> {
    match OpenOptions::new().read(true).write(write).open(path) {
        Ok(file) => Ok(Some(Device {
            file,
            path: path.to_owned(),
        })),
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) => Ok(None),
        Err(error) => Err(DiskError::io("opening", path)(error)),
    }
}

/// Takes a free device for an image, which must be open for writing.
pub(crate) fn configure(image: &File) -> Result<Device, DiskError> {
    let control = Path::new(CONTROL);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(control)
        .map_err(DiskError::io("opening", control))?;
    for _ in 0..TRIES {
        let number = ioctl::free_number(&file).map_err(DiskError::io("asking", control))?;
        let path = PathBuf::from(format!("/dev/loop{number}"));
        let Some(device) = open(&path, true)? else {
            continue;
        };
        match ioctl::configure(&device.file, image, ioctl::AUTOCLEAR | ioctl::DIRECT_IO) {
            Ok(()) => return Ok(device),
            Err(Errno::EBUSY) => {}
            Err(error) => return Err(DiskError::io("configuring", &path)(error)),
        }
    }
    Err(DiskError::busy("no loop device is free"))
}

/// Waits until no device refers to an image any more; the one that still does after the deadline.
pub(crate) fn gone(image: &File, deadline: Instant) -> Result<Option<Device>, DiskError> {
    loop {
        match of(image)? {
            Some(device) if Instant::now() >= deadline => return Ok(Some(device)),
            Some(device) => drop(device),
            None => return Ok(None),
        }
        std::thread::sleep(POLL);
    }
}

impl Device {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Its number, as in `st_dev` of what is mounted from it.
    pub(crate) fn number(&self) -> Result<u64, DiskError> {
        let found = self.file.metadata().map_err(DiskError::io("reading", &self.path))?;
        Ok(found.rdev())
    }

    /// Takes over a device that was left behind: only one that shows the whole image, for writing, and is not mounted
    /// in a namespace the caller cannot see.
    pub(crate) fn take_over(&self) -> Result<(), DiskError> {
        let asking = |error: Errno| DiskError::io("asking", &self.path)(error);
        let mut status = ioctl::status(&self.file).map_err(asking)?;
        if status.offset != 0 || status.size_limit != 0 || status.flags & ioctl::READ_ONLY != 0 {
            return Err(DiskError::busy(format!(
                "{} shows a part of the image, or shows it read-only",
                self.path.display()
            )));
        }
        let exclusive = OpenOptions::new()
            .read(true)
            .custom_flags(OFlag::O_EXCL.bits())
            .open(&self.path);
        match exclusive {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => return Err(self.mounted_elsewhere()),
            Err(error) => return Err(DiskError::io("opening", &self.path)(error)),
        }
        if status.flags & ioctl::AUTOCLEAR == 0 {
            status.flags |= ioctl::AUTOCLEAR;
            ioctl::set_status(&self.file, &status).map_err(asking)?;
        }
        self.set_capacity()
    }

    fn mounted_elsewhere(&self) -> DiskError {
        let number = self.number().unwrap_or_default();
        DiskError::Busy {
            what: format!("{} is in use outside this mount namespace", self.path.display()),
            holders: crate::holders::of(crate::holders::Held::Device {
                number,
                path: &self.path,
                files: None,
            }),
        }
    }

    pub(crate) fn set_capacity(&self) -> Result<(), DiskError> {
        ioctl::set_capacity(&self.file).map_err(DiskError::io("resizing", &self.path))
    }

    pub(crate) fn free(&self) -> Result<(), DiskError> {
        match ioctl::clear(&self.file) {
            Ok(()) | Err(Errno::ENXIO) => Ok(()),
            Err(error) => Err(DiskError::io("freeing", &self.path)(error)),
        }
    }
}

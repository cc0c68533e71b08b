//! Which programs make, check and grow each file system, with which arguments, and what their answers mean.

use super::device::Device;
use crate::disk::Filesystem;
use crate::error::DiskError;
use crate::program::{Program, exit};
use crate::uuid::Uuid;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::time::Duration;

const MIB: u64 = 1 << 20;

const E2FSPROGS: &str = "e2fsprogs";
const XFSPROGS: &str = "xfsprogs";
const BTRFS_PROGS: &str = "btrfs-progs";

const fn program(name: &'static str, package: &'static str) -> Program {
    Program { name, package }
}

impl Filesystem {
    /// What makes one.
    pub(crate) fn maker(self) -> Program {
        match self {
            Self::Ext4 => program("mkfs.ext4", E2FSPROGS),
            Self::Xfs => program("mkfs.xfs", XFSPROGS),
            Self::Btrfs => program("mkfs.btrfs", BTRFS_PROGS),
        }
    }

    /// Smallest image its maker takes.
    pub(crate) fn smallest(self) -> u64 {
        match self {
            Self::Ext4 => 8 * MIB,
            Self::Xfs => 300 * MIB,
            // The kernel resizes none to less.
            Self::Btrfs => 256 * MIB,
        }
    }

    /// Makes one in an image that was just created. Nothing is discarded: that would give back what is reserved.
    pub(crate) fn make(self, image: &Path, uuid: Uuid, limit: Duration) -> Result<(), DiskError> {
        let uuid = uuid.to_string();
        let uuid_of_xfs = format!("uuid={uuid}");
        let arguments: &[&str] = match self {
            // No block is kept back for root: all of the disk is the app's.
            Self::Ext4 => &["-q", "-F", "-b", "4096", "-m", "0", "-E", "nodiscard", "-U", &uuid],
            Self::Xfs => &["-q", "-K", "-s", "size=4096", "-m", &uuid_of_xfs],
            Self::Btrfs => &["-q", "-K", "-U", &uuid],
        };
        let mut arguments: Vec<&OsStr> = arguments.iter().map(OsStr::new).collect();
        arguments.push(image.as_os_str());
        self.maker().must(&arguments, limit)
    }

    /// Repairs what can be repaired without a question: what was not unmounted cleanly, or all of it if `full`. xfs and
    /// btrfs do that when they are mounted.
    pub(crate) fn check(self, device: &Device, image: &Path, full: bool, limit: Duration) -> Result<(), DiskError> {
        if self != Self::Ext4 {
            return Ok(());
        }
        let device = device.path();
        let how = if full { "-fp" } else { "-p" };
        let arguments = [how.as_ref(), device.as_os_str()];
        let ended = program("e2fsck", E2FSPROGS).run(&arguments, limit)?;
        match ended.code {
            // 1: errors were found and corrected (e2fsck(8)).
            Some(0 | 1) => Ok(()),
            // 16 and more: it was called wrongly, cancelled, or could not be loaded.
            Some(2..16) => Err(DiskError::damaged(
                image,
                format!("e2fsck: {}: {}", exit(ended.code), ended.output),
            )),
            code => Err(DiskError::Failed {
                doing: format!("e2fsck {}", device.display()),
                detail: format!("{}: {}", exit(code), ended.output),
            }),
        }
    }

    /// Whether the kernel lets the caller grow one that is mounted.
    pub(crate) fn grows_mounted(self) -> bool {
        self != Self::Ext4 || has_sys_resource()
    }

    /// Grows one that is not mounted, and was just checked in full.
    pub(crate) fn grow_unmounted(self, device: &Device, limit: Duration) -> Result<(), DiskError> {
        match self {
            Self::Ext4 => program("resize2fs", E2FSPROGS).must(&[device.path().as_os_str()], limit),
            Self::Xfs | Self::Btrfs => Ok(()),
        }
    }

    /// Grows a mounted one to the size of its device. Does nothing when it has that size.
    pub(crate) fn grow_mounted(self, device: &Device, at: &Path, limit: Duration) -> Result<(), DiskError> {
        let (device, at) = (device.path().as_os_str(), at.as_os_str());
        match self {
            Self::Ext4 => program("resize2fs", E2FSPROGS).must(&[device], limit),
            Self::Xfs => program("xfs_growfs", XFSPROGS).must(&["-d".as_ref(), at], limit),
            Self::Btrfs => {
                let arguments = ["filesystem".as_ref(), "resize".as_ref(), "max".as_ref(), at];
                program("btrfs", BTRFS_PROGS).must(&arguments, limit)
            }
        }
    }

    /// Options of its own. Freed blocks stay reserved: nothing is discarded.
    pub(crate) fn mount_options(self) -> &'static str {
        match self {
            Self::Ext4 => "errors=remount-ro,nodiscard",
            // A snapshot has the UUID of its disk and may be mounted beside it.
            Self::Xfs => "nouuid,nodiscard",
            Self::Btrfs => "nodiscard",
        }
    }
}

/// The capability without which ext4 refuses to grow while it is mounted (linux/capability.h).
fn has_sys_resource() -> bool {
    const SYS_RESOURCE: u32 = 24;
    let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = effective.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok());
    bits.is_some_and(|bits| bits >> SYS_RESOURCE & 1 == 1)
}

//! Which file system an image has, by what its own superblock says.

use crate::disk::Filesystem;
use crate::uuid::Uuid;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// All fields that are read lie in the first 512 bytes.
const LENGTH: usize = 512;
const EXT4_MAGIC: [u8; 2] = [0x53, 0xef];
const EXT4_64BIT: u32 = 0x80;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Superblock {
    pub uuid: Uuid,
    /// Bytes the file system takes of its image.
    pub size: u64,
}

/// None when there is no superblock of that kind.
pub(crate) fn read(image: &File, filesystem: Filesystem) -> io::Result<Option<Superblock>> {
    let offset = match filesystem {
        Filesystem::Ext4 => 1024,
        Filesystem::Xfs => 0,
        Filesystem::Btrfs => 64 << 10,
    };
    let mut bytes = [0; LENGTH];
    match image.read_exact_at(&mut bytes, offset) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    Ok(match filesystem {
        Filesystem::Ext4 => ext4(&bytes),
        Filesystem::Xfs => xfs(&bytes),
        Filesystem::Btrfs => btrfs(&bytes),
    })
}

fn take<const N: usize>(bytes: &[u8; LENGTH], at: usize) -> [u8; N] {
    std::array::from_fn(|index| bytes[at + index])
}

/// `struct ext4_super_block`.
fn ext4(bytes: &[u8; LENGTH]) -> Option<Superblock> {
    let number = |at| u32::from_le_bytes(take(bytes, at));
    let high = if number(0x60) & EXT4_64BIT == 0 {
        0
    } else {
        number(0x150)
    };
    let blocks = u64::from(high) << 32 | u64::from(number(0x04));
    (take(bytes, 0x38) == EXT4_MAGIC).then_some(Superblock {
        uuid: Uuid::from_bytes(take(bytes, 0x68)),
        size: blocks.saturating_mul(1024_u64.checked_shl(number(0x18)).unwrap_or_default()),
    })
}

/// `struct xfs_dsb`.
fn xfs(bytes: &[u8; LENGTH]) -> Option<Superblock> {
    let block = u64::from(u32::from_be_bytes(take(bytes, 4)));
    (take(bytes, 0) == *b"XFSB").then_some(Superblock {
        uuid: Uuid::from_bytes(take(bytes, 32)),
        size: u64::from_be_bytes(take(bytes, 8)).saturating_mul(block),
    })
}

/// `struct btrfs_super_block`.
fn btrfs(bytes: &[u8; LENGTH]) -> Option<Superblock> {
    (take(bytes, 0x40) == *b"_BHRfS_M").then_some(Superblock {
        uuid: Uuid::from_bytes(take(bytes, 0x20)),
        size: u64::from_le_bytes(take(bytes, 0x70)),
    })
}

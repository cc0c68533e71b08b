//! How one image gets the bytes of another: by sharing blocks, or by copying those that are not zero.

use super::ioctl;
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::unistd::{Whence, lseek64};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::time::Instant;

const PIECE: u64 = 1 << 20;

/// Shares the blocks, which takes no time. False: this file system cannot.
pub(crate) fn share(from: &File, to: &File) -> io::Result<bool> {
    match ioctl::clone(from, to) {
        Ok(()) => Ok(true),
        Err(Errno::EOPNOTSUPP | Errno::ENOTTY | Errno::EXDEV | Errno::EINVAL) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Reserves every block of a file, also those it shares with another one.
pub(crate) fn reserve(file: &File, length: u64) -> io::Result<()> {
    let length = libc::off_t::try_from(length).map_err(io::Error::other)?;
    match fallocate(file, FallocateFlags::FALLOC_FL_UNSHARE_RANGE, 0, length) {
        Err(Errno::EOPNOTSUPP) => Ok(fallocate(file, FallocateFlags::empty(), 0, length)?),
        result => Ok(result?),
    }
}

/// Copies the first `length` bytes to a file that has only zeros. False: the deadline passed before it was done.
pub(crate) fn bytes(from: &File, to: &File, length: u64, deadline: Instant) -> io::Result<bool> {
    let mut buffer = vec![0; usize::try_from(PIECE).map_err(io::Error::other)?];
    let mut at = 0;
    while let Some(start) = next(from, at, Whence::SeekData)?.filter(|start| *start < length) {
        let end = next(from, start, Whence::SeekHole)?.unwrap_or(length).min(length);
        at = start;
        while at < end {
            if Instant::now() >= deadline {
                return Ok(false);
            }
            let piece = &mut buffer[..usize::try_from((end - at).min(PIECE)).map_err(io::Error::other)?];
            from.read_exact_at(piece, at)?;
            if piece.iter().any(|byte| *byte != 0) {
                to.write_all_at(piece, at)?;
            }
            at += piece.len() as u64;
        }
    }
    Ok(true)
}

fn next(file: &File, at: u64, whence: Whence) -> io::Result<Option<u64>> {
    let at = i64::try_from(at).map_err(io::Error::other)?;
    match lseek64(file, at, whence) {
        Ok(found) => Ok(Some(found.unsigned_abs())),
        // Nothing but a hole to the end.
        Err(Errno::ENXIO) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

//! Decides how a task waits until a descriptor can be read.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Resolves when `fd` can be read: at once if it can already. Nothing is read.
pub(crate) async fn readable(fd: impl AsFd) -> io::Result<()> {
    let own: OwnedFd = fd.as_fd().try_clone_to_owned()?;
    // SAFETY: the descriptor is a copy that only this `AsyncFd` owns; it stays open and the same until both are dropped.
    let registered = unsafe { AsyncFd::register_with_interest(own, Interest::READABLE) }.map_err(io::Error::from)?;
    registered.readable().await.map(drop)
}

//! Whether a client that waits is still there.

use std::os::fd::{BorrowedFd, OwnedFd, RawFd};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Returns when the client of an open connection closes it. Reads nothing; never returns if that cannot be watched.
pub(super) async fn hung_up(fd: RawFd) {
    if let Err(error) = watch(fd).await {
        tracing::debug!(%error, "cannot watch a waiting client");
        std::future::pending::<()>().await;
    }
}

async fn watch(fd: RawFd) -> std::io::Result<()> {
    // SAFETY: the caller's session owns the connection, and waits for this future: the descriptor is open meanwhile.
    let connection: OwnedFd = unsafe { BorrowedFd::borrow_raw(fd) }.try_clone_to_owned()?;
    // Interest in reading includes the other side's shutdown, which arrives also behind unread bytes.
    // SAFETY: the descriptor is owned by what is registered, so it stays open and the same.
    let watched = unsafe { AsyncFd::register_with_interest(connection, Interest::READABLE) }?;
    loop {
        let mut ready = watched.readable().await?;
        if ready.ready().is_read_closed() {
            return Ok(());
        }
        ready.clear_ready();
    }
}

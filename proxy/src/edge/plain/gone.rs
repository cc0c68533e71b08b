//! Whether a client that waits is still there (docs/adr/0027-half-closed-clients.md).
//!
//! The end of what a client sends says nothing: it may have finished asking, or be gone. A reset says that it is gone. Only a
//! word to it brings the reset about, and HTTP/1.1 has one that means nothing: `100 Continue`.

use super::wire;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::TcpStream;

/// How long a client that has finished sending waits without that word. Most have their answer by then.
const QUIET: Duration = Duration::from_secs(1);
const WORD: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Returns when the client is gone. Reads nothing; never returns if that cannot be seen. `may_ask`: it speaks HTTP/1.1, and was
/// told nothing of its answer yet.
pub async fn gone(client: &TcpStream, may_ask: bool) {
    let asked = async {
        if !may_ask {
            std::future::pending::<()>().await;
        }
        if let Err(error) = finished_sending(client).await {
            tracing::debug!(%error, "cannot watch a waiting client");
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(QUIET).await;
        // Whether it arrives is what is asked. Where there is no room for all of it, its client takes nothing, and half a word would
        // spoil what comes behind.
        if client.try_write(WORD).is_ok_and(|count| count == WORD.len()) {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        () = wire::broken(client) => {}
        () = asked => {}
    }
}

/// Waits for the end of what the client sends, which is seen also behind bytes that nobody has read.
async fn finished_sending(client: &TcpStream) -> io::Result<()> {
    if client.ready(Interest::READABLE).await?.is_read_closed() {
        return Ok(());
    }
    // Something is unread, as long as which the client's own registration says that it is readable.
    let same: OwnedFd = client.as_fd().try_clone_to_owned()?;
    // SAFETY: the descriptor is owned by what is registered, so it stays open and the same.
    let watched = unsafe { AsyncFd::register_with_interest(same, Interest::READABLE) }?;
    loop {
        let mut ready = watched.readable().await?;
        if ready.ready().is_read_closed() {
            return Ok(());
        }
        ready.clear_ready();
    }
}

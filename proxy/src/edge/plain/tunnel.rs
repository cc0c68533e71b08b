//! Bytes both ways once a connection was upgraded: as long as both sides like, with a buffer only while something is on its way.

use super::wire;
use bytes::{Buf, BytesMut};
use nix::sys::socket::{Shutdown, shutdown};
use std::io;
use std::os::fd::AsRawFd as _;
use std::time::Duration;
use tokio::net::TcpStream;

/// What a client may still say once the sandbox has ended a tunnel.
const LAST_WORD: Duration = Duration::from_secs(5);
/// Passed on at a time.
const STEP: usize = 16 * 1024;

/// Passes bytes on both ways until both sides have finished, or one is broken. `early` came behind the heads, from the client and from the
/// sandbox. How many bytes came from the client, and went to it.
pub async fn run(client: &TcpStream, sandbox: &TcpStream, early: [BytesMut; 2], stall: Duration) -> (u64, u64) {
    let [from_client, from_sandbox] = early;
    let (mut up, mut down) = (0, 0);
    let both = async {
        let mut upward = std::pin::pin!(pass(client, sandbox, from_client, (stall, &mut up)));
        let mut downward = std::pin::pin!(pass(sandbox, client, from_sandbox, (stall, &mut down)));
        tokio::select! {
            ended = &mut upward => {
                ended?;
                downward.await
            }
            ended = &mut downward => {
                ended?;
                // A client that stays does not keep the place of a tunnel that is over.
                tokio::time::timeout(stall.min(LAST_WORD), upward).await.unwrap_or(Ok(()))
            }
        }
    };
    if let Err(error) = both.await {
        tracing::debug!(%error, "a tunnel broke");
    }
    (up, down)
}

async fn pass(
    from: &TcpStream,
    to: &TcpStream,
    mut early: BytesMut,
    (stall, count): (Duration, &mut u64),
) -> io::Result<()> {
    loop {
        if !early.is_empty() {
            wire::write(to, &[&early], stall).await?;
            *count += early.len() as u64;
            early.advance(early.len());
        }
        // No buffer while it is silent.
        early = BytesMut::new();
        from.readable().await?;
        early.reserve(STEP);
        if wire::read(from, &mut early, STEP).await? == 0 {
            // The other way may go on.
            return match shutdown(to.as_raw_fd(), Shutdown::Write) {
                Ok(()) | Err(nix::errno::Errno::ENOTCONN) => Ok(()),
                Err(error) => Err(error.into()),
            };
        }
    }
}

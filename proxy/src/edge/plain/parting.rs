//! How a connection ends on which no request is under way: its client may be sending one at this moment, and shall lose no more than HTTP
//! allows. What has come is served; who comes later meets an end, and not a reset.

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, Shutdown, recv, shutdown};
use std::io;
use std::os::fd::AsRawFd as _;
use std::time::Duration;
use tokio::net::TcpStream;

/// How long a client may take to see the end and close its side. One that only sees it when it sends its next request, later than this,
/// is reset, as by any server.
pub const MOMENT: Duration = Duration::from_secs(1);
/// The most that is read and dropped of one that goes on sending.
const DROPPED: usize = 64 * 1024;

/// Says that the connection ends, and waits for the client to agree, for `longest` at most. True if a request came before that was said: it
/// is to be served, and nothing was said.
///
/// Between the last look and the word there is no time in which the runtime does anything else. Such a request, and one that was on its way,
/// is unanswered: its client sees the end of a connection before any answer, which means that it was not served (RFC 9112 §9.3.1, §9.6).
pub async fn part(stream: &TcpStream, longest: Duration) -> bool {
    let mut byte = [0];
    match recv(
        stream.as_raw_fd(),
        &mut byte,
        MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT,
    ) {
        Ok(1..) => return true,
        Err(Errno::EAGAIN) => {}
        // It has gone, or broken.
        Ok(0) | Err(_) => return false,
    }
    if shutdown(stream.as_raw_fd(), Shutdown::Write).is_ok() {
        // Who goes on sending then is reset.
        let _ = tokio::time::timeout(longest, until_closed(stream)).await;
    }
    false
}

/// A close with unread bytes would be a reset, which overtakes the end that was said.
async fn until_closed(stream: &TcpStream) {
    let mut dropped = 0;
    while dropped < DROPPED && stream.readable().await.is_ok() {
        let mut bytes = [0; 1024];
        match stream.try_read(&mut bytes) {
            Ok(0) => return,
            Ok(count) => dropped += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    /// A time that no test waits for.
    const LONG: Duration = Duration::from_secs(3600);

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        (client, server)
    }

    #[tokio::test]
    async fn i9_a_request_that_has_come_is_served_whatever_the_runtime_knows_of_it() {
        let (mut client, server) = pair().await;
        client.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
        // Not asked of the runtime: nobody has waited for this connection.
        while recv(server.as_raw_fd(), &mut [0], MsgFlags::MSG_PEEK).is_err() {}
        assert!(part(&server, LONG).await);
        assert!(server.try_write(b"HTTP/1.1 200 OK\r\n").is_ok(), "nothing was ended");
    }

    #[tokio::test]
    async fn i9_one_that_comes_too_late_meets_the_end_and_no_reset() {
        let (mut client, server) = pair().await;
        let parts = tokio::spawn(async move { part(&server, LONG).await });
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0, "the end is said");
        for _ in 0..3 {
            client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
            assert_eq!(client.read(&mut [0]).await.expect("no reset"), 0);
        }
        drop(client);
        assert!(!parts.await.unwrap());
    }

    #[tokio::test]
    async fn who_does_not_agree_is_waited_for_no_longer_than_a_moment_and_who_sends_on_no_longer_either() {
        let (client, server) = pair().await;
        assert!(!part(&server, Duration::from_millis(1)).await);
        drop((client, server));
        let (mut client, server) = pair().await;
        let parts = tokio::spawn(async move { part(&server, LONG).await });
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
        while client.write_all(&[b'x'; 4096]).await.is_ok() {}
        assert!(!parts.await.unwrap(), "it was dropped after so much");
    }

    #[tokio::test]
    async fn of_one_that_has_gone_nothing_is_waited_for() {
        let (client, server) = pair().await;
        drop(client);
        server.readable().await.unwrap();
        assert!(!part(&server, LONG).await);
    }
}

//! How connections end on which no request is under way, at the time when those that are under way are cut.

use super::*;
use crate::listen::{House, Server};
use nix::sys::socket::{MsgFlags, recv};
use std::os::fd::AsRawFd as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

/// A time that no test waits for.
const LONG: Duration = Duration::from_secs(3600);
const PATIENCE: Duration = Duration::from_secs(60);

/// Serves nothing.
struct Taken(mpsc::UnboundedSender<Connection>);

impl Server for Taken {
    fn serve(self: &Arc<Self>, connection: Connection) {
        self.0.send(connection).unwrap();
    }
}

/// A connection of a proxy whose time for requests is over, and its client.
async fn cut() -> (Place, TcpStream, TcpStream) {
    let house = House::uncounted(1);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (server, _) = listener.accept().await.unwrap();
    let (taken, mut takes) = mpsc::unbounded_channel();
    listen::take_private(server, &house, &Arc::new(Taken(taken)))
        .await
        .unwrap();
    let Connection { place, stream, .. } = takes.recv().await.unwrap();
    house.cut_requests();
    (place, stream, client)
}

/// Ends as `ends` has it, while the client looks for the end and then goes.
async fn parts(ends: impl Future<Output = bool>, mut client: TcpStream) -> bool {
    let looks = async {
        assert_eq!(client.read(&mut [0]).await.expect("no reset"), 0);
        // One that crossed the end.
        client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        drop(client);
    };
    let both = async { tokio::join!(ends, looks) };
    let (asked, ()) = tokio::time::timeout(PATIENCE, both).await.expect("the end is said");
    asked
}

#[tokio::test]
async fn i9_when_requests_are_cut_a_connection_without_one_is_told_its_end_before_it_is_closed() {
    let (place, server, client) = cut().await;
    assert!(!parts(is_asked_at_last(&server, &place), client).await);
    let (place, server, client) = cut().await;
    let moment = Instant::now() + LONG;
    assert!(!parts(is_asked_until(moment, &server, &place), client).await);
}

#[tokio::test]
async fn i9_when_requests_are_cut_one_that_has_come_is_answered() {
    for at_last in [true, false] {
        let (place, server, mut client) = cut().await;
        client.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
        while recv(server.as_raw_fd(), &mut [0], MsgFlags::MSG_PEEK).is_err() {}
        let asked = match at_last {
            true => is_asked_at_last(&server, &place).await,
            false => is_asked_until(Instant::now() + LONG, &server, &place).await,
        };
        assert!(asked);
    }
}

#[tokio::test]
async fn i9_when_requests_are_cut_an_answer_is_not_overtaken_by_a_reset() {
    let (place, server, mut client) = cut().await;
    client.write_all(b"the rest of a request").await.unwrap();
    server.try_write(b"HTTP/1.1 504 Gateway Timeout\r\n\r\n").unwrap();
    let reads = async {
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.expect("no reset");
        drop(client);
        answer.len()
    };
    let nothing = BytesMut::new();
    let both = async { tokio::join!(finish(&server, &nothing, &place, true), reads) };
    let ((), length) = tokio::time::timeout(PATIENCE, both).await.expect("the end is said");
    assert_eq!(length, 32);
}

//! One exchange each of the kinds that take a while, with the sample app's endpoints; every deviation is an error.

use std::io;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::http::{Connection, Response, WebSocket};

/// Between two chunks, events or messages, so that an exchange is under way for a while.
const GAP: Duration = Duration::from_millis(20);
/// Chunks of an upload, events read of a stream, messages of a WebSocket.
const PIECES: usize = 5;

/// Where to, and as which host.
#[derive(Clone)]
pub struct Target {
    pub address: SocketAddr,
    pub host: String,
}

/// One exchange; the text is like no other's, so that a mixed-up echo is noticed.
pub type Turn = fn(&Target, &str) -> io::Result<()>;

/// Sends a body in chunks that grow, and compares what comes back.
pub fn upload(target: &Target, text: &str) -> io::Result<()> {
    let mut connection = Connection::open(target.address)?;
    let mut body = Vec::new();
    let sent = send_chunks(&mut connection, target, text, &mut body);
    // A server that refuses early may close before everything was sent: what it answered tells more.
    let response = connection.response().or_else(|error| sent.and(Err(error)))?;
    expect_200(&response)?;
    if response.body != body {
        let (sent, back) = (String::from_utf8_lossy(&body), response.text());
        return Err(io::Error::other(format!("{sent:?} was sent and {back:?} came back")));
    }
    Ok(())
}

fn send_chunks(connection: &mut Connection, target: &Target, text: &str, body: &mut Vec<u8>) -> io::Result<()> {
    connection.request("POST", &target.host, "/echo", "Transfer-Encoding: chunked\r\n")?;
    for n in 1..=PIECES {
        let piece = format!("{text} chunk {n}; ").repeat(n * n);
        connection.send(format!("{:x}\r\n{piece}\r\n", piece.len()).as_bytes())?;
        body.extend_from_slice(piece.as_bytes());
        thread::sleep(GAP);
    }
    connection.send(b"0\r\n\r\n")
}

/// Reads the first events of a stream that would go on for seconds, and leaves.
pub fn events(target: &Target, _: &str) -> io::Result<()> {
    let mut connection = Connection::open(target.address)?;
    let path = format!("/sse?n=100&gap_ms={}", GAP.as_millis());
    connection.request("GET", &target.host, &path, "Accept: text/event-stream\r\n")?;
    let head = connection.head()?;
    expect_200(&head)?;
    let (mut text, mut events) = (String::new(), Vec::new());
    connection.body(&head, |piece| {
        text.push_str(&String::from_utf8_lossy(piece));
        while let Some((event, rest)) = text.split_once("\n\n") {
            events.push(event.to_owned());
            text = rest.to_owned();
        }
        events.len() < PIECES
    })?;
    if events.len() < PIECES {
        return Err(io::Error::other(format!("the stream ended after {events:?}")));
    }
    let parse = |event: &String| -> Value {
        let data = event.strip_prefix("data: ").unwrap_or_default();
        serde_json::from_str(data).unwrap_or_default()
    };
    let parsed: Vec<Value> = events.iter().map(parse).collect();
    let in_order = parsed.iter().enumerate().all(|(n, event)| event["n"] == n);
    let of_one = parsed.iter().all(|event| event["sandbox"] == parsed[0]["sandbox"]);
    if in_order && of_one {
        return Ok(());
    }
    Err(io::Error::other(format!("not one stream in order: {events:?}")))
}

/// Has several messages echoed, and closes with the other side's consent.
pub fn websocket(target: &Target, text: &str) -> io::Result<()> {
    let mut socket = WebSocket::open(target.address, &target.host, "/ws")?;
    for n in 1..=PIECES {
        let message = format!("{text} message {n}; ").repeat(n * n);
        let back = socket.echo(&message)?;
        if back != message {
            return Err(io::Error::other(format!("{message:?} was sent and {back:?} came back")));
        }
        thread::sleep(GAP);
    }
    socket.close()
}

fn expect_200(response: &Response) -> io::Result<()> {
    match response.status {
        200 => Ok(()),
        status => Err(io::Error::other(format!("status {status}, {}", response.code()))),
    }
}

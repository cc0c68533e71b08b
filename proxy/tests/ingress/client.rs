//! An HTTP client that shows every byte: one connection, one request after the other.

use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Longer than anything here takes, also where another process has nearly all of the machine; reached only when something
/// hangs.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct Client {
    pub stream: TcpStream,
    unread: Vec<u8>,
}

#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub head: String,
    pub body: String,
    /// Whether the body came whole, as its head says.
    pub complete: bool,
}

impl Response {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        lines
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
    }

    pub fn error(&self) -> &str {
        self.header("x-miren-error").unwrap_or_default()
    }
}

/// A GET for `path` of `host`.
pub fn get(host: &str, path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")
}

/// A POST of `body`.
pub fn post(host: &str, path: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// One request on a connection of its own.
pub async fn ask(address: SocketAddr, request: &str) -> Response {
    Client::connect(address).await.ask(request).await
}

impl Client {
    pub async fn connect(address: SocketAddr) -> Self {
        Self {
            stream: TcpStream::connect(address).await.unwrap(),
            unread: Vec::new(),
        }
    }

    pub async fn ask(&mut self, request: &str) -> Response {
        self.send(request).await;
        self.response().await
    }

    pub async fn send(&mut self, bytes: &str) {
        self.stream.write_all(bytes.as_bytes()).await.unwrap();
    }

    /// The next response. Panics if the connection closes before its head.
    pub async fn response(&mut self) -> Response {
        tokio::time::timeout(PATIENCE, self.read_response())
            .await
            .expect("no response in time")
    }

    async fn read_response(&mut self) -> Response {
        let head = self.read_head().await;
        let status = head[9..12].parse().unwrap();
        let mut response = Response {
            status,
            head,
            body: String::new(),
            complete: true,
        };
        if status == 101 {
            return response;
        }
        let length: Option<usize> = response.header("content-length").map(|length| length.parse().unwrap());
        let chunked = response.header("transfer-encoding") == Some("chunked");
        (response.body, response.complete) = match (length, chunked) {
            (Some(length), _) => self.read_exactly(length).await,
            (None, true) => self.read_chunks().await,
            (None, false) => (String::new(), true),
        };
        response
    }

    /// The head of the next response; its body stays unread.
    pub async fn read_head(&mut self) -> String {
        let end = self
            .find(b"\r\n\r\n")
            .await
            .expect("the connection closed before a response");
        let head: Vec<u8> = self.unread.drain(..end + 4).collect();
        String::from_utf8(head).unwrap()
    }

    /// Reads until `pattern` is there; `None` if the connection closes before.
    async fn find(&mut self, pattern: &[u8]) -> Option<usize> {
        loop {
            if let Some(at) = self.unread.windows(pattern.len()).position(|window| window == pattern) {
                return Some(at);
            }
            if !self.more().await {
                return None;
            }
        }
    }

    /// Reads and drops everything up to and including `text`; false if the connection closes before.
    pub async fn read_past(&mut self, text: &str) -> bool {
        let found = tokio::time::timeout(PATIENCE, self.find(text.as_bytes()))
            .await
            .expect("nothing in time");
        let Some(at) = found else { return false };
        self.unread.drain(..at + text.len());
        true
    }

    async fn more(&mut self) -> bool {
        let mut buffer = [0; 16 * 1024];
        match self.stream.read(&mut buffer).await {
            Ok(0) | Err(_) => false,
            Ok(count) => {
                self.unread.extend_from_slice(&buffer[..count]);
                true
            }
        }
    }

    async fn read_exactly(&mut self, length: usize) -> (String, bool) {
        while self.unread.len() < length && self.more().await {}
        let got = length.min(self.unread.len());
        let body: Vec<u8> = self.unread.drain(..got).collect();
        (String::from_utf8(body).unwrap(), got == length)
    }

    async fn read_chunks(&mut self) -> (String, bool) {
        let mut body = String::new();
        loop {
            let Some(end) = self.find(b"\r\n").await else {
                return (body, false);
            };
            let line: Vec<u8> = self.unread.drain(..end + 2).collect();
            let size = usize::from_str_radix(std::str::from_utf8(&line[..end]).unwrap(), 16).unwrap();
            let (chunk, whole) = self.read_exactly(size + 2).await;
            body.push_str(chunk.trim_end_matches("\r\n"));
            if size == 0 || !whole {
                return (body, whole);
            }
        }
    }

    /// Waits until the other side closes; anything it still sends is dropped.
    pub async fn closed(&mut self) {
        let end = async { while self.more().await {} };
        tokio::time::timeout(PATIENCE, end)
            .await
            .expect("the connection stays open");
    }
}

impl Client {
    /// Sends bytes that need not be text. False when the other side is gone.
    pub async fn push(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).await.is_ok()
    }

    /// The next response; none if the connection closes or breaks before one.
    pub async fn answer(&mut self) -> Option<Response> {
        let head = tokio::time::timeout(PATIENCE, self.find(b"\r\n\r\n"));
        head.await.expect("neither answered nor closed")?;
        Some(self.response().await)
    }

    /// Returns when a response has come, or the connection is closed; takes nothing, and may be given up at any time.
    pub async fn is_answered(&mut self) {
        self.find(b"\r\n\r\n").await;
    }

    /// So many bytes; fewer if the connection closes before.
    pub async fn bytes(&mut self, count: usize) -> Vec<u8> {
        let there = async { while self.unread.len() < count && self.more().await {} };
        tokio::time::timeout(PATIENCE, there).await.expect("no bytes in time");
        let count = count.min(self.unread.len());
        self.unread.drain(..count).collect()
    }

    /// How much has come and was not asked for yet.
    pub fn unread(&self) -> usize {
        self.unread.len()
    }
}

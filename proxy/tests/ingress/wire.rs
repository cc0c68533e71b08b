//! A client of bytes: it sends what it is told to, ends as clients do, and tells of each answer what came and how it ended.

use crate::client::PATIENCE;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// An answer as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub head: Vec<u8>,
    /// Without chunk sizes, where they were said to be in it.
    pub body: Vec<u8>,
    /// Whether the body came to the end that the head told of.
    pub whole: bool,
}

impl Answer {
    pub fn status(&self) -> u16 {
        String::from_utf8_lossy(&self.head[9..12]).parse().unwrap_or_default()
    }

    pub fn values(&self, name: &str) -> Vec<Vec<u8>> {
        values(&self.head, name)
    }

    /// In short, to be compared: the status, what is wrong with it, and the body.
    pub fn tell(&self) -> String {
        let status = self.status();
        let framings = self.values("content-length").len() + self.values("transfer-encoding").len();
        let length = self.body.len();
        let text = match std::str::from_utf8(&self.body) {
            Ok(text) if length <= 400 => text.to_owned(),
            _ => format!("({length} bytes)"),
        };
        match (framings, self.whole, status) {
            (2.., ..) => format!("{status} with {framings} words on its length"),
            (_, false, _) => format!("broken {status} {text}"),
            // What the proxy says of it itself, in words, is not of interest here.
            (.., 400..) if !self.values("x-miren-error").is_empty() => status.to_string(),
            _ => format!("{status} {text}").trim_end().to_owned(),
        }
    }

    fn is_chunked(&self) -> bool {
        self.values("transfer-encoding")
            .iter()
            .any(|coding| coding.eq_ignore_ascii_case(b"chunked"))
    }

    fn length(&self) -> Option<usize> {
        let first = self.values("content-length").into_iter().next()?;
        String::from_utf8_lossy(&first).parse().ok()
    }
}

/// The values of a header in a head, without the blanks around them, in order.
pub fn values(head: &[u8], name: &str) -> Vec<Vec<u8>> {
    let of_name = |(key, value): (Vec<u8>, Vec<u8>)| key.eq_ignore_ascii_case(name.as_bytes()).then_some(value);
    headers(head).into_iter().filter_map(of_name).collect()
}

/// The headers of a head: names as they were written, and values.
pub fn headers(head: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let lines = head.split(|byte| *byte == b'\n').skip(1);
    let pairs = lines.filter_map(|line| {
        let at = line.iter().position(|byte| *byte == b':')?;
        Some((line[..at].to_vec(), line[at + 1..].trim_ascii().to_vec()))
    });
    pairs.collect()
}

pub struct Wire {
    stream: TcpStream,
    unread: Vec<u8>,
    /// How reading ended, once it did: as the other side wished, or broken off.
    ended: Option<bool>,
}

impl Wire {
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        // What is sent apart is to leave apart.
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            unread: Vec::new(),
            ended: None,
        }
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Sends as much of it as the other side takes.
    pub async fn offer(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(bytes.as_ref()).await;
    }

    /// Says that nothing more will be sent, and goes on listening.
    pub async fn half_close(&mut self) {
        self.stream.shutdown().await.unwrap();
    }

    /// Goes away as a client does that is killed, or has no use for an answer: the other side gets a reset.
    pub fn reset(self) {
        self.stream.set_zero_linger().unwrap();
    }

    /// The next answer, to anything but HEAD; `None` if the connection ends before its head is whole.
    pub async fn answer(&mut self) -> Option<Answer> {
        self.answer_to("GET").await
    }

    /// The next answer, in short. What does not come in time is told as that.
    pub async fn tell(&mut self) -> String {
        self.tell_of("GET").await
    }

    pub async fn tell_of(&mut self, method: &str) -> String {
        match tokio::time::timeout(PATIENCE, self.read(method)).await {
            Ok(Some(answer)) => answer.tell(),
            Ok(None) => "closed".to_owned(),
            Err(_) => format!("nothing whole in time, but {}", self.unread.escape_ascii()),
        }
    }

    pub async fn answer_to(&mut self, method: &str) -> Option<Answer> {
        let answer = tokio::time::timeout(PATIENCE, self.read(method)).await;
        answer.unwrap_or_else(|_| panic!("no answer in time, but {}", self.unread.escape_ascii()))
    }

    async fn read(&mut self, method: &str) -> Option<Answer> {
        let end = self.find(b"\r\n\r\n").await? + 4;
        let mut answer = Answer {
            head: self.unread.drain(..end).collect(),
            body: Vec::new(),
            whole: true,
        };
        let status = answer.status();
        if method == "HEAD" || status < 200 || status == 204 || status == 304 {
            return Some(answer);
        }
        (answer.body, answer.whole) = match answer.length() {
            _ if answer.is_chunked() => self.chunks().await,
            Some(length) => self.exactly(length).await,
            None => self.rest().await,
        };
        Some(answer)
    }

    /// Waits until the other side ends the connection; what came until then, and whether it ended rather than broke off.
    pub async fn rest(&mut self) -> (Vec<u8>, bool) {
        let end = async { while self.more().await {} };
        tokio::time::timeout(PATIENCE, end)
            .await
            .expect("the connection stays open");
        (std::mem::take(&mut self.unread), self.ended == Some(true))
    }

    /// Waits for so many more bytes, and leaves them to be read.
    pub async fn arrived(&mut self, count: usize) {
        let come = async { while self.unread.len() < count && self.more().await {} };
        tokio::time::timeout(PATIENCE, come).await.expect("nothing in time");
        assert!(self.unread.len() >= count, "only {}", self.unread.escape_ascii());
    }

    /// Reads and drops everything up to and including this; false if the connection ends before.
    pub async fn read_past(&mut self, pattern: &[u8]) -> bool {
        let found = tokio::time::timeout(PATIENCE, self.find(pattern)).await;
        let found = found.unwrap_or_else(|_| panic!("nothing in time but {}", self.unread.escape_ascii()));
        let Some(at) = found else { return false };
        self.unread.drain(..at + pattern.len());
        true
    }

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

    async fn more(&mut self) -> bool {
        if self.ended.is_some() {
            return false;
        }
        let mut buffer = [0; 16 * 1024];
        match self.stream.read(&mut buffer).await {
            Ok(0) => self.ended = Some(true),
            Err(_) => self.ended = Some(false),
            Ok(count) => self.unread.extend_from_slice(&buffer[..count]),
        }
        self.ended.is_none()
    }

    async fn exactly(&mut self, length: usize) -> (Vec<u8>, bool) {
        while self.unread.len() < length && self.more().await {}
        let got = length.min(self.unread.len());
        (self.unread.drain(..got).collect(), got == length)
    }

    async fn chunks(&mut self) -> (Vec<u8>, bool) {
        let mut body = Vec::new();
        loop {
            let Some(end) = self.find(b"\r\n").await else {
                return (body, false);
            };
            let line: Vec<u8> = self.unread.drain(..end + 2).collect();
            let size = String::from_utf8_lossy(&line[..end]).into_owned();
            let size = usize::from_str_radix(size.split(';').next().unwrap_or_default(), 16)
                .unwrap_or_else(|_| panic!("a client cannot read the chunk size {}", line.escape_ascii()));
            if size == 0 {
                return (body, self.trailers().await);
            }
            let (mut chunk, whole) = self.exactly(size + 2).await;
            chunk.truncate(size);
            body.append(&mut chunk);
            if !whole {
                return (body, false);
            }
        }
    }

    /// Reads past the lines after the last chunk, and the empty one that ends them.
    async fn trailers(&mut self) -> bool {
        loop {
            let Some(end) = self.find(b"\r\n").await else {
                return false;
            };
            self.unread.drain(..end + 2);
            if end == 0 {
                return true;
            }
        }
    }
}

/// One request on a connection of its own, and its answer.
pub async fn exchange(address: SocketAddr, request: impl AsRef<[u8]>) -> Option<Answer> {
    let mut wire = Wire::connect(address).await;
    wire.offer(request).await;
    wire.answer().await
}

/// The same, in short.
pub async fn told(address: SocketAddr, request: impl AsRef<[u8]>) -> String {
    let mut wire = Wire::connect(address).await;
    wire.offer(request).await;
    wire.tell().await
}

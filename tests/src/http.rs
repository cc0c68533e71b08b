//! A plain HTTP/1.1 client that sends exactly the bytes it is told to, well-formed or not.

use nix::sys::socket::{setsockopt, sockopt};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

mod websocket;

pub use websocket::WebSocket;

/// Longest silence of a server that a test puts up with.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// One answer, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Response {
    /// First header of that name, in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Field of a JSON body, empty when it has none.
    pub fn field(&self, name: &str) -> String {
        let value: serde_json::Value = serde_json::from_slice(&self.body).unwrap_or_default();
        value[name]
            .as_str()
            .map_or_else(|| value[name].to_string(), str::to_owned)
    }

    /// `X-Miren-Error`: why the ingress itself answered.
    pub fn code(&self) -> &str {
        self.header("x-miren-error").unwrap_or_default()
    }
}

/// One connection to the ingress or to an app.
pub struct Connection {
    reader: BufReader<TcpStream>,
}

/// How the end of a body is told.
enum Framing {
    None,
    Length(u64),
    Chunked,
    Close,
}

impl Connection {
    pub fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            reader: BufReader::new(stream),
        })
    }

    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.reader.get_mut().write_all(bytes)
    }

    /// Says that nothing more will be sent.
    pub fn finish(&mut self) -> io::Result<()> {
        self.reader.get_mut().shutdown(Shutdown::Write)
    }

    /// Goes away and says so: whoever only closes may still listen, for all that the other side knows.
    pub fn reset(self) -> io::Result<()> {
        let at_once = libc::linger {
            l_onoff: 1,
            l_linger: 0,
        };
        Ok(setsockopt(self.reader.get_ref(), sockopt::Linger, &at_once)?)
    }

    /// Sends a request without a body.
    pub fn request(&mut self, method: &str, host: &str, path: &str, headers: &str) -> io::Result<()> {
        self.send(format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n{headers}\r\n").as_bytes())
    }

    /// The head of the next answer, with an empty body.
    pub fn head(&mut self) -> io::Result<Response> {
        let line = self.line()?;
        let status = line.split(' ').nth(1).and_then(|word| word.parse().ok());
        let status = status.ok_or_else(|| invalid(format!("not a status line: {line:?}")))?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            match line.split_once(':') {
                Some((name, value)) => headers.push((name.to_ascii_lowercase(), value.trim().to_owned())),
                None if line.is_empty() => {
                    return Ok(Response {
                        status,
                        headers,
                        body: Vec::new(),
                    });
                }
                None => return Err(invalid(format!("not a header: {line:?}"))),
            }
        }
    }

    /// The next answer to a request with a body of its own (not to HEAD).
    pub fn response(&mut self) -> io::Result<Response> {
        let mut head = self.head()?;
        let mut body = Vec::new();
        self.body(&head, |piece| {
            body.extend_from_slice(piece);
            true
        })?;
        head.body = body;
        Ok(head)
    }

    /// Hands the pieces of a body to `each` as they arrive, until it says false.
    pub fn body(&mut self, head: &Response, mut each: impl FnMut(&[u8]) -> bool) -> io::Result<()> {
        match framing(head) {
            Framing::None => Ok(()),
            Framing::Length(length) => self.pieces(length, &mut each).map(drop),
            Framing::Close => self.pieces(u64::MAX, &mut each).map(drop),
            Framing::Chunked => loop {
                let line = self.line()?;
                let length =
                    u64::from_str_radix(line.trim(), 16).map_err(|_| invalid(format!("not a chunk: {line:?}")))?;
                if length > 0 && !self.pieces(length, &mut each)? {
                    return Ok(());
                }
                self.line()?;
                if length == 0 {
                    return Ok(());
                }
            },
        }
    }

    /// False when `each` wanted no more.
    fn pieces(&mut self, mut left: u64, each: &mut impl FnMut(&[u8]) -> bool) -> io::Result<bool> {
        let until_close = left == u64::MAX;
        while left > 0 {
            let available = self.reader.fill_buf()?;
            if available.is_empty() {
                return if until_close {
                    Ok(true)
                } else {
                    Err(io::ErrorKind::UnexpectedEof.into())
                };
            }
            let length = available.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let more = each(&available[..length]);
            self.reader.consume(length);
            left -= length as u64;
            if !more {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.reader.read_line(&mut line)? == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the connection was closed",
            ));
        }
        Ok(line.trim_end().to_owned())
    }

    /// Whatever still comes until the other side closes.
    pub fn rest(&mut self) -> io::Result<Vec<u8>> {
        let mut rest = Vec::new();
        self.reader.read_to_end(&mut rest)?;
        Ok(rest)
    }
}

fn framing(head: &Response) -> Framing {
    if head.status < 200 || head.status == 204 || head.status == 304 {
        return Framing::None;
    }
    if head
        .header("transfer-encoding")
        .is_some_and(|value| value.eq_ignore_ascii_case("chunked"))
    {
        return Framing::Chunked;
    }
    match head.header("content-length").map(str::parse) {
        Some(Ok(length)) => Framing::Length(length),
        _ => Framing::Close,
    }
}

fn invalid(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// `GET path` for `host` over a connection of its own.
pub fn get(address: SocketAddr, host: &str, path: &str) -> io::Result<Response> {
    let mut connection = Connection::open(address)?;
    connection.request("GET", host, path, "Connection: close\r\n")?;
    connection.response()
}

/// Sends `bytes` as they are and reads one answer.
pub fn raw(address: SocketAddr, bytes: &[u8]) -> io::Result<Response> {
    let mut connection = Connection::open(address)?;
    // A server that refuses early may close before everything was sent: what it answered is what counts.
    let sent = connection.send(bytes);
    connection.response().or_else(|error| sent.and(Err(error)))
}

//! Decides whether a WebSocket lives: a client that has a word echoed, and knows a goodbye from a cut (RFC 6455).

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Longest wait for an echo.
const LIMIT: Duration = Duration::from_secs(10);
/// Longest head of an answer that is read.
const HEAD: usize = 8 << 10;
const TEXT: u8 = 0x81;
const CLOSE: u8 = 0x88;
/// Any will do: nothing between here and the app mistakes these words for requests.
const MASK: [u8; 4] = [7, 77, 177, 27];
const WORD: &[u8] = b"still here";

/// What came of a word that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    Echo,
    /// The other side says that it goes.
    Goodbye,
}

/// An open WebSocket.
pub struct WebSocket(TcpStream);

impl WebSocket {
    pub fn open(address: SocketAddr, host: &str) -> io::Result<Self> {
        let mut stream = TcpStream::connect_timeout(&address, LIMIT)?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.set_nodelay(true)?;
        let head = format!(
            "GET /ws HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(head.as_bytes())?;
        let mut answer = Vec::new();
        // By single bytes: what follows the head is the first frame.
        while !answer.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            answer.push(byte[0]);
            if answer.len() > HEAD {
                return Err(io::Error::other("the head of the answer has no end"));
            }
        }
        if !answer.starts_with(b"HTTP/1.1 101 ") {
            let first = answer.split(|byte| *byte == b'\r').next().unwrap_or_default();
            let first = String::from_utf8_lossy(first);
            return Err(io::Error::other(format!("the handshake was answered with {first:?}")));
        }
        Ok(Self(stream))
    }

    /// Sends a word, and waits for what comes.
    pub fn echo(&mut self) -> io::Result<Heard> {
        self.frame(TEXT, WORD)?;
        match self.read()? {
            (TEXT, word) if word == WORD => Ok(Heard::Echo),
            (CLOSE, reason) => {
                // Whoever has said goodbye may be gone already.
                let _ = self.frame(CLOSE, &reason);
                Ok(Heard::Goodbye)
            }
            (kind, word) => Err(io::Error::other(format!("{kind:#x} came back with {word:?}"))),
        }
    }

    /// Says goodbye, and waits for the other side's.
    pub fn close(mut self) -> io::Result<()> {
        self.frame(CLOSE, &1000_u16.to_be_bytes())?;
        match self.read()? {
            (CLOSE, _) => Ok(()),
            (kind, _) => Err(io::Error::other(format!("{kind:#x} answered the goodbye"))),
        }
    }

    fn frame(&mut self, kind: u8, payload: &[u8]) -> io::Result<()> {
        // No payload here is longer than that of a goodbye, 125 bytes.
        let payload = &payload[..payload.len().min(125)];
        let mut bytes = vec![kind, 128 | payload.len() as u8];
        bytes.extend(MASK);
        bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        self.0.write_all(&bytes)
    }

    fn read(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let mut head = [0; 2];
        self.0.read_exact(&mut head)?;
        let [kind, length @ 0..=125] = head else {
            return Err(io::Error::other(format!("a frame begins with {head:?}")));
        };
        let mut payload = vec![0; usize::from(length)];
        self.0.read_exact(&mut payload)?;
        Ok((kind, payload))
    }
}
